"""Sheets of pictures: a grid of prompts by checkpoints, and pictures over captions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_Font = ImageFont.ImageFont | ImageFont.FreeTypeFont

MARGIN = 10
INK, PAPER, FAINT = (30, 30, 34), (255, 255, 255), (120, 120, 128)
_GOOD, _BAD = (38, 140, 70), (200, 50, 45)


def grid(
    columns: Sequence[str],
    prompts: Sequence[str],
    images: Sequence[Sequence[np.ndarray]],
    correct: Sequence[Sequence[bool | None]],
    side: int = 128,
) -> Image.Image:
    """Draw a row of ``images[r]`` (uint8 RGB [H, W, 3], one per column) under each ``prompts[r]``.

    A coloured frame says whether the image is right; none where that is not known.
    """
    font, small = ImageFont.load_default(16), ImageFont.load_default(14)
    head, line, step = 30, 22, side + MARGIN
    width = MARGIN + len(columns) * step
    canvas = Image.new("RGB", (width, head + len(prompts) * (line + step) + MARGIN), PAPER)
    draw = ImageDraw.Draw(canvas)
    for c, name in enumerate(columns):
        draw.text((MARGIN + c * step, 8), cut(name, font, side), INK, font)
    for r, prompt in enumerate(prompts):
        top = head + r * (line + step)
        draw.text((MARGIN, top), cut(prompt, small, width - 2 * MARGIN), FAINT, small)
        top += line
        for c, (image, right) in enumerate(zip(images[r], correct[r], strict=True)):
            left = MARGIN + c * step
            canvas.paste(thumbnail(image, side), (left, top))
            if right is not None:
                frame = (left - 3, top - 3, left + side + 2, top + side + 2)
                draw.rectangle(frame, outline=_GOOD if right else _BAD, width=3)
    return canvas


def thumbnail(image: np.ndarray, side: int) -> Image.Image:
    """Return an image (uint8 RGB [H, W, 3]) as a square of that many pixels."""
    return Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST)


def cut(text: str, font: _Font, width: int) -> str:
    """Return the text, with an ellipsis for its end where it is wider than ``width`` pixels."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def two_lines(text: str, font: _Font, width: int) -> list[str]:
    """Return the text on at most two lines of ``width`` pixels, each cut to fit."""
    words = text.split()
    count = len(words)
    while count > 1 and font.getlength(" ".join(words[:count])) > width:
        count -= 1
    parts = [" ".join(words[:count]), " ".join(words[count:])]
    return [cut(part, font, width) for part in parts if part]


def sheet(
    images: Sequence[np.ndarray], captions: Sequence[str], columns: int = 8, side: int = 128
) -> Image.Image:
    """Draw images (uint8 RGB [H, W, 3]) in rows, each over its caption on two lines."""
    font, line = ImageFont.load_default(11), 14
    width, height, rows = side + MARGIN, side + 2 * line + MARGIN, -(-len(images) // columns)
    canvas = Image.new("RGB", (columns * width + MARGIN, rows * height + MARGIN), PAPER)
    draw = ImageDraw.Draw(canvas)
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left, top = MARGIN + i % columns * width, MARGIN + i // columns * height
        canvas.paste(thumbnail(image, side), (left, top))
        for n, text in enumerate(two_lines(caption, font, side)):
            draw.text((left, top + side + n * line), text, INK, font)
    return canvas

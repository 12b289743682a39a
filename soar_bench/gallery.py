"""A picture of pictures: the same prompts and noise, one column a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_MARGIN = 10
_INK, _PAPER, _FAINT = (30, 30, 34), (255, 255, 255), (120, 120, 128)
_GOOD, _BAD = (38, 140, 70), (200, 50, 45)


def grid(
    columns: Sequence[str],
    prompts: Sequence[str],
    images: Sequence[Sequence[np.ndarray]],
    correct: Sequence[Sequence[bool | None]],
    side: int = 128,
) -> Image.Image:
    """Row r shows ``images[r]`` (uint8 RGB [H, W, 3], one a column) under ``prompts[r]``.

    A coloured frame says whether the image is right; none where that is not known.
    """
    font, small = ImageFont.load_default(16), ImageFont.load_default(14)
    head, line = 30, 22
    width = _MARGIN + len(columns) * (side + _MARGIN)
    height = head + len(prompts) * (side + line + _MARGIN) + _MARGIN
    canvas = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for c, name in enumerate(columns):
        left = _MARGIN + c * (side + _MARGIN)
        draw.text((left, 8), _cut(name, font, side), _INK, font)
    for r, prompt in enumerate(prompts):
        top = head + r * (side + line + _MARGIN)
        draw.text((_MARGIN, top), _cut(prompt, small, width - 2 * _MARGIN), _FAINT, small)
        for c, (image, right) in enumerate(zip(images[r], correct[r], strict=True)):
            left = _MARGIN + c * (side + _MARGIN)
            shown = Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST)
            canvas.paste(shown, (left, top + line))
            if right is not None:
                frame = (left - 3, top + line - 3, left + side + 2, top + line + side + 2)
                draw.rectangle(frame, outline=_GOOD if right else _BAD, width=3)
    return canvas


def _cut(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> str:
    """The text, shortened with an ellipsis where it is wider than ``width`` pixels."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def sheet(
    images: Sequence[np.ndarray], captions: Sequence[str], columns: int = 8, side: int = 128
) -> Image.Image:
    """Images (uint8 RGB [H, W, 3]) in rows, each over its caption on two lines."""
    font, line = ImageFont.load_default(11), 14
    cell = (side + _MARGIN, side + 2 * line + _MARGIN)
    rows = -(-len(images) // columns)
    canvas = Image.new("RGB", (columns * cell[0] + _MARGIN, rows * cell[1] + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left, top = _MARGIN + i % columns * cell[0], _MARGIN + i // columns * cell[1]
        shown = Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST)
        canvas.paste(shown, (left, top))
        words = caption.split()
        first = len(words)
        while font.getlength(" ".join(words[:first])) > side and first > 1:
            first -= 1
        for n, text in enumerate((" ".join(words[:first]), " ".join(words[first:]))):
            draw.text((left, top + side + n * line), _cut(text, font, side), _INK, font)
    return canvas

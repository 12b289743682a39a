"""Sheets of pictures: a grid of prompts by checkpoints, a strip, and pictures over captions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_Font = ImageFont.ImageFont | ImageFont.FreeTypeFont

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


def _cut(text: str, font: _Font, width: int) -> str:
    """The text, shortened with an ellipsis where it is wider than ``width`` pixels."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def strip(
    rows: Sequence[str],
    prompts: Sequence[str],
    images: Sequence[Sequence[np.ndarray]],
    side: int = 128,
) -> Image.Image:
    """The grid on its side, for a page's width: row r shows ``images[r]``, one a prompt."""
    font, small = ImageFont.load_default(16), ImageFont.load_default(11)
    left, line = 64, 15
    width = left + len(prompts) * (side + _MARGIN)
    height = 3 * line + len(rows) * (side + _MARGIN) + _MARGIN
    canvas = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for c, prompt in enumerate(prompts):
        for n, text in enumerate(_wrap(prompt, small, side, 2)):
            draw.text((left + c * (side + _MARGIN), 8 + n * line), text, _FAINT, small)
    for r, name in enumerate(rows):
        top = 3 * line + r * (side + _MARGIN)
        draw.text((_MARGIN, top + side // 2 - 10), _cut(name, font, left - _MARGIN), _INK, font)
        for c, image in enumerate(images[r]):
            shown = Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST)
            canvas.paste(shown, (left + c * (side + _MARGIN), top))
    return canvas


def _wrap(text: str, font: _Font, width: int, lines: int) -> list[str]:
    """The text on at most ``lines`` lines of ``width`` pixels, the last one shortened to fit."""
    words, wrapped = text.split(), list[str]()
    while words and len(wrapped) < lines - 1:
        count = len(words)
        while count > 1 and font.getlength(" ".join(words[:count])) > width:
            count -= 1
        wrapped.append(" ".join(words[:count]))
        words = words[count:]
    return [_cut(part, font, width) for part in [*wrapped, " ".join(words)] if part]


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
        for n, text in enumerate(_wrap(caption, font, side, 2)):
            draw.text((left, top + side + n * line), text, _INK, font)
    return canvas

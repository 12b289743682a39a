"""Draws docs/images/overview.png: the committed board and the same prompts and noise side by side.

    python benchmarks/overview_picture.py

Reads the records in results/ and the images that `benchmarks/shapes_board.sh` left in the cache.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from soar_bench.boards import compare
from soar_bench.boards.words import format_difference, format_value
from soar_bench.cache.images import ImageStore
from soar_bench.checkpoints import resolve
from soar_bench.core.gallery import FAINT, INK, MARGIN, PAPER, cut, thumbnail, two_lines
from soar_bench.records import read_runs
from soar_bench.suites import get_suite
from soar_bench.suites.protocols import SHAPES_PROTOCOL
from soar_bench.suites.types import PlannedSample

CACHE, OUTPUT = Path("outputs/cache"), Path("docs/images/overview.png")
SHOWN = {"shapes": "base", "outputs/train/sft-seed0": "SFT", "outputs/train/soar-seed0": "SOAR"}
#: prompts of a suite by task, the first of each task that is held out, or the first
TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr", "sign")


def board() -> list[tuple[str, ...]]:
    """name, GenEval, difference, alignment, OCR: from the records."""
    runs = [r for r in read_runs(Path("results")) if r.record.protocol.name == "shapes"]
    rows = {
        (row.metric, row.entrant): row
        for suite in ("shapes-signs", "shapes")  # the alignment of the latter
        for row in compare([r for r in runs if r.record.suite.name == suite]).rows
    }
    return [
        (
            name,
            str(row.value.seeds),
            format_value(row.value),
            format_difference(row.difference, row.interval),
            format_value(rows["shapes_clipscore", name].value),
            format_value(rows["ocr_accuracy", name].value),
        )
        for (metric, name), row in rows.items()
        if metric == "shapes_geneval"
    ]


HEADER = ("checkpoint", "seeds", "GenEval rules", "against the base [95%]", "alignment", "OCR")
STARTS = (0.0, 0.19, 0.25, 0.43, 0.68, 0.85)


def draw_board(rows: list[tuple[str, ...]], width: int) -> Image.Image:
    font, line = ImageFont.load_default(17), 32
    canvas = Image.new("RGB", (width, line * (len(rows) + 1) + 24), "white")
    draw = ImageDraw.Draw(canvas)
    for i, row in enumerate([HEADER, *rows]):
        top = 12 + i * line
        ink = (110, 110, 118) if i == 0 else (30, 30, 34)
        for start, text in zip(STARTS, row, strict=True):
            draw.text((16 + start * (width - 32), top), text, ink, font)
        draw.line((16, top + line - 6, width - 16, top + line - 6), (225, 225, 230))
    return canvas


def pictures() -> Image.Image:
    names = {name: resolve(name) for name in SHOWN}
    prompts, images = [], [[] for _ in SHOWN]
    for suite in (get_suite("shapes"), get_suite("shapes-signs")):
        for task in TASKS:
            of_task = [p for p in suite.prompts if p.task == task]
            for prompt in ([p for p in of_task if p.metadata["held_out"]] or of_task)[:1]:
                prompts.append(prompt.text)
                for row, checkpoint in zip(images, names.values(), strict=True):
                    settings = SHAPES_PROTOCOL.settings()
                    store = ImageStore.of(CACHE, checkpoint.digest, settings, suite.seed)
                    image = store.read(PlannedSample(prompt, 0))
                    assert image is not None, f"no image of {prompt.id} in {store.folder}"
                    row.append(image)
    return strip(list(SHOWN.values()), prompts, images)


def strip(
    rows: list[str], prompts: list[str], images: list[list[np.ndarray]], side: int = 128
) -> Image.Image:
    """Row r shows ``images[r]`` (uint8 RGB [H, W, 3]), one per prompt, under the prompts."""
    font, small = ImageFont.load_default(16), ImageFont.load_default(11)
    left, line, step = 64, 15, side + MARGIN
    size = (left + len(prompts) * step, 3 * line + len(rows) * step + MARGIN)
    canvas = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(canvas)
    for c, prompt in enumerate(prompts):
        for n, text in enumerate(two_lines(prompt, small, side)):
            draw.text((left + c * step, 8 + n * line), text, FAINT, small)
    for r, name in enumerate(rows):
        top = 3 * line + r * step
        draw.text((MARGIN, top + side // 2 - 10), cut(name, font, left - MARGIN), INK, font)
        for c, image in enumerate(images[r]):
            canvas.paste(thumbnail(image, side), (left + c * step, top))
    return canvas


def main() -> None:
    below = pictures()
    above = draw_board(board(), below.width)
    whole = np.concatenate([np.asarray(above), np.asarray(below)])
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(whole).save(OUTPUT, optimize=True)


if __name__ == "__main__":
    main()

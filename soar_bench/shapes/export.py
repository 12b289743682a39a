"""The embedded world as files: a training folder, or a sheet of pictures."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from soar_bench.core.errors import SoarBenchError
from soar_bench.core.files import replace_atomically, replace_folder_atomically, write_text
from soar_bench.shapes.render import render
from soar_bench.shapes.world import Distribution, example
from training.data import METADATA_FILE


def write_folder(folder: Path, distribution: Distribution, seed: int, count: int) -> None:
    """Write images and ``metadata.jsonl`` (file_name, text, and what the picture truly shows)."""
    if folder.exists():
        raise SoarBenchError(f"{folder} exists already: name a new folder")
    with replace_folder_atomically(folder) as aside:
        lines = []
        for index in range(count):
            drawn = example(distribution, seed, index)
            name = f"{index:06d}.png"
            Image.fromarray(render(drawn.scene)).save(aside / name)
            record = {"file_name": name, "text": drawn.caption, "truth": drawn.truth}
            lines.append(json.dumps(record) + "\n")
        write_text(aside / METADATA_FILE, "".join(lines))


def write_sheet(file: Path, distribution: Distribution, seed: int, count: int) -> None:
    """Write all examples on one picture, eight per row, with their captions."""
    from soar_bench.core.gallery import sheet

    drawn = [example(distribution, seed, index) for index in range(count)]
    picture = sheet([render(d.scene) for d in drawn], [d.caption for d in drawn])
    with replace_atomically(file) as aside:
        picture.save(aside, format="PNG")

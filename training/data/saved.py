"""Datasets saved by the Hugging Face datasets library with ``save_to_disk``.

Such a folder holds Arrow streams and ``state.json``, which names them; pyarrow reads both, mapped
into memory, so the library itself is not needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soar_bench.core.files import read_json
from training.data.records import Fault, FileSlice, Record, inside
from training.types import Images, TrainingError

STATE_FILE = "state.json"
SPLITS_FILE = "dataset_dict.json"


@dataclass(frozen=True, slots=True)
class ArrowCell:
    """Place of an image in a row of an Arrow table."""

    column: Any
    row: int

    def read(self) -> bytes:
        content: bytes = self.column[self.row]["bytes"].as_py()
        return content


def is_saved(folder: Path) -> bool:
    return (folder / STATE_FILE).is_file() or (folder / SPLITS_FILE).is_file()


def read_saved(folder: Path, images: Images) -> Iterator[Record | Fault]:
    """Yield records in the order of rows."""
    if (folder / SPLITS_FILE).is_file():
        splits = read_json(folder / SPLITS_FILE).get("splits")
        names = splits if isinstance(splits, list) else []
        if images.split not in names:
            raise TrainingError(
                f"{folder} has no split {images.split!r}: set images.split to one of "
                f"{', '.join(map(str, names))}"
            )
        folder = folder / images.split
    table = _table(folder)
    image = images.image or "image"
    usual = (c for c in ("text", "caption") if c in table.schema.names)
    caption = images.caption or next(usual, "text")
    for name, setting in ((image, "images.image"), (caption, "images.caption")):
        if name not in table.schema.names:
            raise TrainingError(
                f"{folder} has no column {name!r}: set {setting} to one of "
                f"{', '.join(table.schema.names)}"
            )
    yield from _rows(folder, table[image], table[caption])


def _rows(folder: Path, images: Any, captions: Any) -> Iterator[Record | Fault]:
    import pyarrow as pa

    kind = images.type
    if not pa.types.is_struct(kind) or {"bytes", "path"} - {f.name for f in kind}:
        raise TrainingError(f"{folder}: the column of images holds {kind}, not images")
    if not (pa.types.is_string(captions.type) or pa.types.is_large_string(captions.type)):
        raise TrainingError(f"{folder}: the column of captions holds {captions.type}, not texts")
    for row in range(len(images)):
        where = f"{folder}, row {row}"
        caption, cell = captions[row].as_py(), images[row]
        if caption is None:
            yield Fault(where, "has no caption")
        elif not cell.is_valid:
            yield Fault(where, "has no image")
        elif cell["bytes"].is_valid:
            yield Record(where, "an image", ArrowCell(images, row), caption)
        elif not cell["path"].is_valid:
            yield Fault(where, "has no image")
        else:
            name = cell["path"].as_py()
            path = inside(folder, name, where)
            yield path if isinstance(path, Fault) else Record(where, name, FileSlice(path), caption)


def _table(folder: Path) -> Any:
    import pyarrow as pa

    if not (folder / STATE_FILE).is_file():
        raise TrainingError(f"{folder / STATE_FILE} is missing: the dataset was not saved whole")
    state = read_json(folder / STATE_FILE)
    if state.get("_indices_data_files"):
        raise TrainingError(
            f"{folder} was saved by an old datasets library: load it with that library, call "
            "flatten_indices() and save it again"
        )
    tables = []
    for entry in state.get("_data_files") or []:
        where = str(folder / STATE_FILE)
        name = entry.get("filename") if isinstance(entry, dict) else None
        path = inside(folder, name, where) if isinstance(name, str) else Fault(where, "is damaged")
        if isinstance(path, Fault):
            raise TrainingError(str(path))
        try:
            tables.append(pa.ipc.open_stream(pa.memory_map(str(path))).read_all())
        except (pa.ArrowException, OSError) as error:
            raise TrainingError(f"{path} is damaged: {error}") from None
    if not tables:
        raise TrainingError(f"{folder / STATE_FILE} names no data files")
    try:
        table = pa.concat_tables(tables)
        table.validate(full=True)  # offsets of a damaged file may lead out of memory
    except pa.ArrowException as error:
        words = " ".join(str(error).split())[:160]
        raise TrainingError(f"{folder} is damaged: {words}") from None
    return table

"""The forms training data comes in, and how the form of a path is told."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from training.cache import Cache
from training.data.records import Digest, Fault, FileSlice, Listing, Record, inside
from training.data.remembered import Remembered
from training.data.saved import is_saved, read_saved
from training.data.tars import expand, read_tars
from training.types import DEFAULT_IMAGES, Images, TrainingError

METADATA_FILE = "metadata.jsonl"
METADATA_TABLE = "metadata.csv"
#: Endings of files that are taken for images.
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_TAR = ".tar"

Found = Iterator[Record | Fault]


def open_listing(name: str, images: Images = DEFAULT_IMAGES, cache: Path | None = None) -> Listing:
    """The data set of that path: a folder, a ``.jsonl`` file, a ``.tar`` or ``{000..009}.tar``.

    With a ``cache``, images whose files have not changed are not read again for their digests.
    Raises TrainingError, in one sentence that names file and line, if it is none or is broken.
    """
    if cache is None:
        return _open(name, images, None)
    remembered = Remembered(Cache(cache), name)
    found = _open(name, images, remembered.digest)
    remembered.keep()
    return found


def _open(name: str, images: Images, digest: Digest | None) -> Listing:
    path = Path(name)
    if name.endswith(_TAR):
        return Listing(name, read_tars(expand(name), images), images.on_broken, digest)
    if path.is_dir():
        return ImageFolder(path, images, digest)
    if path.is_file() and path.suffix in (".jsonl", ".csv"):
        read = _csv_rows if path.suffix == ".csv" else _json_rows
        found = _named(path, read, _image_folder(path, images), images)
        return Listing(name, found, images.on_broken, digest)
    if path.is_file():
        raise TrainingError(f"{path} is not training data: give a folder, a .jsonl, .csv or .tar")
    raise TrainingError(f"there is no training data {name!r}")


class ImageFolder(Listing):
    """A folder of training data.

    In this order: a dataset that the datasets library saved; ``metadata.jsonl`` or ``metadata.csv``
    with ``file_name`` and ``text``, as the library's ``imagefolder`` has them; tar files; images
    with a caption in ``NAME.txt`` beside ``NAME.png``.
    """

    def __init__(
        self, folder: Path, images: Images = DEFAULT_IMAGES, digest: Digest | None = None
    ) -> None:
        self.folder = folder
        lines, table = folder / METADATA_FILE, folder / METADATA_TABLE
        name = str(folder)
        if is_saved(folder):
            found = read_saved(folder, images)
        elif lines.is_file():
            name, found = str(lines), _named(lines, _json_rows, folder, images)
        elif table.is_file():
            name, found = str(table), _named(table, _csv_rows, folder, images)
        elif tars := sorted(folder.glob(f"*{_TAR}")):
            found = read_tars(tars, images)
        elif any(folder.rglob("*.txt")):
            found = _beside(folder)
        else:
            raise TrainingError(
                f"{folder} is not training data: it has no {METADATA_FILE} "
                f'(one {{"file_name": ..., "text": ...}} a line), no {METADATA_TABLE}, no .tar, '
                "and no NAME.txt beside NAME.png"
            )
        super().__init__(name, found, images.on_broken, digest)


def _image_folder(file: Path, images: Images) -> Path:
    folder = Path(images.folder) if images.folder else file.parent
    if not folder.is_dir():
        raise TrainingError(f"there is no image folder {folder} (images.folder)")
    return folder


def _named(
    file: Path, rows: Callable[[Path], Iterator[tuple[str, Any]]], root: Path, images: Images
) -> Found:
    """Records of a file whose lines name images in the folder ``root``."""
    for where, row in rows(file):
        if isinstance(row, Fault):
            yield row
            continue
        released = "md5" in row and not images.image
        image = images.image or ("md5" if released else "file_name")
        caption = images.caption or ("caption_en" if released else "text")
        if not all(isinstance(row.get(key), str) for key in (image, caption)) or not row[image]:
            yield Fault(where, f'needs the texts "{image}" and "{caption}"')
            continue
        if fault := _released_size(row, where) if released else None:
            yield fault
            continue
        name = f"{row[image]}.jpg" if released else row[image]
        path = inside(root, name, where)
        if isinstance(path, Fault):
            yield path
        else:
            yield Record(where, name, FileSlice(path), row[caption])


def _released_size(row: dict[str, Any], where: str) -> Fault | None:
    """The released lines carry the width and height of the image's bucket; training cuts to its
    own, but a line where they are no lengths is a broken line.
    """
    for key in ("bw", "bh"):
        value = row.get(key, 1)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            return Fault(where, f'has {value!r} for "{key}", which must be a length in pixels')
    return None


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TrainingError(f"{file} is not UTF-8 text: {error}") from None


def _json_rows(file: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(_text(file).split("\n"), start=1):
        where = f"{file}, line {number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            yield where, Fault(where, f"is not JSON: {error}")
            continue
        yield (
            where,
            row
            if isinstance(row, dict)
            else Fault(where, 'needs the texts "file_name" and "text" (it holds no {...})'),
        )


def _csv_rows(file: Path) -> Iterator[tuple[str, Any]]:
    reader = csv.DictReader(_text(file).splitlines(keepends=True), strict=True)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise TrainingError(f"{file}, line {reader.line_num} is not CSV: {error}") from None
        if row is None:
            return
        where = f"{file}, line {reader.line_num}"
        if None in row:
            yield where, Fault(where, "has more cells than the first line names")
        else:
            yield where, row


def _beside(folder: Path) -> Found:
    """Images with a caption in a file of the same name."""
    files = [f for f in sorted(folder.rglob("*")) if f.is_file() or f.is_symlink()]
    images = [f for f in files if f.suffix.lower() in ENDINGS]
    pictured = {f.with_suffix("") for f in images}
    for file in files:
        if file.suffix.lower() == ".txt" and file.with_suffix("") not in pictured:
            yield Fault(str(file), "has no image beside it")
    for image in images:
        where, caption = str(image), image.with_suffix(".txt")
        paths = [inside(folder, str(f.relative_to(folder)), where) for f in (image, caption)]
        fault = next((p for p in paths if isinstance(p, Fault)), None)
        if fault is not None:
            yield fault
            continue
        try:
            text = caption.read_text("utf-8-sig")
        except UnicodeDecodeError as error:
            yield Fault(str(caption), f"is not UTF-8 text: {error}")
            continue
        yield Record(
            where, image.name, FileSlice(image.resolve()), re.sub(r"\s+", " ", text).strip()
        )

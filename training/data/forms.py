"""The forms of training data, and which of them a path is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from soar_bench.core.errors import SoarBenchError
from soar_bench.core.rows import scan_rows
from soar_bench.core.text import is_unicode
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
_PARQUET = (
    "holds parquet, which is not read: open it with the datasets library (load_dataset), call "
    "save_to_disk, and give that folder"
)

Records = Iterator[Record | Fault]


def open_listing(name: str, images: Images = DEFAULT_IMAGES, cache: Path | None = None) -> Listing:
    """Return the data set at a path: a folder, a ``.jsonl`` file, a ``.tar`` or ``{000..009}.tar``.

    With a ``cache``, images whose files have not changed are not read again for their digests.
    Raises TrainingError, in one sentence that names file and line, if it is none or is broken.
    """
    remembered = Remembered(Cache(cache), name) if cache is not None else None
    try:
        listing = _open(name, images, remembered.digest if remembered else None)
    except SoarBenchError as error:
        raise TrainingError(str(error)) from None
    if remembered:
        remembered.keep()
    return listing


def _open(name: str, images: Images, digest: Digest | None) -> Listing:
    path = Path(name)
    if name.endswith(_TAR):
        return Listing(name, read_tars(expand(name), images), images.on_broken, digest)
    if path.is_dir():
        return ImageFolder(path, images, digest)
    if path.is_file() and path.suffix in (".jsonl", ".csv"):
        rows = _named(path, _image_folder(path, images), images)
        return Listing(name, rows, images.on_broken, digest)
    if path.suffix == ".parquet" and path.is_file():
        raise TrainingError(f"{path} {_PARQUET}")
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
            records = read_saved(folder, images)
        elif lines.is_file():
            name, records = str(lines), _named(lines, folder, images)
        elif table.is_file():
            name, records = str(table), _named(table, folder, images)
        elif tars := [f for f in sorted(folder.glob(f"*{_TAR}")) if f.name[0] != "."]:
            records = read_tars(tars, images)
        elif any(f.name[0] != "." for f in folder.rglob("*.txt")):
            records = _beside(folder)
        elif inner := [*folder.glob(f"*/{METADATA_FILE}"), *folder.glob(f"*/{METADATA_TABLE}")]:
            raise TrainingError(
                f"{folder} has no {METADATA_FILE} of its own, but {inner[0].relative_to(folder)}: "
                f"give {inner[0].parent}"
            )
        elif any(folder.rglob("*.parquet")):
            raise TrainingError(f"{folder} {_PARQUET}")
        else:
            raise TrainingError(
                f"{folder} is not training data: it has no {METADATA_FILE} "
                f'(one {{"file_name": ..., "text": ...}} a line), no {METADATA_TABLE}, no .tar, '
                "and no NAME.txt beside NAME.png"
            )
        super().__init__(name, records, images.on_broken, digest)


def _image_folder(file: Path, images: Images) -> Path:
    folder = Path(images.folder) if images.folder else file.parent
    if not folder.is_dir():
        raise TrainingError(f"there is no image folder {folder} (images.folder)")
    return folder


def _named(file: Path, root: Path, images: Images) -> Records:
    """Yield the records of a file whose rows name images in the folder ``root``."""
    for row in scan_rows(file):
        where, values = row.where, row.values
        if row.fault and not values:
            yield Fault(where, row.fault)
            continue
        released = "md5" in values and not images.image
        image = images.image or ("md5" if released else "file_name")
        caption = images.caption or ("caption_en" if released else "text")
        texts = isinstance(values.get(image), str) and is_unicode(values.get(caption))
        if not texts or not values[image]:
            yield Fault(where, f'needs the texts "{image}" and "{caption}"')
            continue
        size = _released_size(values, where) if released else None
        if isinstance(size, Fault):
            yield size
            continue
        name = f"{values[image]}.jpg" if released else values[image]
        path = inside(root, name, where)
        if isinstance(path, Fault):
            yield path
        else:
            yield Record(where, name, FileSlice(path), values[caption], size)


def _released_size(row: dict[str, Any], where: str) -> tuple[int, int] | Fault | None:
    """Return the width and height of a released line's bucket, None unless it has both.

    A line where one is no length is broken, whether training cuts images to them or not.
    """
    for key in ("bw", "bh"):
        value = row.get(key, 1)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            return Fault(where, f'has {value!r} for "{key}", which must be a length in pixels')
    return (row["bw"], row["bh"]) if "bw" in row and "bh" in row else None


def _beside(folder: Path) -> Records:
    """Yield images with a caption in a text file of the same name; hidden files are passed over."""
    files = [
        f
        for f in sorted(folder.rglob("*"))
        if not any(part.startswith(".") for part in f.relative_to(folder).parts)
        and (f.is_file() or f.is_symlink())
    ]
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
        except OSError as error:
            yield Fault(str(caption), f"cannot be read: {error.strerror}")
            continue
        yield Record(
            where, image.name, FileSlice(image.resolve()), re.sub(r"\s+", " ", text).strip()
        )

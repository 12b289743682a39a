"""Find the prompt of each image in a folder of images from elsewhere.

Three layouts are read: GenEval's (one folder per prompt), a list of files and prompts (CSV, TSV or
JSONL), and ``NAME.txt`` beside ``NAME.png``. docs/score-images.md shows each.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from soar_bench.core.digests import digest_of
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.images import READABLE, images_in
from soar_bench.core.rows import cell_value, is_table, read_rows, read_text, scan_rows
from soar_bench.core.text import first_few
from soar_bench.suites.types import PlannedSample, Prompt, named_texts

#: Names of lists of prompts that are read without being named.
LISTS = (
    "metadata.jsonl", "metadata.csv", "metadata.tsv", "prompts.jsonl", "prompts.csv", "prompts.tsv"
)  # fmt: skip
#: Names of a column: the first that a list has counts, the others are metadata.
_FILE_COLUMNS = ("file", "file_name", "image", "path")
_PROMPT_COLUMNS = ("prompt", "text")

#: Indices are below this, as int64 holds them.
_MAX_INDEX = 10**18
_GENEVAL_RECORD = "metadata.jsonl"
_GENEVAL_SAMPLES = "samples"
_GENEVAL_OVERVIEW = "grid.png"
_few = partial(first_few, most=5)


@dataclass(frozen=True)
class FolderImages:
    """Images of a folder with their prompts, in an order that does not depend on the layout."""

    folder: Path
    #: for people, for example ``metadata.jsonl``
    layout: str
    prompts: tuple[Prompt, ...]
    #: all first images of the prompts before all second ones
    samples: tuple[PlannedSample, ...]
    #: the image of each sample, relative to ``folder``
    files: tuple[str, ...]

    def digest(self) -> str:
        """Return the SHA-256 of the prompts, their metadata and the indices of their images."""
        indices: dict[str, list[int]] = {}
        for sample in self.samples:
            indices.setdefault(sample.prompt.id, []).append(sample.index)
        return digest_of([[p.id, p.text, dict(p.metadata), indices[p.id]] for p in self.prompts])


@dataclass(frozen=True)
class _Row:
    """One image of a layout."""

    #: line or folder of the layout, for errors
    where: str
    #: relative to the folder
    file: str
    text: str
    metadata: Mapping[str, Any]
    #: None if the layout has no ids: then equal texts are one prompt
    id: str | None = None
    #: None if the layout has no indices: then images are counted in the order of rows
    index: int | None = None


def open_folder(folder: Path, prompts: Path | None = None) -> FolderImages:
    """Return the images of a folder with their prompts; their pixels are not read.

    ``prompts`` is a list of files and prompts (CSV, TSV or JSONL) at any place; without it one in
    the folder is used, or else GenEval's layout or texts beside the images. SoarBenchError if the
    folder holds no images, if an image has no prompt or a prompt no image, or if two rows
    contradict each other.
    """
    if not folder.is_dir():
        raise SoarBenchError(f"there is no folder of images at {folder}")
    if prompts is not None and not prompts.is_file():
        raise SoarBenchError(f"there is no list of prompts at {prompts}")
    images = images_in(folder)
    if not images:
        raise SoarBenchError(f"{folder} holds no images ({READABLE})")
    listed = [prompts] if prompts else [folder / n for n in LISTS if (folder / n).is_file()]
    if len(listed) > 1:
        raise SoarBenchError(
            f"{folder} holds more than one list of prompts ({', '.join(f.name for f in listed)}): "
            "choose one with --prompts"
        )
    if listed:
        layout = listed[0].name
        rows = list(_listed(listed[0] if prompts else _own(folder, listed[0])))
    elif any(
        (record.parent / _GENEVAL_SAMPLES).is_dir()
        for record in folder.glob(f"*/{_GENEVAL_RECORD}")
    ):
        images = [i for i in images if Path(i).name != _GENEVAL_OVERVIEW]
        layout, rows = "GenEval's layout", list(_geneval(folder, images))
    elif any((folder / image).with_suffix(".txt").is_file() for image in images):
        layout, rows = "texts beside images", list(_texts(folder, images))
    else:
        raise SoarBenchError(
            f"{folder} holds {len(images)} images and nothing that says their prompts: name a CSV, "
            f"TSV or JSONL with the columns file and prompt (--prompts FILE, or {LISTS[0]} in the "
            f"folder), or use GenEval's layout (00000/{_GENEVAL_RECORD} and "
            f"00000/{_GENEVAL_SAMPLES}/0000.png), or put NAME.txt beside NAME.png"
        )
    _check_files(folder, rows, images)
    return _assemble(folder, layout, rows)


def _own(folder: Path, file: Path) -> Path:
    """Return a file of the folder. SoarBenchError if a link leads out of the folder."""
    if file.resolve().is_relative_to(folder.resolve()):
        return file
    raise SoarBenchError(f"{file} is a link out of {folder}: links are not followed, copy it there")


# Layouts


def _listed(file: Path) -> Iterator[_Row]:
    """Yield the rows of a list of files and prompts.

    Empty cells of a table are absent, and one that holds a JSON object or list is read as that.
    """
    if not is_table(file) and file.suffix.lower() not in (".jsonl", ".ndjson"):
        raise SoarBenchError(
            f"{file} is no list of prompts that is read: give .csv, .tsv or .jsonl"
        )
    columns: list[str] = []
    for row in read_rows(file):
        where, record = row.where, row.values
        if is_table(file):
            record = {name: cell_value(cell) for name, cell in record.items() if cell}
        if not columns:
            columns = [_column(record, names, where) for names in (_FILE_COLUMNS, _PROMPT_COLUMNS)]
        name, text = (_pop_text(record, column, where) for column in columns)
        yield _Row(where, name, text, record, *_pop_identity(record, where))


def _column(record: Mapping[str, Any], names: Sequence[str], where: str) -> str:
    for name in names:
        if name in record:
            return name
    raise SoarBenchError(
        f"{where} has no {names[0]} (also read: {', '.join(names[1:])}); it has "
        f"{', '.join(record) or 'nothing'}"
    )


def _pop_text(record: dict[str, Any], column: str, where: str) -> str:
    text = record.pop(column, None)
    if not isinstance(text, str) or not text.strip():
        raise SoarBenchError(f"{where} has no text in {column}")
    return text


def _pop_identity(record: dict[str, Any], where: str) -> tuple[str | None, int | None]:
    """Take ``id`` and ``index`` out of a record."""
    id, index = record.pop("id", None), record.pop("index", None)
    if id is not None and (isinstance(id, bool) or not isinstance(id, str | int)):
        raise SoarBenchError(f"{where}: id must be a text or a whole number, not {id!r}")
    if isinstance(index, str) and _is_number(index):
        index = int(index)
    whole = isinstance(index, int) and not isinstance(index, bool)
    if index is not None and not (whole and 0 <= index < _MAX_INDEX):
        raise SoarBenchError(f"{where}: index must be a whole number from 0, not {index!r:.40}")
    return (None if id is None else str(id)), index


def _geneval(folder: Path, images: Sequence[str]) -> Iterator[_Row]:
    """Yield the rows of GenEval's layout: one folder per prompt, with numbered images."""
    for record_file in sorted(folder.glob(f"*/{_GENEVAL_RECORD}")):
        where = str(_own(folder, record_file))
        lines = sum(1 for _ in scan_rows(record_file))
        if lines != 1:
            raise SoarBenchError(f"{where} must hold one line of JSON; it has {lines}")
        record = next(read_rows(record_file)).values
        text = _pop_text(record, "prompt", where)
        _check_geneval_record(record, where)
        id = record_file.parent.name
        place = f"{id}/{_GENEVAL_SAMPLES}/"
        samples = [image for image in images if image.startswith(place)]
        if not samples:
            raise SoarBenchError(f"{folder / place} holds no images: make them, or remove {id}")
        for image in samples:
            stem = Path(image).stem
            if Path(image).parent.as_posix() + "/" != place or not _is_number(stem):
                raise SoarBenchError(
                    f"{folder / image} is not named by its number (0000.png, 0001.png, …), as "
                    "GenEval's layout asks"
                )
            yield _Row(where, image, text, record, id, int(stem))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < len(str(_MAX_INDEX))


def _check_geneval_record(record: Mapping[str, Any], where: str) -> None:
    """Raise SoarBenchError unless there is a tag, and clauses with a class and a count."""

    def is_clause(clause: Any) -> bool:
        types = {"class": str, "count": int}
        return isinstance(clause, dict) and all(isinstance(clause.get(k), types[k]) for k in types)

    clauses = [record.get("include", []), record.get("exclude", [])]
    if not isinstance(record.get("tag"), str) or not all(
        isinstance(part, list) and all(map(is_clause, part)) for part in clauses
    ):
        raise SoarBenchError(
            f"{where} is no GenEval record: it needs a tag, and class and count in each clause of "
            "include and exclude"
        )


def _texts(folder: Path, images: Sequence[str]) -> Iterator[_Row]:
    """Yield the rows of texts beside images."""
    image_of: dict[Path, str] = {}
    for image in images:
        text_file = Path(image).with_suffix(".txt")
        if text_file in image_of:
            raise SoarBenchError(f"{image_of[text_file]} and {image} in {folder} share {text_file}")
        image_of[text_file] = image
    lacking = [image for text, image in image_of.items() if not (folder / text).is_file()]
    if lacking:
        raise SoarBenchError(
            f"{len(lacking)} images in {folder} have no .txt with their prompt: {_few(lacking)}"
        )
    texts = sorted(f.relative_to(folder) for f in folder.rglob("*.txt"))
    alone = [f.as_posix() for f in texts if f not in image_of and not f.name.startswith(".")]
    if alone:
        raise SoarBenchError(f"{len(alone)} texts in {folder} have no image: {_few(alone)}")
    for text_file, image in image_of.items():
        text = read_text(_own(folder, folder / text_file)).strip()
        if not text:
            raise SoarBenchError(f"{folder / text_file} is empty: it must hold the prompt")
        yield _Row(str(folder / text_file), image, text, {})


def listed_images(
    folder: Path,
    layout: str,
    files: Sequence[str],
    prompts: Sequence[str],
    metadata: Sequence[Mapping[str, Any]],
) -> FolderImages:
    """The same of images with a prompt and metadata each, in the order of a list."""
    rows = [
        _Row(f"image {number}", file, text, about)
        for number, (file, text, about) in enumerate(zip(files, prompts, metadata, strict=True))
    ]
    return _assemble(folder, layout, rows)


# Rows to samples


def _check_files(folder: Path, rows: Sequence[_Row], images: Sequence[str]) -> None:
    """Raise SoarBenchError unless rows and images of the folder belong together, one to one."""
    root = folder.resolve()
    missing: list[str] = []
    row_of: dict[Path, _Row] = {}
    for row in rows:
        path = Path(row.file)
        inside = not path.is_absolute() and ".." not in path.parts and "\0" not in row.file
        if inside and not os.path.isfile(folder / path):  # noqa: PTH113  False for too long a name
            missing.append(row.file)
            continue
        file = (root / path).resolve() if inside else root
        if not inside or not file.is_relative_to(root):
            raise SoarBenchError(
                f"{row.where} names {row.file!r}, which leaves {folder}: only images inside the "
                "folder are scored, so copy it there"
            )
        if file in row_of:
            raise SoarBenchError(
                f"{row.where} names {row.file!r}, which {row_of[file].where} has named already"
            )
        row_of[file] = row
    if missing:
        raise SoarBenchError(
            f"{len(missing)} of {len(rows)} rows have no image in {folder}: {_few(missing)}"
        )
    # the metadata may name pictures of their own: references, masks
    named = {Path(text) for row in rows for _, text in named_texts(dict(row.metadata))}
    stray = [
        image
        for image in images
        if Path(image) not in named and Path(os.path.realpath(root / image)) not in row_of
    ]
    if stray:
        raise SoarBenchError(
            f"{len(stray)} of {len(images)} images in {folder} have no prompt: {_few(stray)}"
        )


def _assemble(folder: Path, layout: str, rows: Sequence[_Row]) -> FolderImages:
    """Return the images of rows. SoarBenchError if two rows contradict each other."""
    prompts: dict[str, tuple[Prompt, _Row]] = {}
    samples: dict[tuple[int, str], tuple[PlannedSample, str]] = {}
    counts: Counter[str] = Counter()
    for word, values in (("id", [r.id for r in rows]), ("index", [r.index for r in rows])):
        if None in values and any(value is not None for value in values):
            raise SoarBenchError(f"{rows[values.index(None)].where} has no {word}, as others have")
    for row in rows:
        # A digest of the text, so that two folders' images of one text have one id.
        id = row.id if row.id is not None else digest_of(row.text)[:12]
        own = Prompt(id, row.text, dict(row.metadata), str(folder))
        prompt, first = prompts.setdefault(id, (own, row))
        if prompt.text != row.text:
            raise SoarBenchError(f"{first.where} and {row.where} have one id {id!r} and two texts")
        if different := _different(prompt.metadata, row.metadata):
            raise SoarBenchError(
                f"{first.where} and {row.where} are of one prompt but differ in {different}: "
                "remove what describes the image and not the prompt, or give each an id of its own"
            )
        index = counts[id] if row.index is None else row.index
        counts[id] += 1
        key = (index, id)
        if key in samples:
            raise SoarBenchError(
                f"{samples[key][1]} and {row.file} in {folder} are both image {index} of the "
                f"prompt {id}"
            )
        samples[key] = (PlannedSample(prompt, index), row.file)
    ordered = [samples[key] for key in sorted(samples)]
    return FolderImages(
        folder,
        layout,
        tuple(prompts[id][0] for id in sorted(prompts)),
        tuple(sample for sample, _ in ordered),
        tuple(file for _, file in ordered),
    )


def _different(left: Mapping[str, Any], right: Mapping[str, Any]) -> str:
    """Return the keys in which two records differ; empty if there are none."""
    keys = sorted(left.keys() | right.keys())
    return _few([k for k in keys if k not in left or k not in right or left[k] != right[k]])

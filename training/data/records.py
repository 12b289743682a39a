"""Captioned images by number, whatever form they lie in. Imports no torch.

A listing names every record of a data set with the file and line it came from. What is wrong with a
record is a fault; no fault is passed over: it is an error, or the record is dropped and counted.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from training.types import TrainingError

T = TypeVar("T")
R = TypeVar("R")

#: Items that wait for a thread at a time.
_BLOCK = 1024

#: What Pillow and its decoders raise at a file that is no image, or only part of one.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    Image.DecompressionBombError,
)


class Source(Protocol):
    """Captioned images by number; any object with these three will do.

    It may also have ``key(index)`` (a text that names the image's content), ``caption(index)`` and
    ``size(index)`` (width and height), which spare reading an image where only that is asked for.
    """

    #: identifies the content, so that a run can say what it was trained on
    digest: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[np.ndarray, str]:
        """Image (uint8 RGB [H, W, 3]) and caption."""
        ...


class Place(Protocol):
    """Where an image's bytes are."""

    def read(self) -> bytes: ...


#: The digest of an image's bytes; OSError if they cannot be read.
Digest = Callable[[Place], bytes]


@dataclass(frozen=True, slots=True)
class FileSlice:
    """A file, or ``size`` bytes of it from ``offset`` on."""

    path: Path
    offset: int = 0
    size: int | None = None

    def read(self) -> bytes:
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            content = stream.read() if self.size is None else stream.read(self.size)
        if self.size is not None and len(content) < self.size:
            raise OSError(f"{self.path} ends too early")
        return content


@dataclass(frozen=True, slots=True)
class Record:
    """One captioned image."""

    #: file and line (or member, or row), for messages
    where: str
    #: what the record calls its image
    name: str
    place: Place
    caption: str


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one record: ``where`` and ``what`` make a sentence."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where} {self.what}"


class Listing:
    """The records of a data set; a Source with everything a Source may have.

    Reads every image's bytes once, for its digest (or has it from ``digest``); decodes none. Raises
    TrainingError if there are no records, or if some are broken and ``on_broken`` is ``error``.
    """

    def __init__(
        self,
        name: str,
        found: Iterable[Record | Fault],
        on_broken: str,
        digest: Digest | None = None,
    ) -> None:
        self.name = name
        take = digest or content_digest
        #: records that are broken, in the order they were found in
        self.faults: list[Fault] = []
        records: list[Record] = []
        for each in found:
            if isinstance(each, Record):
                records.append(each)
            else:
                self.faults.append(each)
        self.records: list[Record] = []
        self.digests: list[bytes] = []

        def of(record: Record) -> bytes | Fault:
            try:
                return take(record.place)
            except OSError as error:
                words = f"names {record.name}, which cannot be read: {error.strerror}"
                return Fault(record.where, words)

        for record, one in zip(records, in_threads(of, records), strict=True):
            if isinstance(one, Fault):
                self.faults.append(one)
            else:
                self.records.append(record)
                self.digests.append(one)
        refuse(self.faults, name, on_broken)
        if not self.records:
            first = f" that can be read: {self.faults[0]}" if self.faults else ""
            raise TrainingError(f"{name} names no images{first}")
        self.digest = self._digest()

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for record, image in zip(self.records, self.digests, strict=True):
            digest.update(image)
            digest.update(hashlib.sha256(record.caption.encode("utf-8")).digest())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[np.ndarray, str]:
        """Raises TrainingError, with file and line, if the image cannot be read."""
        image = self.decode(index)
        if isinstance(image, str):
            raise TrainingError(str(self.broken(index, image)))
        return image, self.records[index].caption

    def key(self, index: int) -> str:
        """SHA-256 of the image's file."""
        return self.digests[index].hex()

    def caption(self, index: int) -> str:
        return self.records[index].caption

    def decode(self, index: int) -> np.ndarray | str:
        """The image, upright as its EXIF says, uint8 RGB [H, W, 3]; or why it cannot be read.

        Raises TrainingError where the file itself cannot be read any more.
        """
        record = self.records[index]
        try:
            content = record.place.read()
        except OSError as error:
            raise TrainingError(f"{record.where}: {record.name} cannot be read: {error}") from None
        try:
            with Image.open(io.BytesIO(content)) as image:
                return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        except UnidentifiedImageError:
            return "it is of no known image format"
        except _BROKEN as error:
            return " ".join(str(error).split())[:160] or type(error).__name__

    def broken(self, index: int, reason: str) -> Fault:
        """The fault of a record whose image ``decode`` could not read."""
        record = self.records[index]
        return Fault(record.where, f"names {record.name}, which is not a readable image: {reason}")

    def without(self, broken: Collection[int], faults: Iterable[Fault]) -> Listing:
        """The same without these records, which are counted as faults."""
        kept = object.__new__(Listing)
        kept.name, kept.faults = self.name, [*self.faults, *faults]
        gone = set(broken)
        keep = [i for i in range(len(self)) if i not in gone]
        kept.records = [self.records[i] for i in keep]
        kept.digests = [self.digests[i] for i in keep]
        if not kept.records:
            raise TrainingError(f"{self.name} names no images that can be read: {kept.faults[0]}")
        kept.digest = kept._digest()
        return kept


def refuse(faults: list[Fault], name: str, on_broken: str) -> None:
    """Raises TrainingError with the first fault unless broken records are to be dropped."""
    if faults and on_broken == "error":
        more = f"; {len(faults) - 1} more records are broken" if len(faults) > 1 else ""
        raise TrainingError(
            f"{faults[0]}{more}: mend the data (`soar-bench data check {name}` lists what is "
            "broken), or set images.on_broken=drop to train without it"
        )


def content_digest(place: Place) -> bytes:
    """SHA-256 of the bytes there."""
    return hashlib.sha256(place.read()).digest()


def workers() -> int:
    """Threads that read and decode: those two leave Python's lock."""
    return min(16, os.cpu_count() or 1)


def in_threads(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """``work`` of every item, in order; a block of items at a time, so that little waits."""
    with ThreadPoolExecutor(workers()) as pool:
        for start in range(0, len(items), _BLOCK):
            yield from pool.map(work, items[start : start + _BLOCK])


def inside(root: Path, name: str, where: str) -> Path | Fault:
    """The file ``name`` of the folder, links followed; a Fault if it is elsewhere or missing."""
    if "\0" in name:
        return Fault(where, f"names {name!r}, which is no file name")
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()):
        return Fault(where, f"names {name!r}, outside {root}")
    if not path.is_file():
        return Fault(where, f"names {name!r}, which is missing in {root}")
    return path


def key_of(source: Source, index: int) -> str:
    """A text that names the image's content."""
    own = getattr(source, "key", None)
    if own is not None:
        return str(own(index))
    image = source[index][0]
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()


def caption_of(source: Source, index: int) -> str:
    own = getattr(source, "caption", None)
    return str(own(index)) if own is not None else source[index][1]


def size_of(source: Source, index: int) -> tuple[int, int]:
    """Width and height in pixels."""
    own = getattr(source, "size", None)
    if own is not None:
        width, height = own(index)
        return int(width), int(height)
    height, width = source[index][0].shape[:2]
    return width, height

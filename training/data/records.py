"""Captioned images by number, in whichever form they are stored. Imports no torch.

A listing names every record of a data set with the file and line it came from. A record that is
broken has a fault. No fault is passed over: it is an error, or the record is dropped and counted.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import typing
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from soar_bench.core.errors import SoarBenchError
from soar_bench.core.images import decode, digest_image
from soar_bench.core.rows import NUL
from soar_bench.core.text import encodable
from soar_bench.core.threads import in_threads
from training.types import TrainingError

#: A file of more bytes is no image, but may fill the memory.
_MAX_BYTES = 1 << 29


class Source(typing.Protocol):
    """Captioned images by number; any object with these three members is one.

    It may also have ``key(index)`` (a text that names the image's content), ``caption(index)`` and
    ``size(index)`` (width and height in pixels), so that an image need not be read for them.
    """

    #: digest of the content, by which a run says what it was trained on
    digest: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[np.ndarray, str]:
        """Return the image (uint8 RGB [H, W, 3]) and its caption."""
        ...


class Place(typing.Protocol):
    """Place of an image's bytes."""

    def read(self) -> bytes: ...


#: Returns the SHA-256 of an image's bytes; OSError if they cannot be read.
Digest = Callable[[Place], bytes]


@dataclass(frozen=True, slots=True)
class FileSlice:
    """A file, or ``size`` bytes of it from ``offset`` on."""

    path: Path
    offset: int = 0
    size: int | None = None

    def read(self) -> bytes:
        with self.path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size if self.size is None else self.size
            if size > _MAX_BYTES:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            stream.seek(self.offset)
            content = stream.read() if self.size is None else stream.read(self.size)
        if self.size is not None and len(content) < self.size:
            raise OSError(f"{self.path} ends too early")
        return content


@dataclass(frozen=True, slots=True)
class Record:
    """One captioned image."""

    #: file and line (or member, or row), for errors
    where: str
    #: the image's name in the record
    name: str
    place: Place
    caption: str
    #: width and height that the record asks for; None where it does not
    size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """Fault of one record: ``where`` and ``what`` make a sentence."""

    where: str
    what: str

    def __str__(self) -> str:
        return encodable(f"{self.where} {self.what}")


class Listing:
    """Records of a data set; a Source with every optional member.

    Reads each image's bytes once for their digest, which ``digest`` returns, and decodes none.
    Raises TrainingError if there are no records, or if some are broken and ``on_broken`` is
    ``error``.
    """

    def __init__(
        self,
        name: str,
        entries: Iterable[Record | Fault],
        on_broken: str,
        digest: Digest | None = None,
    ) -> None:
        self.name = name
        #: of broken records, in the order of the data set
        self.faults: list[Fault] = []
        self.records: list[Record] = []
        self.digests: list[bytes] = []
        records: list[Record] = []
        for entry in entries:
            if isinstance(entry, Fault):
                self.faults.append(entry)
            elif "\0" in entry.caption:  # of UTF-16, most likely
                self.faults.append(Fault(entry.where, f"has a caption that {NUL}"))
            else:
                records.append(entry)

        def digest_record(record: Record) -> bytes | Fault:
            try:
                return (digest or content_digest)(record.place)
            except OSError as error:
                words = f"names {record.name}, which cannot be read: {error.strerror}"
                return Fault(record.where, words)

        for record, result in zip(records, in_threads(digest_record, records), strict=True):
            if isinstance(result, Fault):
                self.faults.append(result)
            else:
                self.records.append(record)
                self.digests.append(result)
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
        """Return image and caption. TrainingError names file and line of a broken image."""
        image = self.decode(index)
        if isinstance(image, str):
            raise TrainingError(str(self.broken(index, image)))
        return image, self.records[index].caption

    def key(self, index: int) -> str:
        """Return the SHA-256 of the image's file."""
        return self.digests[index].hex()

    def caption(self, index: int) -> str:
        return self.records[index].caption

    def asked_size(self, index: int) -> tuple[int, int] | None:
        """Return the width and height that the record asks for; None where it does not."""
        return self.records[index].size

    def decode(self, index: int) -> np.ndarray | str:
        """Return the image, uint8 RGB [H, W, 3], or why it is broken; see core.images.decode.

        Raises TrainingError if the file itself cannot be read any more.
        """
        record = self.records[index]
        try:
            content = record.place.read()
        except OSError as error:
            raise TrainingError(f"{record.where}: {record.name} cannot be read: {error}") from None
        try:
            return decode(io.BytesIO(content), "it")[0]
        except SoarBenchError as error:
            return str(error)

    def broken(self, index: int, reason: str) -> Fault:
        """Return the fault of a record whose image :meth:`decode` found broken."""
        record = self.records[index]
        return Fault(record.where, f"names {record.name}, which is not a readable image: {reason}")

    def without(self, broken: Collection[int], faults: Iterable[Fault]) -> Listing:
        """Return the listing without these records, whose faults are counted."""
        rest = object.__new__(Listing)
        rest.name, rest.faults = self.name, [*self.faults, *faults]
        gone = set(broken)
        kept = [i for i in range(len(self)) if i not in gone]
        rest.records = [self.records[i] for i in kept]
        rest.digests = [self.digests[i] for i in kept]
        if not rest.records:
            raise TrainingError(f"{self.name} names no images that can be read: {rest.faults[0]}")
        rest.digest = rest._digest()
        return rest


def refuse(faults: list[Fault], name: str, on_broken: str) -> None:
    """Raise TrainingError with the first fault unless broken records are dropped."""
    if faults and on_broken == "error":
        more = f"; {len(faults) - 1} more records are broken" if len(faults) > 1 else ""
        raise TrainingError(
            f"{faults[0]}{more}: mend the data (`soar-bench data check {name}` lists what is "
            "broken), or set images.on_broken=drop to train without it"
        )


def content_digest(place: Place) -> bytes:
    """Return the SHA-256 of the bytes at a place."""
    return hashlib.sha256(place.read()).digest()


def inside(root: Path, name: str, where: str) -> Path | Fault:
    """Return the file ``name`` of a folder, or a Fault if it is missing or a link leads out."""
    try:
        path = (root / name).resolve()
        if not path.is_relative_to(root.resolve()):
            return Fault(where, f"names {name!r}, outside {root}")
        if not path.is_file():
            return Fault(where, f"names {name!r}, which is missing in {root}")
    except (OSError, RuntimeError, ValueError):  # too long, a circle of links, half a character
        return Fault(where, f"names {name!r}, which is no file name")
    return path


def key_of(source: Source, index: int) -> str:
    """Return a text that names the image's content."""
    key = getattr(source, "key", None)
    return str(key(index)) if key is not None else digest_image(source[index][0])


def caption_of(source: Source, index: int) -> str:
    caption = getattr(source, "caption", None)
    return str(caption(index)) if caption is not None else source[index][1]


def asked_size_of(source: Source, index: int) -> tuple[int, int] | None:
    """Return the width and height that the sample's record asks for; None where it does not."""
    asked = getattr(source, "asked_size", None)
    return asked(index) if asked is not None else None


def size_of(source: Source, index: int) -> tuple[int, int]:
    """Return width and height in pixels."""
    size = getattr(source, "size", None)
    width, height = size(index) if size is not None else source[index][0].shape[1::-1]
    return int(width), int(height)

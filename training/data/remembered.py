"""Digests of images, remembered by what the file system says of their files.

A training names its data by the content of every image. Reading all of it again at each start, and
in each process, would take as long as the disk needs; a file whose path, size and time of change
are those of before is taken to hold what it held. Imports no torch.
"""

from __future__ import annotations

import json
import time
from functools import lru_cache
from pathlib import Path

from training.cache import Cache, write_json
from training.data.records import FileSlice, Place, content_digest

#: A file that changed this shortly ago, in nanoseconds, may change again within the same tick of
#: its clock: it is read again the next time.
_YOUNG = 2_000_000_000

_Stamp = tuple[int, int]


class Remembered:
    """The digests of one data set's images, in a file of the cache."""

    def __init__(self, cache: Cache, name: str) -> None:
        self._file = cache.file("digests", str(Path(name).resolve()), "json")
        self._known = _read(self._file)
        self._seen: dict[tuple[str, int, int], tuple[_Stamp, str]] = {}
        self._stamp = lru_cache(maxsize=None)(_stamp)
        self._begun = time.time_ns()

    def digest(self, place: Place) -> bytes:
        """SHA-256 of what is there; OSError if it cannot be read."""
        if not isinstance(place, FileSlice):
            return content_digest(place)
        key = (str(place.path), place.offset, -1 if place.size is None else place.size)
        stamp = self._stamp(place.path)
        known = self._known.get(key)
        if known is not None and known[0] == stamp:
            self._seen[key] = known
            return bytes.fromhex(known[1])
        found = content_digest(place)
        if stamp[1] < self._begun - _YOUNG and stamp == _stamp(place.path):
            self._seen[key] = (stamp, found.hex())
        return found

    def keep(self) -> None:
        """Writes what is known now, if that is something new."""
        if self._seen != self._known:
            write_json(
                self._file, [[*key, *stamp, sha] for key, (stamp, sha) in self._seen.items()]
            )


def _stamp(path: Path) -> _Stamp:
    """Size and time of change in nanoseconds."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _read(file: Path) -> dict[tuple[str, int, int], tuple[_Stamp, str]]:
    try:
        lines = json.loads(file.read_text("utf-8"))
        return {
            (path, offset, length): ((size, changed), sha)
            for path, offset, length, size, changed, sha in lines
        }
    except (FileNotFoundError, ValueError, TypeError):  # not made yet, or damaged and made again
        return {}

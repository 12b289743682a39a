"""Digests of a data set's images, remembered as long as their files stay what they were.

A training names its data by the content of every image. Reading all of it again at each start, and
in each process, would take as long as the disk needs. Imports no torch.
"""

from __future__ import annotations

import time
from functools import lru_cache
from pathlib import Path

from soar_bench.core.digests import StampCache, stamp
from training.cache import Cache
from training.data.records import FileSlice, Place, content_digest

#: A file that changed this shortly ago, in nanoseconds, may change again within the same tick of
#: its clock: it is read again the next time.
_YOUNG = 2_000_000_000


class Remembered:
    """The digests of one data set's images, in a file of the cache."""

    def __init__(self, cache: Cache, name: str) -> None:
        self._cache = StampCache(cache.file("digests", str(Path(name).resolve()), "json"))
        self._stamp = lru_cache(maxsize=None)(stamp)  # a tar has many images
        self._begun = time.time_ns()

    def digest(self, place: Place) -> bytes:
        """Return the SHA-256 of the bytes there; OSError if they cannot be read."""
        if not isinstance(place, FileSlice):
            return content_digest(place)
        key = f"{place.path} {place.offset} {place.size}"
        state = self._stamp(place.path)
        if cached := self._cache.get(key, state):
            return bytes.fromhex(cached)
        digest = content_digest(place)
        changed = state[1]
        if changed < self._begun - _YOUNG and state == stamp(place.path):
            self._cache.put(key, state, digest.hex())
        return digest

    def keep(self) -> None:
        """Write the digests that were asked for, unless they are what the file holds."""
        self._cache.save()

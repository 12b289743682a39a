"""Work on threads that read and decode files, both of which release Python's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

#: Number of items that wait for a thread at a time, and of results that wait to be taken.
_BLOCK = 1024


def in_threads(work: Callable[[T], R], items: Sequence[T], most: int = 16) -> Iterator[R]:
    """Yield ``work`` of every item in order, done on ``most`` threads or fewer.

    After an error, or where nobody takes the rest, what was not begun is not done.
    """
    with ThreadPoolExecutor(min(most, os.cpu_count() or 1)) as pool:
        for start in range(0, len(items), _BLOCK):
            yield from pool.map(work, items[start : start + _BLOCK])

"""Work for the next step, done on a thread while this one runs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Results of a function of the step, of which the next is made on a thread meanwhile."""

    def __init__(self, steps: int) -> None:
        """``steps`` is the number of all steps: nothing is made after the last."""
        self._steps = steps
        self._next: tuple[int, Future[T]] | None = None

    def __call__(self, step: int, make: Callable[[int], T]) -> T:
        """Return ``make(step)`` and begin ``make(step + 1)``, whose error is raised at its turn."""
        waiting, self._next = self._next, None
        made = waiting[1].result() if waiting and waiting[0] == step else make(step)
        if step + 1 < self._steps:
            self._next = step + 1, _begin(partial(make, step + 1))
        return made


def _begin(work: Callable[[], T]) -> Future[T]:
    """Start work on a thread that ends with it."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    future = pool.submit(work)
    pool.shutdown(wait=False)
    return future

"""CPU work, such as an OCR engine's, in several processes that keep what they load."""

from __future__ import annotations

import os
import pickle
import re
import signal
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.util import Finalize
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from evaluators.types import EvaluatorError

PROCESSES_VARIABLE = "SOAR_BENCH_PROCESSES"
#: Items per process for which starting it pays.
ITEMS_A_PROCESS = 4
#: Bytes of memory that one process takes unless its pool is told otherwise.
MEMORY_A_PROCESS = 1 << 30
#: Variables by which libraries choose their number of threads when they are loaded.
_THREADS = (
    *("OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    "OPENCV_FOR_THREADS_NUM",
)

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def processes(memory_each: int = MEMORY_A_PROCESS) -> int:
    """Return ``$SOAR_BENCH_PROCESSES``, or the number of CPUs that this process may use.

    Of the latter, as many as have ``memory_each`` bytes of free memory.
    """
    named = os.environ.get(PROCESSES_VARIABLE)
    if named:
        if not named.isdecimal() or int(named) < 1:
            raise EvaluatorError(
                f"{PROCESSES_VARIABLE} must be a whole number from 1, not {named!r}: correct or "
                "unset it"
            )
        return int(named)
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    free = _free_memory()
    return cpus if free is None else max(1, min(cpus, free // memory_each))


def _free_memory(file: Path = Path("/proc/meminfo")) -> int | None:
    """Return the bytes that new processes can have; None where the system does not say."""
    try:
        lines = file.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    matches = filter(None, (re.fullmatch(r"MemAvailable:\s+(\d+)\s+\S+\s*", s) for s in lines))
    return next((int(match[1]) * 1024 for match in matches), None)


class Pool(Generic[Item, Answer]):
    """Pool that applies a function to items, in this process or in several.

    ``make`` is called once in each process and returns the function; it must be importable there:
    a function of a module, or a method of a plain object. ``what`` names the work in errors.
    Processes start when there are items enough for two of them, and stay until :meth:`close`, or
    until the pool is collected or this process ends. Each uses one thread.
    """

    def __init__(
        self,
        make: Callable[[], Callable[[Item], Answer]],
        what: str,
        memory_each: int = MEMORY_A_PROCESS,
    ) -> None:
        self._make, self._what, self._memory_each = make, what, memory_each
        self._here = _Worker(make)
        self._executor: ProcessPoolExecutor | None = None
        self._size = 0
        self._stop: Callable[[], object] = lambda: None

    def map(self, items: Sequence[Item], names: Sequence[str]) -> list[Answer]:
        """Return the answers, in order. ``names`` name the items in errors.

        EvaluatorError, naming the item, if the function fails on one; and if a process dies. The
        pool can be used again after either.
        """
        named = list(zip(items, names, strict=True))
        size = min(processes(self._memory_each), len(named) // ITEMS_A_PROCESS)
        if self._executor is None and size < 2:
            return [self._answer(self._here(item), name) for item, name in named]
        try:
            executor = self._start(size)
            with _without_main(self._make):
                futures = [(executor.submit(_work, item), name) for item, name in named]
            return [self._answer(future.result(), name) for future, name in futures]
        except BrokenProcessPool:
            self.close()
            raise EvaluatorError(
                f"a process of {self._what} died (killed, perhaps for want of memory): set "
                f"{PROCESSES_VARIABLE} to a smaller number, or to 1, and run again"
            ) from None
        except BaseException:
            self.close()  # drops what is queued
            raise

    def close(self) -> None:
        """End the processes after their current items. The next ``map`` starts new ones."""
        self._stop()
        self._executor = None

    def _start(self, size: int) -> ProcessPoolExecutor:
        if self._executor is None or size > self._size:
            self.close()
            # Not forked: libraries with threads of their own hang in forked processes.
            self._executor = ProcessPoolExecutor(
                size, get_context("spawn"), initializer=_begin, initargs=(self._make,)
            )
            self._size = size
            self._stop = weakref.finalize(
                self, self._executor.shutdown, wait=False, cancel_futures=True
            )
            # A process of multiprocessing waits at its end for its own children: the pool must end
            # before that, and before its queues are closed, which has priority 10.
            Finalize(None, self._executor.shutdown, (True,), {"cancel_futures": True}, 100)
        return self._executor

    def _answer(self, outcome: _Outcome, name: str) -> Answer:
        if outcome.error:
            where = f"{self._what} failed on {name}: " if outcome.started else ""
            raise EvaluatorError(where + outcome.error)
        return outcome.value


@contextmanager
def _without_main(make: Callable[..., Any]) -> Iterator[None]:
    """Start processes that do not run the caller's script again, unless ``make`` is of it.

    A script without ``if __name__ == "__main__"`` would begin anew in each of them.
    """
    main = sys.modules["__main__"]
    if b"__main__" not in pickle.dumps(make):
        sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@dataclass(frozen=True)
class _Outcome:
    """An answer, or an error as text: not every library's exception can be pickled."""

    value: Any = None
    error: str = ""
    #: whether there was a function to call
    started: bool = True


class _Worker:
    """The function of one process, made when it is first needed."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]]) -> None:
        self._make = make
        self._function: Callable[[Any], Any] | None = None

    def __call__(self, item: Any) -> _Outcome:
        started = self._function is not None
        try:
            if self._function is None:
                self._function = self._make()
            started = True
            return _Outcome(self._function(item))
        except (Exception, SystemExit) as error:  # some libraries call exit on bad input
            text = str(error) if isinstance(error, EvaluatorError) else repr(error)
            return _Outcome(error=text, started=started)


_worker: _Worker | None = None


def _begin(make: Callable[[], Callable[[Any], Any]]) -> None:
    """Prepare a new process."""
    global _worker
    for name in _THREADS:
        os.environ[name] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    _worker = _Worker(make)


def _work(item: Any) -> _Outcome:
    if _worker is None:
        raise RuntimeError("the process was not begun")
    return _worker(item)

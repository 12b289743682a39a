"""Progress: a live bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

#: Seconds between lines where there is no terminal.
_EVERY = 10.0


class Stages:
    """Progress of each stage of a piece of work."""

    def __init__(self, console: Console, bar: Progress | None) -> None:
        self._console, self._bar = console, bar
        self._tasks: dict[str, TaskID] = {}
        self._done: dict[str, int] = {}
        self._last: dict[str, float] = {}
        self._first: dict[str, tuple[float, int]] = {}

    def note(self, words: str) -> None:
        """Print a sentence between the stages."""
        self._console.print(words, highlight=False, markup=False)

    def __call__(
        self, stage: str, done: int, total: int, figures: Mapping[str, float] | None = None
    ) -> None:
        text = "  ".join(f"{name} {value:.4g}" for name, value in (figures or {}).items())
        if done < self._done.get(stage, 0):  # begun once more
            self._last.pop(stage, None)
            self._first.pop(stage, None)
            if self._bar is not None:
                self._bar.reset(self._tasks[stage])
        self._done[stage] = done
        if self._bar is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._bar.add_task(stage, total=total, figures="")
            self._bar.update(self._tasks[stage], completed=done, total=total, figures=text)
            return
        now = time.monotonic()
        self._first.setdefault(stage, (now, done))
        if done >= total or now - self._last.get(stage, -_EVERY) >= _EVERY:
            self._last[stage] = now
            parts = (f"{stage}: {done}/{total}", self._rate(stage, now, done, total), text)
            self.note("  ".join(part for part in parts if part))

    def _rate(self, stage: str, now: float, done: int, total: int) -> str:
        """Return the stage's samples per second since its first report, and the time left."""
        start, before = self._first[stage]
        if done <= before or now <= start:
            return ""
        rate = (done - before) / (now - start)
        left = f", {timedelta(seconds=round((total - done) / rate))} left" if done < total else ""
        return f"{rate:.3g}/s{left}"


class _Rate(ProgressColumn):
    """Samples per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.3g}/s")


@contextmanager
def stages(console: Console | None = None, *, quiet: bool = False) -> Iterator[Stages]:
    """Show progress on the error stream, so that a command's output can be piped; nothing if
    ``quiet``, where another process speaks for all.
    """
    console = console or Console(file=sys.stderr, quiet=quiet)
    if not console.is_terminal:
        yield Stages(console, None)
        return
    figures = (BarColumn(bar_width=30), MofNCompleteColumn(), _Rate(), TimeElapsedColumn(), "left")
    last = (TimeRemainingColumn(), "[dim]{task.fields[figures]}")
    with Progress("{task.description}", *figures, *last, console=console) as bar:
        yield Stages(console, bar)

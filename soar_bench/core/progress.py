"""Progress: a live bar in a terminal, about a dozen lines per stage in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.table import Column
from rich.text import Text

from soar_bench.core.terminal import new_console
from soar_bench.core.text import printable

#: Lines of a stage in a log, besides the first two.
_LINES = 12
#: Seconds between two lines of a stage in a log, at least.
_APART = 10.0
#: Seconds after which a stage in a log says how long it will take, however long that is.
_EARLY = 30.0
#: Seconds of reports from which a bar's speed is taken: steps may take minutes.
_WINDOW = 86_400.0


class Stages:
    """Progress of each stage of a piece of work.

    ``title`` names the work: above the bars in a terminal, at the start of every line in a log.
    """

    def __init__(self, console: Console, bar: Progress | None, title: str = "") -> None:
        self._console, self._bar, self._title = console, bar, title
        self._tasks: dict[str, TaskID] = {}
        self._logs: dict[str, _Log] = {}

    def note(self, sentence: str) -> None:
        """Print a sentence between the stages; in a log on one line, however long it is."""
        log = self._bar is None
        self._console.print(sentence, highlight=False, markup=False, soft_wrap=log)

    def __call__(
        self, stage: str, done: int, total: int, figures: Mapping[str, float] | None = None
    ) -> None:
        stage = printable(stage)
        words = [f"{name} {value:.4g}" for name, value in (figures or {}).items()]
        if self._bar is not None:
            self._draw(self._bar, stage, done, total, words)
            return
        log = self._logs.get(stage)
        if log is None or done < log.done:  # or begun once more
            log = self._logs[stage] = _Log(done)
        if log.is_due(done, total):
            name = f"{self._title}, {stage}" if self._title else stage
            self.note("  ".join((f"{name}: {done}/{total}", *log.speed(total), *words)))

    def _draw(self, bar: Progress, stage: str, done: int, total: int, words: list[str]) -> None:
        if self._title and not self._tasks:
            self.note(self._title)
        if stage not in self._tasks:
            self._tasks[stage] = bar.add_task(stage, total=total, words=())
        task = self._tasks[stage]
        if any(t.id == task and done < t.completed for t in bar.tasks):  # begun once more
            bar.reset(task)
        bar.update(task, completed=done, total=total, words=words)


class _Log:
    """A stage in a log: when a line is due, and its speed since the first report."""

    def __init__(self, done: int) -> None:
        self.done = self._first = done
        self._start = time.monotonic()
        #: time and work of each line
        self._lines: list[tuple[float, int]] = []

    def is_due(self, done: int, total: int) -> bool:
        """Return whether this report is the first, the last, one in a new twelfth of the work, or
        the first of which a speed is known.
        """
        now, self.done = time.monotonic(), done
        before, at = self._lines[-1] if self._lines else (now - _APART, -1)
        parts = [max(work, 0) * _LINES // max(total, 1) for work in (at, done)]
        early = len(self._lines) == 1 and now - self._start >= _EARLY
        due = parts[1] > parts[0] or early or not self._lines
        if at == done or (done < total and not (due and now - before >= _APART)):
            return False
        self._lines.append((now, done))
        return True

    def speed(self, total: int) -> list[str]:
        """Return the time left and the work per second; nothing where they are not known."""
        seconds, work = time.monotonic() - self._start, self.done - self._first
        if work <= 0 or seconds <= 0:
            return []
        left = [f"{_clock((total - self.done) * seconds / work)} left"] * (self.done < total)
        return [*left, f"{work / seconds:.3g}/s"]


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


class _Left(ProgressColumn):
    """Time left; of a finished stage, the time that it took."""

    def render(self, task: Task) -> Text:
        if task.finished:
            return Text(_clock(task.finished_time or 0.0))
        left = task.time_remaining
        return Text("-:--:-- left" if left is None else f"{_clock(left)} left")


class _Figures(ProgressColumn):
    """Work per second and the stage's figures."""

    def render(self, task: Task) -> _Fitting:
        speed = task.finished_speed or task.speed
        return _Fitting([*([f"{speed:.3g}/s"] if speed else []), *task.fields["words"]])


class _Fitting:
    """As many of the words as fit into the width that is left, none of them cut."""

    def __init__(self, words: list[str]) -> None:
        self._words = words

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        line = ""
        for word in self._words:
            longer = f"{line}  {word}" if line else word
            if len(longer) > options.max_width:
                break
            line = longer
        yield Text(line, style="dim", no_wrap=True)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(0, options.max_width)


def named(
    show: Callable[..., None], name: str, stage: str, done: int, total: int, *figures: Any
) -> None:
    """Show a stage under the name of the work that it is of, which has others of that name."""
    show(f"{name}: {stage}", done, total, *figures)


@contextmanager
def stages(
    console: Console | None = None, *, title: str = "", quiet: bool = False
) -> Iterator[Stages]:
    """Show progress on the error stream, so that a command's output can be piped; nothing if
    ``quiet``, where another process speaks for all. ``title`` names the work that has the stages.
    """
    console = console or new_console(file=sys.stderr, quiet=quiet)
    if not console.is_terminal:
        yield Stages(console, None, title)
        return
    # Bar, count and time left come first and are never cut: figures take the room that they leave.
    name = Column(no_wrap=True, overflow="ellipsis", max_width=max(console.width // 4, 8))
    columns = (
        TextColumn("{task.description}", markup=False, table_column=name),
        BarColumn(bar_width=max(min(console.width // 5, 30), 10)),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        _Left(table_column=Column(no_wrap=True)),
        _Figures(table_column=Column(no_wrap=True, ratio=1)),
    )
    with Progress(*columns, console=console, expand=True, speed_estimate_period=_WINDOW) as bar:
        yield Stages(console, bar, title)

"""Progress: a live bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

#: Seconds between lines where there is no terminal.
_EVERY = 10.0


class Stages:
    """Shows how far each stage of a piece of work is."""

    def __init__(self, console: Console, bar: Progress | None) -> None:
        self._console = console
        self._bar = bar
        self._tasks: dict[str, TaskID] = {}
        self._last: dict[str, float] = {}

    def __call__(
        self, stage: str, done: int, total: int, figures: Mapping[str, float] | None = None
    ) -> None:
        text = "  ".join(f"{name} {value:.4g}" for name, value in (figures or {}).items())
        if self._bar is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._bar.add_task(stage, total=total, figures="")
            self._bar.update(self._tasks[stage], completed=done, total=total, figures=text)
            return
        now = time.monotonic()
        if done >= total or now - self._last.get(stage, -_EVERY) >= _EVERY:
            self._last[stage] = now
            self._console.print(f"{stage}: {done}/{total}  {text}".rstrip(), highlight=False)


@contextmanager
def stages(console: Console | None = None) -> Iterator[Stages]:
    """Progress on the error stream, so that a command's output can be piped."""
    console = console or Console(file=sys.stderr)
    if not console.is_terminal:
        yield Stages(console, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[figures]}"),
    )
    with Progress(*columns, console=console) as bar:
        yield Stages(console, bar)

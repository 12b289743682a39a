"""How a fetch is shown: the list of what there is, and progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from evaluators import registry
from evaluators.types import EvaluatorError
from soar_bench.fetch import Say
from soar_bench.fetch.download import human
from soar_bench.fetch.file_sets import FileSet, Item

#: Seconds between lines where there is no terminal.
_EVERY = 10.0


@contextmanager
def progress(say: Say) -> Iterator[Callable[[Item, int, int | None], None]]:
    """A live bar a file in a terminal, a line now and then elsewhere."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        last: dict[str, float] = {}

        def tell(item: Item, done: int, total: int | None) -> None:
            now = time.monotonic()
            if now - last.setdefault(item.label, now) >= _EVERY:
                last[item.label] = now
                say(f"{item.label}: {human(done)} of {human(total)}")

        yield tell
        return
    tasks: dict[str, TaskID] = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:

        def draw(item: Item, done: int, total: int | None) -> None:
            if item.label not in tasks:
                tasks[item.label] = bar.add_task(escape(item.label), total=total)
            bar.update(tasks[item.label], completed=done, total=total)

        yield draw


def listing(sets: list[FileSet], say: Say) -> Table:
    """What can be fetched and what is here. Nothing large is read for it."""
    users: dict[str, list[str]] = {}
    for name in registry.names():
        try:
            for weights in registry.create(name).weights:
                users.setdefault(weights.name, []).append(name)
        except EvaluatorError as error:
            say(f"soar-bench: {error}")
    table = Table("name", "what", "size", "here", "licence", "for the evaluators")
    for one in sets:
        sizes = [file.size for file in one.files]
        known = sum(size or 0 for size in sizes)
        size = human(known or None) + (" and more" if known and None in sizes else "")
        state = _state([item.fault(read=False) for item in one.items])
        wanted_by = ", ".join(users.get(one.name, [])) if one.kind == "weights" else ""
        cells = (one.name, one.kind, size, state, one.licence, wanted_by)
        table.add_row(*(escape(cell) for cell in cells))
    return table


def _state(faults: list[str]) -> str:
    """How a set stands, in a word."""
    if all(fault == "absent" for fault in faults):
        return "no"
    if any(fault.startswith("damaged") for fault in faults):
        return "damaged"
    if "absent" in faults:
        return f"{sum(fault != 'absent' for fault in faults)} of {len(faults)} files"
    return "not verified" if "not verified" in faults else "yes"

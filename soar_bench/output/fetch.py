"""The list of what can be fetched."""

from __future__ import annotations

from collections.abc import Callable

from rich.markup import escape
from rich.table import Table

from evaluators import registry
from evaluators.types import EvaluatorError
from soar_bench.fetch.download import human
from soar_bench.fetch.file_sets import FileSet


def listing(sets: list[FileSet], say: Callable[[str], None]) -> Table:
    """Return a table of what can be fetched and what is here. Nothing large is read for it."""
    users: dict[str, list[str]] = {}
    for name in registry.names():
        try:
            for weights in registry.create(name).weights:
                users.setdefault(weights.name, []).append(name)
        except EvaluatorError as error:
            say(f"soar-bench: {error}")
    table = Table("name", "what", "size", "here", "licence", "for the evaluators")
    for files in sets:
        sizes = [file.size or file.about for file in files.files]
        total = sum(size or 0 for size in sizes)
        size = human(total or None) + (" and more" if total and None in sizes else "")
        if any(file.size is None and file.about for file in files.files):
            size = f"about {size}"
        state = _state([item.fault(read=False) for item in files.items])
        judges = ", ".join(users.get(files.name, [])) if files.kind == "weights" else ""
        cells = (files.name, files.kind, size, state, files.licence, judges)
        table.add_row(*(escape(cell) for cell in cells))
    return table


def _state(faults: list[str]) -> str:
    """Return how a set stands, in a word."""
    if all(fault == "absent" for fault in faults):
        return "no"
    if any(fault.startswith("damaged") for fault in faults):
        return "damaged"
    if "absent" in faults:
        return f"{sum(fault != 'absent' for fault in faults)} of {len(faults)} files"
    return "not verified" if "not verified" in faults else "yes"

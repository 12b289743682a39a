"""The list of what can be fetched: for a terminal, a pipe and a program."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

from rich import box
from rich.markup import escape
from rich.table import Table

from evaluators import registry
from evaluators.types import EvaluatorError
from soar_bench.core.text import human
from soar_bench.fetch.file_sets import FileSet

_WIDE = 110


@dataclass(frozen=True)
class Row:
    """A set of files that can be fetched, and how it stands here."""

    name: str
    #: ``weights`` or ``prompts``
    what: str
    #: for a reader: ``about 3.9 GB``
    size: str
    #: bytes, as far as they are known; None if nothing is
    bytes: int | None
    #: ``yes``, ``no``, ``1 of 2 files``, ``not verified`` or ``damaged``
    here: str
    licence: str
    #: names of the evaluators that need them
    evaluators: tuple[str, ...]


def listing(sets: list[FileSet], say: Callable[[str], None]) -> list[Row]:
    """Return a row per set, weights first. Nothing large is read for it."""
    users: dict[str, list[str]] = {}
    for name in registry.names():
        try:
            for weights in registry.create(name).weights:
                users.setdefault(weights.name, []).append(name)
        except EvaluatorError as error:
            say(f"soar-bench: {error}")
    rows = []
    for files in sorted(sets, key=lambda files: files.kind != "weights"):
        sizes = [file.size or file.about for file in files.files]
        total = sum(size or 0 for size in sizes) or None
        size = human(total) + (" and more" if total and None in sizes else "")
        if any(file.size is None and file.about for file in files.files):
            size = f"about {size}"
        here = _state([item.fault(read=False) for item in files.items])
        judges = tuple(users.get(files.name, ())) if files.kind == "weights" else ()
        rows.append(Row(files.name, files.kind, size, total, here, files.licence, judges))
    return rows


def table(rows: Sequence[Row], width: int) -> Table:
    """Return a table with one line per set, for a terminal of ``width`` columns."""
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=True)
    for column in ("name", "what", "size", "here"):
        longest = max(len(str(getattr(row, column))) for row in rows)
        result.add_column(column, no_wrap=True, min_width=longest)
    result.add_column("licence", no_wrap=True, overflow="ellipsis", ratio=1)
    if width >= _WIDE:
        result.add_column("for the evaluators", no_wrap=True, overflow="ellipsis", ratio=2)
    for row in rows:
        cells = [row.name, row.what, row.size, row.here, row.licence, ", ".join(row.evaluators)]
        result.add_row(*map(escape, cells[: len(result.columns)]))
    return result


def plain(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a line per set, with tabs between the fields, under a line with their names."""
    yield "name\twhat\tsize\there\tlicence\tfor the evaluators"
    for row in rows:
        cells = (row.name, row.what, row.size, row.here, row.licence, ", ".join(row.evaluators))
        yield "\t".join(cells)


def as_json(row: Row) -> dict[str, object]:
    """Return a row in JSON's types."""
    return {key: value for key, value in asdict(row).items() if key != "size"}


def _state(faults: list[str]) -> str:
    """Return how a set stands, in a word."""
    if all(fault == "absent" for fault in faults):
        return "no"
    if any(fault.startswith("damaged") for fault in faults):
        return "damaged"
    if "absent" in faults:
        return f"{sum(fault != 'absent' for fault in faults)} of {len(faults)} files"
    return "not verified" if "not verified" in faults else "yes"

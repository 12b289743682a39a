"""Evaluators and whether they can run here: for a terminal, a pipe and a program."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from evaluators import registry
from evaluators.registry import Entry
from evaluators.types import Evaluator, EvaluatorError, Metric
from evaluators.weights import WeightFile, Weights

PLAIN_HEADER = (
    "evaluator", "metric", "unit", "range", "better", "version", "licence", "weights", "runs here",
)  # fmt: skip
_STATES = {"yes": "[green]yes[/]", "no": "[yellow]no[/]", "broken": "[red]broken[/]"}
#: Characters between two columns of the table.
_GAP = 2
#: Room for whether an evaluator runs, in a terminal that is too narrow for its name.
_LEAST_ROOM = 10
_SUMMARY = {
    "mean": "mean over samples",
    "task_mean": "unweighted mean of the tasks' means",
    "pooled": "mean over all questions of all samples",
}


@dataclass(frozen=True)
class Row:
    """An evaluator and its state on this machine."""

    entry: Entry
    #: None if it is broken
    evaluator: Evaluator | None
    #: why it cannot run here and what to do; empty if it can
    reason: str

    @property
    def state(self) -> str:
        """``yes``, ``no``, ``broken``, or ``named``: its name must say what it uses."""
        if self.entry.name in registry.FORMS:
            return "named"
        if self.evaluator is None:
            return "broken"
        return "no" if self.reason else "yes"

    @property
    def metrics(self) -> Sequence[Metric]:
        return self.evaluator.metrics if self.evaluator else ()

    @property
    def weights(self) -> Sequence[Weights]:
        return self.evaluator.weights if self.evaluator else ()


def look(entry: Entry) -> Row:
    """Make and check an evaluator. Never fails."""
    try:
        evaluator = registry.make(entry)
    except EvaluatorError as error:
        return Row(entry, None, str(error))
    return Row(entry, evaluator, registry.cannot_run(evaluator))


def forms() -> list[Row]:
    """Return the evaluators whose names say what they use, with what they measure as the reason."""
    entries = [registry.find(form.partition(":")[0] + ":") for form in registry.FORMS]
    return [
        Row(replace(entry, name=form), None, about)
        for entry, (form, about) in zip(entries, registry.FORMS.items(), strict=True)
    ]


def table(rows: Sequence[Row], width: int) -> Table:
    """Return a table of ``width`` characters with one line per evaluator and no word cut: reasons
    have the words that fit, and metrics are left out where there is no room for one; :func:`page`
    has the rest.
    """
    states = [_state_text(row) for row in rows]
    room = max(width - max(len(row.entry.name) for row in rows) - _GAP, _LEAST_ROOM)
    least = max(len(state) for state in states if "fetch" in state or ":" not in state)
    names = [[_metric_text(metric) for metric in row.metrics] for row in rows]
    longest_first = max(len(name) for of_row in names for name in of_row[:1])
    longest = max(longest_first, *(len(", ".join(of_row)) for of_row in names))
    of_metrics = min(longest, max(longest_first, room // 2))
    if shown := of_metrics <= room - _GAP - least:
        room -= of_metrics + _GAP
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for title in ("evaluator", *(["metrics"] if shown else []), "runs here"):
        result.add_column(title, no_wrap=True)
    for row, of_row, text in zip(rows, names, states, strict=True):
        word, *reason = _shortened(text, room).partition(":")
        state = _STATES.get(word, "") + escape("".join(reason))
        about = _shortened(row.reason, of_metrics) if row.state == "named" else ""
        about = about or _fitting(of_row, of_metrics)
        result.add_row(escape(row.entry.name), *([escape(about)] if shown else []), state)
    return result


def to_fetch(rows: Sequence[Row]) -> str:
    """Return the command that fetches missing weights, in a sentence; empty if none are missing."""
    sets = {weights.to_fetch: weights for row in rows for weights in _to_fetch(row)}
    if not sets:
        return ""
    names = next(iter(sets)) if len(sets) == 1 else "NAME"
    or_all = "" if len(sets) == 1 else ", or all with --all"
    return f"Missing weights ({_size_of(*sets.values())}): soar-bench fetch {names}{or_all}"


def plain(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a line per metric, with tabs between the fields of :data:`PLAIN_HEADER`."""
    yield "\t".join(PLAIN_HEADER)
    for row in rows:
        state = "yes" if row.state == "yes" else f"{row.state}: {' '.join(row.reason.split())}"
        weights = ", ".join(map(_weights_text, row.weights))
        for m in row.metrics:
            declared = (m.name, m.unit, range_text(m), _better(m), m.version, m.licence)
            yield "\t".join((row.entry.name, *declared, weights, state))
        if not row.metrics:
            yield "\t".join((row.entry.name, *[""] * (len(PLAIN_HEADER) - 2), state))


def as_json(row: Row) -> dict[str, Any]:
    """Return the declaration and state in JSON's types; an infinite bound is null."""
    entry = row.entry
    content: dict[str, Any] = {"name": entry.name, "origin": entry.origin, "target": entry.target}
    content |= {"state": row.state, "reason": row.reason}
    if row.evaluator is not None:
        content["dtypes"] = list(row.evaluator.dtypes)
        content["metrics"] = [
            {**asdict(m), "range": [None if math.isinf(bound) else bound for bound in m.range]}
            for m in row.metrics
        ]
        content["weights"] = [_weights_json(weights) for weights in row.weights]
    return content


def page(row: Row) -> Iterator[str]:
    """Yield the whole declaration for a reader, line by line."""
    if row.evaluator is None:
        raise EvaluatorError(row.reason)
    yield f"{row.entry.name} ({row.entry.origin}, {row.entry.target})"
    yield f"runs here: {row.state}{': ' + row.reason if row.reason else ''}"
    yield f"precisions: {', '.join(row.evaluator.dtypes)}"
    for metric in row.metrics:
        yield ""
        yield f"metric {metric.name}: {range_text(metric)}, {_better(metric)} is better"
        yield f"  {metric.description}"
        yield f"  unit:     {metric.unit}"
        yield f"  version:  {metric.version}"
        yield f"  summary:  {_SUMMARY[metric.aggregate]}"
        yield f"  source:   {metric.source}"
        yield f"  licence:  {metric.licence or 'not stated'}"
    for weights in row.weights:
        yield ""
        yield f"weights {_weights_text(weights)} in {weights.folder}"
        yield f"  source:   {weights.source}"
        yield f"  licence:  {weights.licence}"
        for file, _, here in _files(weights):
            yield f"  {'here:   ' if here else 'missing:'}  {file.path}"
            yield f"            {file.url}"


def range_text(metric: Metric) -> str:
    """Return a metric's range: ``0 to 1``, ``at least 0`` or ``any number``."""
    low, high = metric.range
    if math.isinf(low):
        return "any number" if math.isinf(high) else f"at most {high:g}"
    return f"at least {low:g}" if math.isinf(high) else f"{low:g} to {high:g}"


def size_text(size: float) -> str:
    """Return bytes for a reader: ``3.7 MB``."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def _better(metric: Metric) -> str:
    return "higher" if metric.higher_is_better else "lower"


def _metric_text(metric: Metric) -> str:
    return f"{metric.name} {'↑' if metric.higher_is_better else '↓'}"


def _fitting(names: Sequence[str], room: int) -> str:
    """Return the names that fit into ``room`` characters, and how many more there are."""
    texts = [", ".join(names)]
    texts += [f"{', '.join(names[:n])}, +{len(names) - n}" for n in range(len(names) - 1, 0, -1)]
    return next((text for text in texts if len(text) <= room), f"{len(names)} metrics")


def _state_text(row: Row) -> str:
    """Return whether it runs, and in short what it lacks."""
    if row.state == "named":
        return ""
    sets, reason = _to_fetch(row), row.reason.removeprefix(f"{row.entry} ")
    if row.state == "no":
        needs = reason.partition(" needs ")[2]
        size = _size_of(*sets).removeprefix("about ")
        reason = f"fetch {size}" if sets else f"needs {needs}" if needs else reason
    return row.state + (f": {reason}" if reason else "")


def _shortened(text: str, room: int) -> str:
    return textwrap.shorten(text, room, placeholder=" ...")


def _to_fetch(row: Row) -> list[Weights]:
    """Return the sets to fetch, if an evaluator lacks nothing else."""
    absent = [w for w in row.weights if w.missing() and w.folder_override is None]
    return absent if row.reason in map(_absence, absent) else []


def _absence(weights: Weights) -> str:
    try:
        weights.digests()
    except EvaluatorError as error:
        return str(error)
    return ""


def _files(weights: Weights) -> list[tuple[WeightFile, int | None, bool]]:
    """Return each file, its bytes here, else as published (None: not known), and if it is here."""
    absent = {file.path for file in weights.missing()}
    return [
        (file, file.size, False)
        if file.path in absent
        else (file, (weights.folder / file.path).stat().st_size, True)
        for file in weights.files
    ]


def _size_of(*sets: Weights) -> str:
    files = [(file, size) for weights in sets for file, size, _ in _files(weights)]
    sizes = [file.about if size is None else size for file, size in files]
    total = sum(size for size in sizes if size is not None)
    if None in sizes:
        return f"over {size_text(total)}" if total else "size not known"
    return ("about " if any(size is None for _, size in files) else "") + size_text(total)


def _weights_text(weights: Weights) -> str:
    return f"{weights.name} {_size_of(weights)}{' (missing)' if weights.missing() else ''}"


def _weights_json(weights: Weights) -> dict[str, Any]:
    files = [
        {"path": file.path, "url": file.url, "sha256": file.sha256, "size": size, "here": here}
        for file, size, here in _files(weights)
    ]
    declared = {"name": weights.name, "licence": weights.licence, "source": weights.source}
    return {**declared, "folder": str(weights.folder), "files": files}

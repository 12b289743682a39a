"""Evaluators and whether they can run here: for a terminal, a pipe and a program."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
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
_SUMMARY = {"mean": "mean over samples", "task_mean": "unweighted mean of the tasks' means"}


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
        """``yes``, ``no`` or ``broken``."""
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


def table(rows: Sequence[Row]) -> Table:
    """Return a table with a row per evaluator; :func:`reasons` and :func:`page` have the rest."""
    result = Table("runs", "evaluator", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in result.columns:
        column.no_wrap = True
    result.add_column("what it gives", ratio=1)
    for row in rows:
        result.add_row(_STATES[row.state], escape(row.entry.name), "\n".join(_summary(row)))
    return result


def reasons(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Yield why evaluators do not run here and what to do: names, and the reason they share."""
    absent = {row.entry.name: _to_fetch(row) for row in rows}
    waiting = [name for name, sets in absent.items() if sets]
    if waiting:
        sets = {weights.name: weights for name in waiting for weights in absent[name]}
        size = _size_of(*sets.values())
        yield (
            ", ".join(waiting),
            f"weights are missing ({size}): run `soar-bench fetch {' '.join(sets)}`",
        )
    by_reason: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: row.evaluator is None):  # the broken ones last
        if row.reason and not absent[row.entry.name]:
            by_reason.setdefault(row.reason, []).append(row.entry.name)
    for reason, names in by_reason.items():
        yield ", ".join(names), reason


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


def _summary(row: Row) -> list[str]:
    """Return lines of rich markup: each metric, its terms or those all share, the weights."""
    lines = []
    terms = [f"version {m.version}" + (f"; {m.licence}" if m.licence else "") for m in row.metrics]
    for metric, of_metric in zip(row.metrics, terms, strict=True):
        arrow = "↑" if metric.higher_is_better else "↓"
        unit = metric.unit.partition(";")[0]
        head = f"[bold]{escape(metric.name)}[/] {arrow} {range_text(metric)}, {escape(unit)}"
        lines += [head, f"[dim]{escape(of_metric)}[/]"]
    if len(set(terms)) == 1:
        lines = [*lines[::2], lines[1]]
    if row.weights:
        lines.append(f"[dim]weights {escape(', '.join(map(_weights_text, row.weights)))}[/]")
    return lines


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
    sizes = [size for weights in sets for _, size, _ in _files(weights)]
    total = sum(size for size in sizes if size is not None)
    if None not in sizes:
        return size_text(total)
    return f"over {size_text(total)}" if total else "size not known"


def _weights_text(weights: Weights) -> str:
    return f"{weights.name} {_size_of(weights)}{' (missing)' if weights.missing() else ''}"


def _weights_json(weights: Weights) -> dict[str, Any]:
    files = [
        {"path": file.path, "url": file.url, "sha256": file.sha256, "size": size, "here": here}
        for file, size, here in _files(weights)
    ]
    declared = {"name": weights.name, "licence": weights.licence, "source": weights.source}
    return {**declared, "folder": str(weights.folder), "files": files}

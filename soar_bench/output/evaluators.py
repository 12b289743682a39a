"""Evaluators and whether they can run here: for a terminal, a pipe and a program."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from evaluators import registry
from evaluators.registry import Entry
from evaluators.types import Evaluator, EvaluatorError, Metric
from evaluators.weights import Weights

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


def look(entry: Entry) -> Row:
    """Make and check an evaluator. Never fails."""
    try:
        evaluator = registry.make(entry)
    except EvaluatorError as error:
        return Row(entry, None, str(error))
    return Row(entry, evaluator, registry.cannot_run(evaluator))


def table(rows: Sequence[Row]) -> Table:
    """Return a table with a row per evaluator; :func:`reasons` and :func:`page` have the rest."""
    shown = Table("runs", "evaluator", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in shown.columns:
        column.no_wrap = True
    shown.add_column("what it gives", ratio=1)
    for row in rows:
        lines = _summary(row.evaluator) if row.evaluator else []
        shown.add_row(_STATES[row.state], escape(row.entry.name), "\n".join(lines))
    return shown


def reasons(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Yield why evaluators do not run here and what to do: names, and the reason they share."""
    absent = {row.entry.name: _to_fetch(row) for row in rows}
    waiting = [name for name, sets in absent.items() if sets]
    if waiting:
        sets = {weights.name: weights for name in waiting for weights in absent[name]}
        yield (
            ", ".join(waiting),
            f"weights are missing ({_size_of(sets.values())}): "
            f"run `soar-bench fetch {' '.join(sets)}`",
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
        weights = (
            ", ".join(_weights_text(w) for w in row.evaluator.weights) if row.evaluator else ""
        )
        metrics = row.evaluator.metrics if row.evaluator else ()
        for m in metrics:
            yield "\t".join(
                (row.entry.name, m.name, m.unit, range_text(m), _better(m), m.version, m.licence,
                 weights, state)
            )  # fmt: skip
        if not metrics:
            yield "\t".join((row.entry.name, *[""] * (len(PLAIN_HEADER) - 2), state))


def as_json(row: Row) -> dict[str, Any]:
    """Return the declaration and state in JSON's types; an infinite bound is null."""
    content: dict[str, Any] = {
        "name": row.entry.name,
        "origin": row.entry.origin,
        "target": row.entry.target,
        "state": row.state,
        "reason": row.reason,
    }
    if row.evaluator is not None:
        content["dtypes"] = list(row.evaluator.dtypes)
        content["metrics"] = [_metric_json(metric) for metric in row.evaluator.metrics]
        content["weights"] = [_weights_json(weights) for weights in row.evaluator.weights]
    return content


def page(row: Row) -> Iterator[str]:
    """Yield the whole declaration for a reader, line by line."""
    if row.evaluator is None:
        raise EvaluatorError(row.reason)
    yield f"{row.entry.name} ({row.entry.origin}, {row.entry.target})"
    yield f"runs here: {row.state}{': ' + row.reason if row.reason else ''}"
    yield f"precisions: {', '.join(row.evaluator.dtypes)}"
    for metric in row.evaluator.metrics:
        better = "higher" if metric.higher_is_better else "lower"
        yield ""
        yield f"metric {metric.name}: {range_text(metric)}, {better} is better"
        yield f"  {metric.description}"
        yield f"  unit:     {metric.unit}"
        yield f"  version:  {metric.version}"
        yield f"  summary:  {_SUMMARY[metric.aggregate]}"
        yield f"  source:   {metric.source}"
        yield f"  licence:  {metric.licence or 'not stated'}"
    for weights in row.evaluator.weights:
        here = {file.path for file in weights.files} - {file.path for file in weights.missing()}
        yield ""
        yield f"weights {_weights_text(weights)} in {weights.folder}"
        yield f"  source:   {weights.source}"
        yield f"  licence:  {weights.licence}"
        for file in weights.files:
            yield f"  {'here:   ' if file.path in here else 'missing:'}  {file.path}"
            yield f"            {file.url}"


def range_text(metric: Metric) -> str:
    """Return a metric's range: ``0 to 1``, ``at least 0`` or ``any number``."""
    low, high = metric.range
    if math.isinf(low) and math.isinf(high):
        return "any number"
    if math.isinf(high):
        return f"at least {low:g}"
    if math.isinf(low):
        return f"at most {high:g}"
    return f"{low:g} to {high:g}"


def size_text(size: int) -> str:
    """Return bytes for a reader: ``3.7 MB``."""
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"


def _better(metric: Metric) -> str:
    return "higher" if metric.higher_is_better else "lower"


def _summary(evaluator: Evaluator) -> list[str]:
    """Return lines of rich markup: each metric, what the metrics share, the weights."""
    lines = []
    terms = [_terms(metric) for metric in evaluator.metrics]
    for metric, own in zip(evaluator.metrics, terms, strict=True):
        arrow = "↑" if metric.higher_is_better else "↓"
        unit = metric.unit.partition(";")[0]
        head = f"[bold]{escape(metric.name)}[/] {arrow} {range_text(metric)}, {escape(unit)}"
        lines += [head, f"[dim]{escape(own)}[/]"]
    if len(set(terms)) == 1:
        lines = [*lines[::2], lines[1]]
    if evaluator.weights:
        sets = ", ".join(_weights_text(weights) for weights in evaluator.weights)
        lines.append(f"[dim]weights {escape(sets)}[/]")
    return lines


def _terms(metric: Metric) -> str:
    return f"version {metric.version}" + (f"; {metric.licence}" if metric.licence else "")


def _to_fetch(row: Row) -> list[Weights]:
    """Return the sets to fetch, if an evaluator lacks nothing else."""
    if row.evaluator is None:
        return []
    absent = [w for w in row.evaluator.weights if w.missing() and w.folder_override is None]
    return absent if row.reason in {_absence(weights) for weights in absent} else []


def _absence(weights: Weights) -> str:
    try:
        weights.digests()
    except EvaluatorError as error:
        return str(error)
    return ""


def _metric_json(metric: Metric) -> dict[str, Any]:
    bounds = [None if math.isinf(bound) else bound for bound in metric.range]
    return {**asdict(metric), "range": bounds}


def _sizes(weights: Weights) -> list[int | None]:
    """Return the bytes of each file here, else as published; None where neither is known."""
    absent = {file.path for file in weights.missing()}
    return [
        file.size if file.path in absent else (weights.folder / file.path).stat().st_size
        for file in weights.files
    ]


def _size_of(sets: Iterable[Weights]) -> str:
    sizes = [size for weights in sets for size in _sizes(weights)]
    known = sum(size for size in sizes if size is not None)
    if None not in sizes:
        return size_text(known)
    return f"over {size_text(known)}" if known else "size not known"


def _weights_text(weights: Weights) -> str:
    return f"{weights.name} {_size_of([weights])}{' (missing)' if weights.missing() else ''}"


def _weights_json(weights: Weights) -> dict[str, Any]:
    absent = {file.path for file in weights.missing()}
    return {
        "name": weights.name,
        "licence": weights.licence,
        "source": weights.source,
        "folder": str(weights.folder),
        "files": [
            {
                "path": file.path,
                "url": file.url,
                "sha256": file.sha256,
                "size": size,
                "here": file.path not in absent,
            }
            for file, size in zip(weights.files, _sizes(weights), strict=True)
        ],
    }

"""Records for a reader: a list, and everything of one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.markup import escape
from rich.table import Table

from soar_bench.boards.compare import metrics_of, primary_metric
from soar_bench.records import Run
from soar_bench.records.manage import Found, reasons
from soar_bench.records.model import EvaluatorRecord, MadeRecord
from soar_bench.records.verify import Finding

HEADER = ("run", "checkpoint", "suite", "protocol", "metric", "value", "standard error", "n",
          "unscored", "date")  # fmt: skip
_COUNTED = ("n", "unscored")


def table(found: Sequence[Found]) -> Table:
    """One row a run with its primary metric; a broken one says so in the place of its value."""
    shown = Table(box=None, pad_edge=False)
    for name in ("run", "checkpoint", "suite", "protocol", "metric", "value ± s.e.", "n",
                 "unscored", "date"):  # fmt: skip
        shown.add_column(
            name,
            justify="right" if name in _COUNTED else "left",
            overflow="fold",
            no_wrap=name in ("run", "value ± s.e.", *_COUNTED),
        )
    for one in found:
        if one.run is None or one.fault:
            where = escape(one.folder.parent.name), escape(one.folder.parent.parent.name)
            shown.add_row(escape(one.id), escape(one.label), where[1], where[0], "[red]broken[/]")
            continue
        row = _row(one, one.run)
        value = _with_error(row["value"], row["standard error"])
        shown.add_row(
            *(escape(str(row[name])) for name in HEADER[:5]),
            value,
            *(str(row[name]) for name in HEADER[7:]),
        )
    return shown


def plain(found: Sequence[Found]) -> Iterator[str]:
    """A line a run, with tabs between the fields of :data:`HEADER`; of a broken one its id, label
    and ``broken`` with the reason.
    """
    yield "\t".join(HEADER)
    for one in found:
        if one.run is None or one.fault:
            yield "\t".join((one.id, _line(one.label), f"broken: {_line(one.fault)}"))
            continue
        row = _row(one, one.run)
        yield "\t".join(_line("" if row[name] is None else str(row[name])) for name in HEADER)


def faults(found: Sequence[Found]) -> list[str]:
    """Why records are broken, a sentence each."""
    return [one.fault for one in found if one.fault]


def rows_json(found: Sequence[Found]) -> list[dict[str, Any]]:
    """The list for a program: the fields of :data:`HEADER`, the folder, and ``fault``."""
    rows = []
    for one in found:
        row: dict[str, Any] = dict.fromkeys(HEADER)
        row |= {"run": one.id, "checkpoint": one.label}
        if one.run is not None:
            row |= _row(one, one.run)
        row |= {"folder": str(one.folder), "fault": one.fault}
        rows.append({key.replace(" ", "_"): value for key, value in row.items()})
    return rows


def _row(one: Found, run: Run) -> dict[str, Any]:
    record = run.record
    metric, _ = primary_metric(run)
    summary = record.metrics.get(metric)
    return {
        "run": one.id,
        "checkpoint": run.label,
        "suite": record.suite.name,
        "protocol": record.protocol.name,
        "metric": metric,
        "value": summary.value if summary else None,
        "standard error": summary.standard_error if summary else None,
        "n": summary.scored if summary else "",
        "unscored": summary.unscored if summary else "",
        "date": record.made.finished[:10],
    }


def _line(text: str) -> str:
    return " ".join(text.split())


def _with_error(value: float | None, error: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if error is None else f"{value:.3f} ± {error:.3f}"


def page(one: Found, run: Run, scores: pd.DataFrame | None) -> Iterator[str]:
    """Everything of a record, line by line; ``scores`` None where they cannot be read."""
    record = run.record
    checkpoint, suite = record.checkpoint, record.suite
    yield f"{run.label} on {suite.name} under {record.protocol.name}"
    yield f"  {one.folder}"
    yield ""
    yield f"checkpoint {checkpoint.name} ({checkpoint.form})"
    yield f"  digest    {checkpoint.digest}"
    if checkpoint.revision:
        yield f"  revision  {checkpoint.revision}"
    if checkpoint.base:
        yield f"  base      {checkpoint.base.name} ({checkpoint.base.digest})"
    yield from _training(run)
    if run.imported:
        for key, value in checkpoint.story.items():
            yield f"  {key}  {_settings(value)}"
    yield ""
    yield f"suite {suite.name}" + (f" ({suite.source})" if suite.source else "")
    yield f"  digest    {suite.digest}"
    seed = "" if suite.seed is None else f", seed {suite.seed}"
    yield f"  {suite.prompts} prompts, {suite.images_per_prompt} images each{seed}"
    yield ""
    yield f"protocol {record.protocol.name}"
    yield f"  {_settings(record.protocol.settings)}"
    yield ""
    yield from _evaluators(record.evaluators)
    yield from _metrics(run)
    yield from _unscored(scores)
    yield from _made(record.made)
    yield f"scores {record.scores.rows} rows, SHA-256 {record.scores.sha256}"


def page_json(one: Found, scores: pd.DataFrame | None) -> dict[str, Any]:
    """The same for a program."""
    return {
        "id": one.id,
        "folder": str(one.folder),
        "fault": one.fault,
        "record": one.run.record.as_json() if one.run else None,
        "unscored": None if scores is None else reasons(scores),
    }


def findings(found: Sequence[Found], checked: Mapping[str, Sequence[Finding]]) -> Iterator[str]:
    """What was verified: a line a record with the checks that passed, and one for each other."""
    for one in found:
        every = checked[one.id]
        passed = [finding.check for finding in every if finding.state == "ok"]
        worst = "WRONG" if any(finding.state == "wrong" for finding in every) else "ok"
        yield f"{one.id}  {_line(one.label)}  {worst}: {', '.join(passed) or 'nothing'} checked"
        for finding in every:
            if finding.state != "ok":
                yield f"  {finding.state}: {finding.check}: {_line(finding.text)}"


def _training(run: Run) -> Iterator[str]:
    story = run.training
    if not story:
        return
    yield f"  trained   {story['method']}, step {story['step']}, seed {story['seed']}"
    data = story["data"]
    yield f"  on        {data.get('name', '')} ({data.get('digest', '')})"
    yield f"  settings  {_settings(story['config'])}"


def _evaluators(evaluators: Mapping[str, EvaluatorRecord]) -> Iterator[str]:
    for name, evaluator in evaluators.items():
        of = f" {evaluator.version}" if evaluator.version else ""
        given = f", given as {evaluator.given}" if evaluator.given != name else ""
        yield f"evaluator {name}{of}{given}"
        for metric, declared in evaluator.metrics.items():
            better = "higher" if declared.higher_is_better else "lower"
            yield (
                f"  {metric}: {declared.unit}, {better} is better, version "
                f"{declared.version}; {declared.source}"
            )
        for key, value in evaluator.identity.items():
            yield f"  {key}  {value}"
        yield ""


def _metrics(run: Run) -> Iterator[str]:
    for metric, _ in metrics_of(run):
        found = run.record.metrics.get(metric)
        if found is None:
            yield f"metric {metric}: not recorded"
            continue
        value = _with_error(found.value, found.standard_error)
        yield f"metric {metric}: {value}, n {found.scored}, unscored {found.unscored}"
        named = {task: mean for task, mean in found.tasks.items() if task}
        width = max(map(len, named), default=0)
        for task, mean in named.items():
            yield f"  {task:{width}}  {mean:.3f}"
    yield ""


def _unscored(scores: pd.DataFrame | None) -> Iterator[str]:
    if scores is None:
        return
    found = reasons(scores)
    for metric, why in found.items():
        for reason, count in why.items():
            yield f"unscored {metric}: {count} × {_line(reason)}"
    if found:
        yield ""


def _made(made: MadeRecord) -> Iterator[str]:
    yield f"made {made.started or '?'} to {made.finished or '?'}"
    for key, value in sorted(made.model_dump(exclude_unset=True).items()):
        if key not in ("started", "finished"):
            yield f"  {key:10}  {_settings(value) if isinstance(value, dict) else value}"


def _settings(settings: Any) -> str:
    if not isinstance(settings, dict):
        return str(settings)
    return ", ".join(f"{key} {_word(value)}" for key, value in sorted(settings.items()))


def _word(value: Any) -> str:
    nested = isinstance(value, dict | list)
    return json.dumps(value, ensure_ascii=False) if nested else str(value)

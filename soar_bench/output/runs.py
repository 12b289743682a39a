"""Records for a reader: a list, and all that one record says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Group, JustifyMethod
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from soar_bench.records import Run, metrics_of, primary_metric
from soar_bench.records.folders import Entry
from soar_bench.records.model import EvaluatorRecord, MadeRecord
from soar_bench.records.verify import Finding

HEADER = ("run", "checkpoint", "suite", "protocol", "metric", "value", "standard error", "n",
          "unscored", "date")  # fmt: skip


def table(entries: Sequence[Entry]) -> Group:
    """Return a title and a table per suite, protocol and primary metric: one row per run; a broken
    one says so instead.
    """
    tables: dict[str, Table] = {}
    for entry in entries:
        run = None if entry.fault else entry.run
        row = _row(entry, run) if run else {}
        protocol = entry.folder.parent
        names = (row.get("suite", protocol.parent.name), row.get("protocol", protocol.name))
        place = _line(" under ".join(map(str, names)) + (f": {row['metric']}" if row else ""))
        if place not in tables:
            tables[place] = Table(box=None, pad_edge=False)
            for name in ("run", "checkpoint", "value ± s.e.", "n", "date"):
                justify: JustifyMethod = "right" if name == "n" else "left"
                whole = name not in ("run", "checkpoint")  # a run may need its path to be told
                tables[place].add_column(name, justify=justify, overflow="fold", no_wrap=whole)
        first = (escape(entry.id), escape(entry.label))
        if not run:
            tables[place].add_row(*first, "[red]broken[/]")
            continue
        unscored = f" (+{row['unscored']} unscored)" if row["unscored"] else ""
        value = _with_error(row["value"], row["standard error"])
        tables[place].add_row(*first, value, f"{row['n']}{unscored}", str(row["date"]))
    # a table's own title would be folded to its width
    return Group(*(part for place in tables for part in (Text(place, "italic"), tables[place])))


def plain(entries: Sequence[Entry]) -> Iterator[str]:
    """Yield a line per run, with tabs between the fields of :data:`HEADER`.

    A broken one has its id, label and ``broken`` with the reason.
    """
    yield "\t".join(HEADER)
    for entry in entries:
        if entry.run is None or entry.fault:
            yield "\t".join((entry.id, _line(entry.label), f"broken: {_line(entry.fault)}"))
            continue
        row = _row(entry, entry.run)
        yield "\t".join(_line("" if row[name] is None else str(row[name])) for name in HEADER)


def rows_json(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return the list for a program: the fields of :data:`HEADER`, ``folder`` and ``fault``."""
    rows = []
    for entry in entries:
        row = dict.fromkeys(HEADER) | {"run": entry.id, "checkpoint": entry.label}
        row |= _row(entry, entry.run) if entry.run else {}
        row |= {"folder": str(entry.folder), "fault": entry.fault}
        rows.append({key.replace(" ", "_"): value for key, value in row.items()})
    return rows


def _row(entry: Entry, run: Run) -> dict[str, Any]:
    record = run.record
    metric, _ = primary_metric(run)
    summary = record.metrics.get(metric)
    numbers: tuple[object, ...] = (None, None, "", "")
    if summary:
        numbers = (summary.value, summary.standard_error, summary.scored, summary.unscored)
    names = (entry.id, entry.label, record.suite.name, record.protocol.name, metric)
    return dict(zip(HEADER, (*names, *numbers, record.made.finished[:10]), strict=True))


def _line(text: str) -> str:
    return " ".join(text.split())


def _with_error(value: float | None, error: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if error is None else f"{value:.3f} ± {error:.3f}"


def page(entry: Entry, run: Run, scores: pd.DataFrame | None) -> Iterator[str]:
    """Yield all that a record says; ``scores`` is None where they cannot be read."""
    record = run.record
    checkpoint, suite = record.checkpoint, record.suite
    yield f"{run.label} on {record.title}"
    yield f"  {entry.folder}"
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


def page_json(entry: Entry, scores: pd.DataFrame | None) -> dict[str, Any]:
    """Return the same for a program."""
    record = entry.run.record.as_json() if entry.run else None
    unscored = None if scores is None else unscored_reasons(scores)
    content = {"id": entry.id, "folder": str(entry.folder), "fault": entry.fault}
    return {**content, "record": record, "unscored": unscored}


def findings(entries: Sequence[Entry], checked: Mapping[str, Sequence[Finding]]) -> Iterator[str]:
    """Yield a line per record with the checks that passed, and one for each other check."""
    for entry in entries:
        outcomes = checked[entry.id]
        passed = [finding.check for finding in outcomes if finding.state == "ok"]
        worst = "WRONG" if any(finding.state == "wrong" for finding in outcomes) else "ok"
        yield f"{entry.id}  {_line(entry.label)}  {worst}: {', '.join(passed) or 'nothing'} checked"
        for finding in outcomes:
            if finding.state != "ok":
                yield f"  {finding.state}: {finding.check}: {_line(finding.text)}"


def _training(run: Run) -> Iterator[str]:
    """Yield how it was trained, then what that training went on from, back to the pipeline."""
    story, verb = run.training, "trained"
    while story:
        yield f"  {verb:9} {story['method']}, step {story['step']}, seed {story['seed']}"
        data = story["data"]
        yield f"  on        {data.get('name', '')} ({data.get('digest', '')})"
        yield f"  settings  {_settings(story['config'])}"
        story, verb = story["base"].get("story", {}), "before"


def _evaluators(evaluators: Mapping[str, EvaluatorRecord]) -> Iterator[str]:
    for name, evaluator in evaluators.items():
        version = f" {evaluator.version}" if evaluator.version else ""
        alias = f", given as {evaluator.given}" if evaluator.given != name else ""
        yield f"evaluator {name}{version}{alias}"
        for metric, declared in evaluator.metrics.items():
            better = "higher" if declared.higher_is_better else "lower"
            unit = f"{declared.unit}, {better} is better"
            yield f"  {metric}: {unit}, version {declared.version}; {declared.source}"
        for key, value in evaluator.identity.items():
            yield f"  {key}  {value}"
        yield ""


def _metrics(run: Run) -> Iterator[str]:
    for metric, _ in metrics_of(run):
        summary = run.record.metrics.get(metric)
        if summary is None:
            yield f"metric {metric}: not recorded"
            continue
        value = _with_error(summary.value, summary.standard_error)
        yield f"metric {metric}: {value}, n {summary.scored}, unscored {summary.unscored}"
        named = {task: mean for task, mean in summary.tasks.items() if task}
        width = max(map(len, named), default=0)
        for task, mean in named.items():
            yield f"  {task:{width}}  {mean:.3f}"
    yield ""


def _unscored(scores: pd.DataFrame | None) -> Iterator[str]:
    reasons = {} if scores is None else unscored_reasons(scores)
    for metric, counts in reasons.items():
        for reason, count in counts.items():
            yield f"unscored {metric}: {count} × {_line(reason)}"
    if reasons:
        yield ""


def unscored_reasons(scores: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Return, by metric, why samples are unscored and how many, the most frequent reason first."""
    unscored = scores[scores["unscored"] != ""]
    return {
        str(metric): dict(Counter(rows["unscored"]).most_common())
        for metric, rows in unscored.groupby("metric", sort=False)
    }


def _made(made: MadeRecord) -> Iterator[str]:
    yield f"made {made.started or '?'} to {made.finished or '?'}"
    details = made.model_dump(exclude_unset=True, exclude={"started", "finished"})
    for key, value in sorted(details.items()):
        yield f"  {key:10}  {_settings(value)}"


def _settings(settings: Any) -> str:
    if not isinstance(settings, dict):
        return str(settings)
    return ", ".join(f"{key} {_word(value)}" for key, value in sorted(settings.items()))


def _word(value: Any) -> str:
    nested = isinstance(value, dict | list)
    return json.dumps(value, ensure_ascii=False) if nested else str(value)

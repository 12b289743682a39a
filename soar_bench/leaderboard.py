"""``leaderboard.md``: a page made from the records in ``results/`` and from nothing else.

The same records give the same bytes: rows are ordered by value and name, and no clock is read.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from soar_bench.compare import (
    CONFIDENCE,
    Entrant,
    entrants,
    format_difference,
    format_value,
    metrics_of,
    primary_metric,
)
from soar_bench.markdown import escape, table
from soar_bench.records import Run
from soar_bench.stats import Estimate, paired_difference

_INTRODUCTION = """\
# Leaderboard

Made from the records in `{results}` by `soar-bench leaderboard`; do not edit. Values are means ±
standard error, which treats the images of one prompt as one cluster and, where there are several
training seeds, holds their spread too. Differences are to the base that a checkpoint was trained
from, paired on the same prompts and noise, with their 95% interval; **bold** where that excludes
zero. Values stand beside each other only if suite, settings and evaluator versions are the same.
"""


def leaderboard(runs: Sequence[Run], results: Path, page: Path) -> str:
    """The page's text; links to the records are relative to ``page``."""
    boards: dict[str, list[Run]] = {}
    for run in runs:
        boards.setdefault(run.board, []).append(run)
    where = _relative(results, page)
    sections = [_INTRODUCTION.format(results=where)]
    for group in sorted(boards.values(), key=_board_order):
        sections.append(_section(group, page))
    return "\n".join(sections)


def _board_order(group: list[Run]) -> tuple[str, str, int, str]:
    record = group[0].record
    return (
        record["suite"]["name"],
        record["protocol"]["name"],
        record["suite"]["images_per_prompt"],
        group[0].board,
    )


def _relative(path: Path, page: Path) -> str:
    return Path(os.path.relpath(path.resolve(), page.resolve().parent)).as_posix()


def _section(group: list[Run], page: Path) -> str:
    first = group[0]
    suite, protocol = first.record["suite"], first.record["protocol"]
    settings = escape(", ".join(f"{k} {v}" for k, v in _shown(protocol["settings"])))
    metrics = list(metrics_of(first))
    primary, declared = primary_metric(first)
    board = sorted(entrants(sorted(group, key=lambda r: r.folder.as_posix())), key=lambda e: e.name)
    values = {id(e): e.value(primary, declared["aggregate"]) for e in board}
    sign = -1 if declared["higher_is_better"] else 1
    board.sort(key=lambda e: (_last(sign * values[id(e)].value), e.name))
    bases = {
        e.runs[0].record["checkpoint"]["digest"]: e
        for e in board
        if e.runs[0].seed is None and not e.runs[0].imported
    }

    header = ["", "checkpoint", "seeds"]
    for name, metric in metrics:
        arrow = "↑" if metric["higher_is_better"] else "↓"
        header += [f"{escape(name)} {arrow}"]
        if bases:
            header += ["difference"]
    header += ["samples", "unscored", "records"]
    rows = []
    for rank, entrant in enumerate(board, start=1):
        row = [str(rank), escape(entrant.name), str(len(entrant.runs))]
        for name, metric in metrics:
            row.append(format_value(entrant.value(name, metric["aggregate"])))
            if bases:
                base = bases.get(_base_of(entrant))
                row.append(_difference(entrant, base, name, metric["aggregate"]))
        value = values[id(entrant)]
        row += [str(value.scored), str(value.unscored), _links(entrant, page)]
        rows.append(row)
    title = f"## {escape(suite['name'])} under {escape(protocol['name'])}\n"
    seed = "" if first.imported else f", seed {suite['seed']}"
    facts = (
        f"{suite['prompts']} prompts, {suite['images_per_prompt']} images each{seed}; "
        f"{settings}. Ranked by {escape(primary)}.\n"
    )
    text = f"{title}\n{facts}\n{table(header, rows, right=(0, 2))}"
    if declared["aggregate"] == "task_mean":
        text += f"\n{escape(primary)} by task:\n\n" + _by_task(board, primary)
    return text


def _shown(settings: dict[str, Any]) -> list[tuple[str, Any]]:
    """Settings by name; the precision of decoding only where it is another than the rest's."""
    same = settings.get("vae_dtype") == settings.get("dtype")
    return [(k, v) for k, v in sorted(settings.items()) if not (same and k == "vae_dtype")]


def _last(value: float) -> float:
    """Sorts what has no value behind what has one."""
    return math.inf if math.isnan(value) else value


def _base_of(entrant: Entrant) -> str:
    """The digest of the base a checkpoint stands on; empty for a base."""
    return entrant.runs[0].base


def _difference(entrant: Entrant, base: Entrant | None, metric: str, aggregate: str) -> str:
    if base is None:
        return "-"
    found: Estimate = paired_difference(entrant.of(metric), base.of(metric), aggregate)
    low, high = found.interval(CONFIDENCE)
    text = format_difference(found)
    return f"**{text}**" if low > 0 or high < 0 else text


def _links(entrant: Entrant, page: Path) -> str:
    links = []
    for run in entrant.runs:
        name = "run" if run.seed is None else f"seed {run.seed}"
        links.append(f"[{name}](<{_relative(run.folder, page)}>)")
    return ", ".join(links)


def _by_task(board: Sequence[Entrant], metric: str) -> str:
    tasks = list(dict.fromkeys(task for e in board for s in e.of(metric) for task in s["task"]))
    rows = []
    for entrant in board:
        row = [escape(entrant.name)]
        for task in tasks:
            seeds = [scores[scores["task"] == task] for scores in entrant.of(metric)]
            row.append(
                format_value(
                    Entrant(entrant.name, entrant.runs, tuple(seeds)).value(metric, "mean")
                )
            )
        rows.append(row)
    return table(["checkpoint", *(escape(t) for t in tasks)], rows)

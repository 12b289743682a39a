"""Checkpoints side by side: values with standard errors, and paired differences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from soar_bench.records import Run
from soar_bench.stats import Estimate, over_seeds, paired_difference
from soar_bench.types import SoarBenchError
from training.differences import differences

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Entrant:
    """One row of a board: a checkpoint, or the seeds of one training."""

    name: str
    runs: tuple[Run, ...]
    #: the runs' scores, in the same order
    scores: tuple[pd.DataFrame, ...]

    def of(self, metric: str) -> list[pd.DataFrame]:
        return [scores[scores["metric"] == metric] for scores in self.scores]

    def value(self, metric: str, aggregate: str) -> Estimate:
        return over_seeds(self.of(metric), aggregate)


def entrants(runs: Sequence[Run]) -> list[Entrant]:
    """Groups runs that differ by training seed alone; checkpoints that were not trained come first.

    The same checkpoint twice counts once; two checkpoints of one training and seed are refused,
    because they would pass for two seeds. Entrants of one name are told apart by their step or, if
    that does not, by a part of their digest.
    """
    groups: dict[str, dict[str, Run]] = {}
    for run in sorted(runs, key=lambda run: run.seed is not None):
        group = groups.setdefault(run.group, {})
        digest = run.record["checkpoint"]["digest"]
        twin = next((r for d, r in group.items() if d != digest and r.seed == run.seed), None)
        if twin is not None:
            raise SoarBenchError(
                f"{twin.folder} and {run.folder} are two checkpoints of one training and seed: "
                "remove one of them"
            )
        group.setdefault(digest, run)
    members = {
        key: sorted(group.values(), key=lambda r: r.seed or 0) for key, group in groups.items()
    }
    names = _tell_apart({key: group[0] for key, group in members.items()})
    return [
        Entrant(names[key], tuple(group), tuple(run.scores() for run in group))
        for key, group in members.items()
    ]


def _tell_apart(first: Mapping[str, Run]) -> dict[str, str]:
    """A name for each group: its own, with what tells it apart where another has the same."""
    names = {key: run.name for key, run in first.items()}
    steps = {
        key: "" if run.imported else f", step {run.training.get('step', 0)}"
        for key, run in first.items()
    }
    parts = {key: f" ({key[:6]})" for key in first}
    for suffix in (steps, parts):
        times = Counter(names.values())
        names = {k: name + suffix[k] if times[name] > 1 else name for k, name in names.items()}
    return names


def metrics_of(run: Run) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each metric of a run with its declaration, in a fixed order."""
    for evaluator in sorted(run.record["evaluators"].values(), key=lambda e: min(e["metrics"])):
        yield from sorted(evaluator["metrics"].items())


def primary_metric(run: Run) -> tuple[str, dict[str, Any]]:
    """The metric to rank by: the one that counts tasks, or else the first."""
    metrics = list(metrics_of(run))
    return next((m for m in metrics if m[1]["aggregate"] == "task_mean"), metrics[0])


def check_same_board(runs: Sequence[Run]) -> None:
    """Raises SoarBenchError naming the settings in which runs differ that must not."""
    first = runs[0]
    for run in runs[1:]:
        if run.board != first.board:
            different = [
                f"{name}: {left} and {right}"
                for name, left, right in differences(first.decides, run.decides)
            ]
            raise SoarBenchError(
                f"{first.label} and {run.label} were not measured alike and cannot be compared "
                f"({'; '.join(different)})"
            )


@dataclass(frozen=True)
class Row:
    """One metric of one entrant, and how it differs from the first entrant."""

    metric: str
    entrant: str
    value: Estimate
    #: paired difference to the first entrant; None for the first itself
    difference: Estimate | None
    verdict: str


def compare(board: Sequence[Entrant]) -> list[Row]:
    """Every metric of every entrant against the first entrant."""
    check_same_board([run for entrant in board for run in entrant.runs])
    rows = []
    for metric, declared in metrics_of(board[0].runs[0]):
        aggregate = declared["aggregate"]
        for entrant in board:
            difference = None
            if entrant is not board[0]:
                difference = paired_difference(entrant.of(metric), board[0].of(metric), aggregate)
            rows.append(
                Row(
                    metric,
                    entrant.name,
                    entrant.value(metric, aggregate),
                    difference,
                    verdict(difference, declared["higher_is_better"]),
                )
            )
    return rows


def verdict(difference: Estimate | None, higher_is_better: bool) -> str:
    """The difference in plain words; "better" and "worse" only where the interval excludes 0."""
    if difference is None:
        return ""
    low, high = difference.interval(CONFIDENCE)
    if not difference.scored:
        return "nothing in common to compare"
    if low != low:
        return "too few prompts or seeds to tell"
    if low <= 0 <= high:
        return "no evidence of a difference at this size"
    return "better" if (low > 0) == higher_is_better else "worse"


def format_value(found: Estimate) -> str:
    if not found.scored:
        return "-"
    if found.standard_error != found.standard_error:
        return f"{found.value:.3f}"
    return f"{found.value:.3f} ± {found.standard_error:.3f}"


def format_difference(found: Estimate | None) -> str:
    if found is None or not found.scored:
        return "-"
    low, high = found.interval(CONFIDENCE)
    if low != low:
        return f"{found.value:+.3f}"
    return f"{found.value:+.3f} [{low:+.3f}, {high:+.3f}]"


HEADER = ("metric", "checkpoint", "value ± s.e.", "n", "seeds", "difference [95%]", "verdict")


def cells(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """The table's text, a tuple a row under :data:`HEADER`."""
    return [
        (
            row.metric,
            row.entrant,
            format_value(row.value),
            str(row.value.scored)
            + (f" (+{row.value.unscored} unscored)" if row.value.unscored else ""),
            str(row.value.seeds),
            format_difference(row.difference),
            row.verdict,
        )
        for row in rows
    ]


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """The comparison in numbers, one row a metric and checkpoint."""
    records = []
    for row in rows:
        low, high = row.difference.interval(CONFIDENCE) if row.difference else (None, None)
        records.append(
            {
                "metric": row.metric,
                "checkpoint": row.entrant,
                "value": row.value.value,
                "standard_error": row.value.standard_error,
                "scored": row.value.scored,
                "unscored": row.value.unscored,
                "prompts": row.value.prompts,
                "seeds": row.value.seeds,
                "seed_deviation": row.value.seed_deviation,
                "difference": row.difference.value if row.difference else None,
                "difference_low": low,
                "difference_high": high,
                "p_value": row.difference.p_value() if row.difference else None,
                "verdict": row.verdict,
            }
        )
    return pd.DataFrame(records)

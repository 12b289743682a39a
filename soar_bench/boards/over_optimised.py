"""Verdicts on reward hacking: a reward that rose while a metric that is not a reward fell."""

from __future__ import annotations

from collections.abc import Sequence

from soar_bench.boards.entrants import Entrant
from soar_bench.boards.rows import BETTER, WORSE, Row
from soar_bench.boards.words import format_difference, line
from soar_bench.records import Run


def over_optimised(entrants: Sequence[Entrant], rows: Sequence[Row]) -> list[str]:
    """Return a sentence for each entrant that was trained on a reward which is among the rows and
    is significantly better there than the first entrant, with the rows' intervals.

    ``rows`` are those of all metrics: verdicts are corrected for all of them.
    """
    sentences = []
    for entrant in entrants[1:]:
        own = [row for row in rows if row.entrant == entrant.name and row.difference is not None]
        rewards = rewarded(entrant.first)
        risen = [row for row in own if row.metric in rewards and row.verdict.startswith(BETTER)]
        watching = [row for row in own if row.metric not in rewards]
        if risen:
            sentences.append(_sentence(entrant, entrants[0].name, risen, watching))
    return sentences


def rewarded(run: Run) -> set[str]:
    """Return the metrics of the run that its checkpoint was trained to raise."""
    if not run.training:
        return set()
    weights = run.training["config"].get("rewards", {})
    metrics: set[str] = set()
    for name, weight in weights.items():
        head, _, metric = name.rpartition("/")
        if weight <= 0:
            continue
        if head and ".py" not in metric:
            metrics.add(metric)
            continue
        for evaluator, record in run.record.evaluators.items():
            if name in (evaluator, record.given):
                main = evaluator.replace("-", "_")
                single = len(record.metrics) == 1
                metrics |= set(record.metrics) if single else {main} & set(record.metrics)
    return metrics


def _sentence(
    entrant: Entrant, reference: str, risen: Sequence[Row], watching: Sequence[Row]
) -> str:
    fallen = [row for row in watching if row.verdict.startswith(WORSE)]
    up = f"{line(entrant.name)} was trained on {_changes(risen)} over {line(reference)}"
    if fallen:
        names = " and ".join(line(row.metric) for row in fallen)
        return (
            f"Reward up, {names} down: likely over-optimised. {up}, and fell in {_changes(fallen)}."
        )
    if watching:
        names = ", ".join(line(row.metric) for row in watching)
        return f"{up}; what watched it did not fall significantly ({names})."
    return f"{up}; no other metric was measured, so over-optimisation could not be seen."


def _changes(rows: Sequence[Row]) -> str:
    return " and ".join(
        f"{line(row.metric)} ({format_difference(row.difference, row.interval)})" for row in rows
    )

"""From the scores of a run to the table and the figures of its record."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd

from soar_bench.records import score_frame
from soar_bench.scoring.judges import Judge
from soar_bench.scoring.scores import Judged
from soar_bench.suites.types import PlannedSample


def score_table(
    samples: Sequence[PlannedSample], judged: Judged, noise: Callable[[PlannedSample], str]
) -> pd.DataFrame:
    """One row per sample and metric, in the order of the samples; ``noise`` fills its column."""
    rows: list[dict[str, Any]] = []
    for results in judged.results.values():
        for metric in results[0] if results else ():
            for sample, digest, scores in zip(samples, judged.digests, results, strict=True):
                score = scores[metric]
                rows.append(
                    {
                        "prompt_id": sample.prompt.id,
                        "index": sample.index,
                        "task": sample.prompt.task,
                        "prompt": sample.prompt.text,
                        "noise": noise(sample),
                        "image": digest,
                        "metric": metric,
                        "value": score.value,
                        "unscored": score.unscored,
                        "details": json.dumps(dict(score.details), ensure_ascii=False),
                    }
                )
    return score_frame(rows)


def summaries(judges: Iterable[Judge], scores: pd.DataFrame) -> dict[str, Any]:
    """Value of each metric over the samples."""
    from soar_bench.stats import estimate

    metrics: dict[str, Any] = {}
    for judge in judges:
        for metric in judge.evaluator.metrics:
            rows = scores[scores["metric"] == metric.name]
            overall = estimate(rows, metric.aggregate)
            metrics[metric.name] = {
                "value": _plain(overall.value),
                "standard_error": _plain(overall.standard_error),
                "scored": overall.scored,
                "unscored": overall.unscored,
                "tasks": {
                    task: float(group["value"].mean())
                    for task, group in rows.groupby("task")
                    if group["value"].notna().any()
                },
            }
    return metrics


def _plain(value: float) -> float | None:
    """NaN has no place in JSON."""
    return None if value != value else value

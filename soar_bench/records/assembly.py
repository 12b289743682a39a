"""From the scores of a run to the table and the figures of its record."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from soar_bench.records.model import EvaluatorRecord, MetricRecord, MetricSummary
from soar_bench.records.run import score_frame
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


def evaluator_record(judge: Judge) -> EvaluatorRecord:
    """Return what the record says of an evaluator."""
    return EvaluatorRecord(
        given=judge.given,
        version=judge.version,
        identity=judge.identity,
        metrics={metric.name: MetricRecord.of(metric) for metric in judge.evaluator.metrics},
    )


def summaries(
    scores: pd.DataFrame, evaluators: Mapping[str, EvaluatorRecord]
) -> dict[str, MetricSummary]:
    """Each metric's value over all samples, for the record."""
    from soar_bench.stats import estimate

    metrics = {}
    for evaluator in evaluators.values():
        for metric, declared in evaluator.metrics.items():
            rows = scores[scores["metric"] == metric]
            value = estimate(rows, declared.aggregate)
            tasks = rows.dropna(subset=["value"]).groupby("task")["value"].mean()
            metrics[metric] = MetricSummary(
                value=None if math.isnan(value.value) else value.value,
                standard_error=(None if math.isnan(value.standard_error) else value.standard_error),
                scored=value.scored,
                unscored=value.unscored,
                tasks={str(task): float(mean) for task, mean in tasks.items()},
            )
    return metrics

"""From the scores of a run to the table and the figures of its record."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from evaluators.types import Score, SetEvaluator
from soar_bench.core.images import READING
from soar_bench.records.model import (
    IMAGES,
    IMPORTED,
    EvaluatorRecord,
    MetricRecord,
    MetricSummary,
    RunDraft,
)
from soar_bench.records.run import ranked_by, rows_of, score_frame, suite_evaluators
from soar_bench.sampling.generate import Generation
from soar_bench.scoring.images import ImageSet
from soar_bench.scoring.judges import Judge
from soar_bench.scoring.scores import Judged
from soar_bench.suites.types import PlannedSample, Prompt

#: Stands in place of the settings of generation, so that a comparison with generated runs is
#: refused.
_NOT_GENERATED: dict[str, Any] = {
    "name": "images",
    "settings": {"images": "scored, not made here", "reading": READING},
}


def draft(source: Generation | ImageSet, judges: Sequence[Judge], scores: pd.DataFrame) -> RunDraft:
    """Return the identity of a run and its figures: equal for equal runs, whenever made."""
    evaluators = {judge.name: evaluator_record(judge) for judge in judges}
    figures = {"evaluators": evaluators, "metrics": summaries(scores, evaluators)}
    record = RunDraft.model_validate(subject(source) | figures)
    metrics = [metric for judge in judges for metric in judge.evaluator.metrics]
    first = metrics[0].name
    by_task = any(metric.aggregate == "task_mean" for metric in metrics)
    if by_task or suite_evaluators(record.suite.name) or first == ranked_by(record):
        return record
    suite = record.suite.model_copy(update={"primary": first})
    return record.model_copy(update={"suite": suite})


def subject(source: Generation | ImageSet) -> dict[str, Any]:
    """Return a record's parts ``checkpoint``, ``suite`` and ``protocol``."""
    return _generated(source) if isinstance(source, Generation) else _imported(source)


def _generated(source: Generation) -> dict[str, Any]:
    checkpoint, suite, base = source.checkpoint, source.suite, source.checkpoint.base
    return {
        "checkpoint": {
            "label": checkpoint.label, "name": checkpoint.name, "form": checkpoint.form,
            "digest": checkpoint.digest, "revision": checkpoint.revision,
            "base": None if base is None else {"name": base[0], "digest": base[1]},
            "story": checkpoint.story, **({"labelled": True} if checkpoint.labelled else {}),
        },
        "suite": {
            "name": suite.name, "digest": suite.digest(), "seed": suite.seed,
            "prompts": len(suite.prompts), "images_per_prompt": source.images_per_prompt,
            "source": suite.source,
        },
        "protocol": {"name": source.protocol.name, "settings": source.protocol.settings()},
    }  # fmt: skip


def _imported(source: ImageSet) -> dict[str, Any]:
    images = source.images
    story = {
        "layout": images.layout,
        "formats": dict(Counter(content.format for content in source.contents)),
        "sizes": dict(Counter(content.size for content in source.contents)),
    }
    return {
        "checkpoint": {
            "label": source.label, "name": str(images.folder), "form": IMAGES,
            "digest": source.digest_all(), "revision": "", "base": None, "story": {IMPORTED: story},
        },
        "suite": {
            "name": source.suite, "digest": images.digest(), "seed": None,
            "prompts": len(images.prompts), "images_per_prompt": source.images_per_prompt,
            "source": "",
        },
        "protocol": _NOT_GENERATED,
    }  # fmt: skip


def score_table(
    samples: Sequence[PlannedSample], judged: Judged, noise: Callable[[PlannedSample], str]
) -> pd.DataFrame:
    """Return one row per sample and metric, in the samples' order; ``noise`` fills its column."""
    return score_frame(
        [
            score_row(sample.prompt, sample.index, metric, scores[metric], noise(sample), digest)
            for results in judged.results.values()
            for metric in (results[0] if results else ())
            for sample, digest, scores in zip(samples, judged.digests, results, strict=True)
        ]
    )


def score_row(
    prompt: Prompt, index: int, metric: str, score: Score, noise: str = "", image: str = ""
) -> dict[str, Any]:
    """Return a row of ``scores.parquet``; ``image`` is a digest."""
    return {
        "prompt_id": prompt.id, "index": index, "task": prompt.task, "prompt": prompt.text,
        "noise": noise, "image": image, "metric": metric, "value": score.value,
        "unscored": score.unscored, "details": json.dumps(dict(score.details), ensure_ascii=False),
    }  # fmt: skip


def evaluator_record(judge: Judge) -> EvaluatorRecord:
    """Return what the record says of an evaluator."""
    evaluator = judge.evaluator
    of_run = isinstance(evaluator, SetEvaluator) and evaluator.together == "run"
    return EvaluatorRecord(
        given=judge.given,
        version=judge.version,
        identity=judge.identity,
        metrics={m.name: MetricRecord.of(m, of_run=of_run) for m in evaluator.metrics},
    )


def summaries(
    scores: pd.DataFrame, evaluators: Mapping[str, EvaluatorRecord]
) -> dict[str, MetricSummary]:
    """Return each metric's value over all samples."""
    from soar_bench.stats import estimate

    metrics = {}
    for evaluator in evaluators.values():
        for metric, declared in evaluator.metrics.items():
            rows = rows_of(scores[scores["metric"] == metric], declared)
            estimated = estimate(rows, declared.mean)
            numbers = (estimated.value, estimated.standard_error)
            value, error = (None if math.isnan(number) else number for number in numbers)
            tasks = {
                str(task): float(group["value"].mean())
                for task, group in rows.groupby("task")
                if group["value"].notna().any()
            }
            counts = {"scored": estimated.scored, "unscored": estimated.unscored}
            metrics[metric] = MetricSummary(
                value=value, standard_error=error, tasks=tasks, **counts
            )
    return metrics

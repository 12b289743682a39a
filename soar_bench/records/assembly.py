"""From the scores of a run to the table and the figures of its record."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from soar_bench.core.images import READING
from soar_bench.records.model import (
    IMAGES,
    IMPORTED,
    EvaluatorRecord,
    MetricRecord,
    MetricSummary,
    RunDraft,
)
from soar_bench.records.run import score_frame
from soar_bench.sampling.generate import Generation
from soar_bench.scoring.images import ImageSet
from soar_bench.scoring.judges import Judge
from soar_bench.scoring.scores import Judged
from soar_bench.suites.types import PlannedSample

#: Stands in place of the settings of generation, so that a comparison with generated runs is
#: refused.
_NOT_GENERATED: dict[str, Any] = {
    "name": "images",
    "settings": {"images": "scored, not made here", "reading": READING},
}


def draft(source: Generation | ImageSet, judges: Sequence[Judge], scores: pd.DataFrame) -> RunDraft:
    """What identifies a run and its figures: the same for the same run, whenever made."""
    evaluators = {judge.name: evaluator_record(judge) for judge in judges}
    metrics = summaries(scores, evaluators)
    return RunDraft.model_validate(
        {**subject(source), "evaluators": evaluators, "metrics": metrics}
    )


def subject(source: Generation | ImageSet) -> dict[str, Any]:
    """What is judged, as a record has it: its parts ``checkpoint``, ``suite`` and ``protocol``."""
    return _generated(source) if isinstance(source, Generation) else _imported(source)


def _generated(source: Generation) -> dict[str, Any]:
    checkpoint, suite = source.checkpoint, source.suite
    base = checkpoint.base
    return {
        "checkpoint": {
            "label": checkpoint.label,
            "name": checkpoint.name,
            "form": checkpoint.form,
            "digest": checkpoint.digest,
            "base": None if base is None else {"name": base[0], "digest": base[1]},
            "revision": checkpoint.revision,
            "story": checkpoint.story,
        },
        "suite": {
            "name": suite.name,
            "digest": suite.digest(),
            "seed": suite.seed,
            "prompts": len(suite.prompts),
            "images_per_prompt": source.images_per_prompt,
            "source": suite.source,
        },
        "protocol": {"name": source.protocol.name, "settings": source.protocol.settings()},
    }


def _imported(source: ImageSet) -> dict[str, Any]:
    images = source.images
    return {
        "checkpoint": {
            "label": source.label,
            "name": str(images.folder),
            "form": IMAGES,
            "digest": source.digest_all(),
            "base": None,
            "revision": "",
            "story": {
                IMPORTED: {
                    "layout": images.layout,
                    "formats": dict(Counter(content.format for content in source.contents)),
                    "sizes": dict(Counter(content.size for content in source.contents)),
                }
            },
        },
        "suite": {
            "name": source.suite,
            "digest": images.digest(),
            "seed": None,
            "prompts": len(images.prompts),
            "images_per_prompt": source.images_per_prompt,
            "source": "",
        },
        "protocol": _NOT_GENERATED,
    }


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
            tasks = {
                str(task): float(group["value"].mean())
                for task, group in rows.groupby("task")
                if group["value"].notna().any()
            }
            metrics[metric] = MetricSummary(
                value=None if math.isnan(value.value) else value.value,
                standard_error=(None if math.isnan(value.standard_error) else value.standard_error),
                scored=value.scored,
                unscored=value.unscored,
                tasks=tasks,
            )
    return metrics

"""From samples and evaluators to scores, as they go into a record."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluators import registry
from soar_bench.cache.images import ImageGone
from soar_bench.cache.scores import Scores
from soar_bench.core.distributed import ALONE, Group
from soar_bench.core.memory import image_budget
from soar_bench.records import score_frame
from soar_bench.scoring import BATCH, Decoded, Judge, Pictures, sample_key, score
from soar_bench.suites.types import PlannedSample

if TYPE_CHECKING:
    import pandas as pd

#: Called with a stage ("generate" or an evaluator's name), samples done and samples in all.
Observer = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Judged:
    """What evaluators said of samples."""

    #: of the pixels of each sample, in order
    digests: list[str] = field(default_factory=list)
    #: by evaluator: the scores of each sample, in order
    results: dict[str, list[Scores]] = field(default_factory=dict)
    #: by evaluator: what goes into the record about it
    declared: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: by stage: decoding and each evaluator
    seconds: dict[str, float] = field(default_factory=dict)
    #: by evaluator: samples scored now
    scored: dict[str, int] = field(default_factory=dict)
    #: by evaluator: samples on which it failed
    failed: dict[str, int] = field(default_factory=dict)
    #: samples whose image is not there any more; if there are any, all else is incomplete
    gone: list[PlannedSample] = field(default_factory=list)


def judge(
    evaluators: Sequence[str],
    samples: Sequence[PlannedSample],
    pictures: Pictures,
    cache: Path,
    journal: str,
    *,
    batch_size: int = BATCH,
    device: str = "cpu",
    dtype: str | None = None,
    force: bool = False,
    observe: Observer = lambda stage, done, total: None,
    group: Group = ALONE,
) -> Judged:
    """Scores what is missing; ``journal`` names the images' journals in the cache."""
    digests, lost = group.share(_digests(samples, pictures))
    judged = Judged(digests, gone=lost)
    if lost:
        return judged
    keys = [sample_key(sample, digest) for sample, digest in zip(samples, digests, strict=True)]
    decoded = Decoded(pictures, image_budget(group.local_size))
    for given in _groups(evaluators):  # let go at the end of its turn: one in memory at a time
        judges = [Judge.of(registry.create(name), dtype, cache, journal) for name in given]
        if force:
            for one in judges:
                if group.main:
                    one.journal.forget(keys)
                group.gather(None)
            judges = [Judge.of(registry.create(name), dtype, cache, journal) for name in given]
        gone = score(
            judges,
            samples,
            keys,
            decoded,
            batch_size=batch_size,
            device=device,
            group=group,
            observe=observe,
        )
        judged.gone.extend(s for part in group.gather(gone) for s in part)
        if judged.gone:
            return judged
        for name, one in zip(given, judges, strict=True):
            _collect(judged, name, one, keys, group)
    reading = max(group.gather(decoded.seconds))
    names = [registry.create(given).name for given in evaluators]  # in the order they were named
    return Judged(
        judged.digests,
        {name: judged.results[name] for name in names},
        {name: judged.declared[name] for name in names},
        {"decode": round(reading, 3)} | {name: judged.seconds[name] for name in names},
        {name: judged.scored[name] for name in names},
        {name: count for name, count in judged.failed.items() if count},
    )


def _digests(
    samples: Sequence[PlannedSample], pictures: Pictures
) -> tuple[list[str], list[PlannedSample]]:
    """The digests of all images, and the samples that have none."""
    digests, gone = [], []
    for sample in samples:
        try:
            digests.append(pictures.digest(sample))
        except ImageGone:
            gone.append(sample)
    return digests, gone


def _collect(judged: Judged, given: str, one: Judge, keys: Sequence[str], group: Group) -> None:
    """Adds to ``judged`` what all processes have of one evaluator."""
    seconds = 0.0
    for new, failed, spent in group.gather((one.new, one.failed, one.seconds)):
        one.new |= new
        one.failed |= failed
        seconds = max(seconds, spent)
    name = one.evaluator.name  # what was given may be a file's path
    found = [one.get(key) for key in keys]
    judged.results[name] = [scores for scores in found if scores is not None]
    judged.declared[name] = {
        "given": given,
        "version": _version(registry.find(given).origin),
        **one.declared,
    }
    judged.seconds[name] = round(seconds, 3)
    judged.scored[name] = sum(key in one.new for key in keys)
    judged.failed[name] = sum(key in one.failed for key in keys)


def _version(origin: str) -> str:
    """The version of the package that an evaluator comes from; empty for a file."""
    if origin == "built in":
        return version("soar-bench")
    try:
        return version(origin.removeprefix("package "))
    except PackageNotFoundError:
        return ""


def _groups(evaluators: Sequence[str]) -> list[list[str]]:
    """The evaluators that share a model together, the others each alone."""
    groups: dict[str, list[str]] = {}
    for given in evaluators:
        groups.setdefault(registry.create(given).shares or f"alone: {given}", []).append(given)
    return list(groups.values())


def table(
    samples: Sequence[PlannedSample], judged: Judged, noise: Callable[[PlannedSample], str]
) -> pd.DataFrame:
    """One row a sample and metric, in the order of the samples; ``noise`` fills its column."""
    rows: list[dict[str, Any]] = []
    for results in judged.results.values():
        for metric in results[0] if results else ():
            for sample, digest, scores in zip(samples, judged.digests, results, strict=True):
                got = scores[metric]
                rows.append(
                    {
                        "prompt_id": sample.prompt.id,
                        "index": sample.index,
                        "task": sample.prompt.task,
                        "prompt": sample.prompt.text,
                        "noise": noise(sample),
                        "image": digest,
                        "metric": metric,
                        "value": got.value,
                        "unscored": got.unscored,
                        "details": json.dumps(dict(got.details), ensure_ascii=False),
                    }
                )
    return score_frame(rows)


def summary(judged: Judged, scores: pd.DataFrame) -> dict[str, Any]:
    """Each metric's value over the samples, for the record."""
    from soar_bench.stats import estimate

    metrics: dict[str, Any] = {}
    for evaluator in judged.declared.values():
        for metric, declaration in evaluator["metrics"].items():
            rows = scores[scores["metric"] == metric]
            found = estimate(rows, declaration["aggregate"])
            tasks = {
                task: float(group["value"].mean())
                for task, group in rows.groupby("task")
                if group["value"].notna().any()
            }
            metrics[metric] = {
                "value": _plain(found.value),
                "standard_error": _plain(found.standard_error),
                "scored": found.scored,
                "unscored": found.unscored,
                "tasks": tasks,
            }
    return metrics


def _plain(value: float) -> float | None:
    """NaN has no place in JSON."""
    return None if value != value else value

"""Entrants of a board: checkpoints, or the seeds of one training, that were measured alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from soar_bench.core.differences import differences
from soar_bench.core.digests import digest_of
from soar_bench.core.errors import SoarBenchError
from soar_bench.records import Run
from soar_bench.records.labels import Named, of_seeds, told_apart


@dataclass(frozen=True)
class Entrant:
    """One row of a board: a checkpoint, or the seeds of one training."""

    name: str
    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        """The run of the lowest seed, whose suite, protocol and training are those of all."""
        return self.runs[0]


def group_seeds(runs: Sequence[Run]) -> list[Entrant]:
    """Group runs that differ by training seed alone. Pipelines that others stand on come first,
    then other pipelines and images, then what stands on one: it was trained, here or elsewhere.
    Of those too, what others were trained from comes first.

    The same checkpoint twice counts once. Runs that were not measured alike are never one entrant.
    An entrant has the label that lists show, or its training's name where it has several seeds.
    Entrants of one name are told apart by how they were measured, then as in lists. SoarBenchError
    for two checkpoints of one training and seed, which would pass for two seeds.
    """
    several = len({run.board for run in runs}) > 1
    groups: dict[str, dict[str, Run]] = {}
    bases = {digest for run in runs for digest in (run.base, run.start)}

    def place(run: Run) -> tuple[bool, bool, bool]:
        trained, checkpoint = run.seed is not None or bool(run.base), run.record.checkpoint
        return trained, checkpoint.digest not in bases, not checkpoint.labelled

    for run in sorted(runs, key=place):
        key = digest_of([run.group, run.board]) if several else run.group
        group = groups.setdefault(key, {})
        digest = run.record.checkpoint.digest
        twin = next((r for d, r in group.items() if d != digest and r.seed == run.seed), None)
        if twin is not None:
            raise SoarBenchError(
                f"{twin.folder} and {run.folder} are two checkpoints of one training and seed: "
                "remove one of them"
            )
        group.setdefault(digest, run)
    seeds = {k: tuple(sorted(g.values(), key=lambda r: r.seed or 0)) for k, g in groups.items()}
    names = {key: _name(group) for key, group in seeds.items()}
    times = Counter(names.values())
    named = [
        Named(
            f"{name}, {seeds[key][0].record.title}" if several and times[name] > 1 else name,
            key,
            seeds[key][0].training.get("step"),
        )
        for key, name in names.items()
    ]
    return [
        Entrant(name, group) for name, group in zip(told_apart(named), seeds.values(), strict=True)
    ]


def _name(seeds: Sequence[Run]) -> str:
    if seeds[0].imported:
        return seeds[0].name
    return of_seeds([run.label for run in seeds], seeds[0].training.get("name", ""))


def mismatches(runs: Sequence[Run]) -> list[str]:
    """Return how runs were not measured like the first of them, one sentence per board."""
    first = runs[0]
    sentences: dict[str, str] = {}
    for run in runs[1:]:
        if run.board == first.board or run.board in sentences:
            continue
        names = [r.label for r in (first, run)]
        if names[0] == names[1]:
            names = [f"{r.label} under {r.record.protocol.name}" for r in (first, run)]
        settings = differences(first.record.decides, run.record.decides)
        different = "; ".join(_difference(*setting, names) for setting in settings)
        sentences[run.board] = f"{' and '.join(names)} were not measured alike ({different})"
    return list(sentences.values())


def _difference(setting: str, left: Any, right: Any, names: Sequence[str]) -> str:
    """Say in which setting two runs differ; of an evaluator or a metric, which of them has it."""
    value, owner = (right, names[1]) if left is None else (left, names[0])
    if None not in (left, right) or not isinstance(value, dict):
        return f"{setting}: {left} and {right}"
    part, _, rest = setting.partition(".")
    evaluator, _, metric = rest.partition(".metrics.")
    what = f"the metric {metric}" if metric else f"the evaluator {evaluator}"
    return f"only {owner} has {what if part == 'evaluators' else setting}"


def check_measured_alike(runs: Sequence[Run]) -> None:
    """Raise SoarBenchError that names the settings in which runs differ that must not."""
    for sentence in mismatches(runs):
        raise SoarBenchError(
            f"{sentence} and cannot be compared; --anyway compares what they have in common"
        )

"""Entrants of a board: checkpoints, or the seeds of one training, that were measured alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from soar_bench.core.differences import differences
from soar_bench.core.digests import digest_of
from soar_bench.core.errors import SoarBenchError
from soar_bench.records import Run


@dataclass(frozen=True)
class Entrant:
    """One row of a board: a checkpoint, or the seeds of one training."""

    name: str
    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        """The run of the lowest seed, which says what holds for all."""
        return self.runs[0]


def group_seeds(runs: Sequence[Run]) -> list[Entrant]:
    """Group runs that differ by training seed alone; checkpoints that were not trained come first.

    The same checkpoint twice counts once. Runs that were not measured alike are never one entrant.
    Entrants of one name are told apart by how they were measured, by their step or, if that does
    not, by a part of their digest. SoarBenchError for two checkpoints of one training and seed,
    which would pass for two seeds.
    """
    several = len({run.board for run in runs}) > 1
    groups: dict[str, dict[str, Run]] = {}
    for run in sorted(runs, key=lambda run: run.seed is not None):
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
    seeds = {
        key: sorted(group.values(), key=lambda r: r.seed or 0) for key, group in groups.items()
    }
    names = _distinct_names({key: group[0] for key, group in seeds.items()}, several)
    return [Entrant(names[key], tuple(group)) for key, group in seeds.items()]


def _distinct_names(first_runs: Mapping[str, Run], several: bool) -> dict[str, str]:
    """Return a name for each group: its own, with what tells it apart where another has the same.
    ``several``: whether they stand on several boards.
    """
    names = {key: run.name for key, run in first_runs.items()}
    boards = {
        key: f", {run.record.suite.name} under {run.record.protocol.name}"
        for key, run in first_runs.items()
    }
    steps = {
        key: "" if run.imported else f", step {run.training.get('step', 0)}"
        for key, run in first_runs.items()
    }
    digests = {key: f" ({key[:6]})" for key in first_runs}
    for suffix in ([boards] if several else []) + [steps, digests]:
        times = Counter(names.values())
        names = {k: name + suffix[k] if times[name] > 1 else name for k, name in names.items()}
    return names


def select_entrants(parts: Sequence[Sequence[Run]], anyway: bool = False) -> list[Entrant]:
    """Return the entrants of what a user named, in that order; within a folder, what was not
    trained comes first. SoarBenchError if they are less than two or, unless ``anyway``, not
    measured alike.
    """
    runs = [run for part in parts for run in part]
    if not anyway:
        check_measured_alike(runs)
    place = {
        run.folder.resolve(): i for i, part in reversed(list(enumerate(parts))) for run in part
    }
    entrants = sorted(
        group_seeds(runs), key=lambda e: min(place[run.folder.resolve()] for run in e.runs)
    )
    if len(entrants) < 2:
        raise SoarBenchError(f"comparing needs two checkpoints: there is one, {entrants[0].name}")
    return entrants


def mismatches(runs: Sequence[Run]) -> list[str]:
    """Return how runs were not measured like the first of them, a sentence per board."""
    first = runs[0]
    sentences: dict[str, str] = {}
    for run in runs[1:]:
        if run.board == first.board or run.board in sentences:
            continue
        different = "; ".join(
            f"{name}: {left} and {right}"
            for name, left, right in differences(first.decides, run.decides)
        )
        names = [first.label, run.label]
        if names[0] == names[1]:
            names = [f"{r.label} under {r.record.protocol.name}" for r in (first, run)]
        sentences[run.board] = f"{' and '.join(names)} were not measured alike ({different})"
    return list(sentences.values())


def check_measured_alike(runs: Sequence[Run]) -> None:
    """Raise SoarBenchError that names the settings in which runs differ that must not."""
    for sentence in mismatches(runs):
        raise SoarBenchError(
            f"{sentence} and cannot be compared; --anyway compares what they have in common"
        )

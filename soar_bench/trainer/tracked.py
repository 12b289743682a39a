"""Values of evaluated checkpoints, sent to the trackers that training uses."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from soar_bench.core.errors import SoarBenchError, unknown_name
from soar_bench.records import Run
from soar_bench.records.labels import Named, told_apart
from soar_bench.records.run import training_key
from training.trackers import Trackers, check_trackers
from training.types import Tracker

#: One folder per training, or per checkpoint that was not trained here.
FOLDER = Path("outputs/trackers")
#: No figure is dropped because others of later steps come after it.
_ALL_STEPS = 10**9


@dataclass(frozen=True)
class _Tracked:
    output: Path
    trackers: Sequence[str]


def check(names: Sequence[str]) -> None:
    """Raise SoarBenchError if a tracker is unknown, not installed or not logged in to."""
    trackers = list(typing.get_args(Tracker))
    for name in names:
        if name not in trackers:
            raise unknown_name("tracker", name, trackers, SoarBenchError)
    check_trackers(_Tracked(FOLDER, names))


def track(runs: Sequence[Run], names: Sequence[str], folder: Path = FOLDER) -> None:
    """Send each run's values, as SUITE/PROTOCOL/METRIC, at the step of its checkpoint.

    Checkpoints of one training become one curve; what was not trained is at step 0. Others of one
    name get a part of their digest into it.
    """
    curves = []
    for run in runs:
        story, digest = run.training, run.record.checkpoint.digest
        key = training_key(story, with_step=False) if story else digest
        curves.append(Named(f"{run.name}-seed{run.seed}" if story else run.name, key, None))
    by_name: dict[str, list[Run]] = {}
    for run, name in zip(runs, told_apart(curves), strict=True):
        by_name.setdefault(name, []).append(run)
    for name, of_name in by_name.items():
        place = folder / name.replace("/", "_")
        identity = {"name": name, "checkpoints": [run.record.checkpoint.name for run in of_name]}
        with Trackers(_Tracked(place, names), _ALL_STEPS, identity) as trackers:
            for run in sorted(of_name, key=lambda run: int(run.training.get("step", 0))):
                where = f"{run.record.suite.name}/{run.record.protocol.name}"
                figures = {
                    f"{where}/{metric}": summary.value
                    for metric, summary in run.record.metrics.items()
                    if summary.value is not None
                }
                trackers.figures(int(run.training.get("step", 0)), figures)

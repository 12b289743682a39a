"""Records as boards: what may stand beside what, and in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from soar_bench.boards.compare import Entrant, Row, compare, entrants, metrics_of, primary_metric
from soar_bench.core.digests import digest_of
from soar_bench.records import Run
from soar_bench.records.model import MetricRecord, RunRecord


@dataclass(frozen=True)
class Board:
    """Runs of one suite, protocol and set of evaluators, compared with the first of them."""

    #: names it inside the page: letters and digits
    key: str
    suite: str
    protocol: str
    #: the base first
    entrants: tuple[Entrant, ...]
    #: every metric of every entrant, as `soar-bench compare` has it
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        return f"{self.suite} under {self.protocol}"

    @property
    def runs(self) -> tuple[Run, ...]:
        """Every run, seed by seed, in the order of the entrants."""
        return tuple(run for entrant in self.entrants for run in entrant.runs)

    @property
    def record(self) -> RunRecord:
        """The first run's record: what it says of suite, protocol and evaluators holds for all."""
        return self.entrants[0].runs[0].record

    @property
    def metrics(self) -> list[tuple[str, MetricRecord]]:
        """Each metric with its declaration, the one to rank by first."""
        return ordered_metrics(self.entrants[0].runs[0])

    @property
    def tasks(self) -> list[str]:
        """The tasks of the suite in its order; empty where it has none."""
        seen = (t for e in self.entrants for scores in e.scores for t in scores["task"].unique())
        return [task for task in dict.fromkeys(map(str, seen)) if task]


def boards_of(runs: Sequence[Run]) -> list[Board]:
    """The runs' boards, by suite and protocol. A run that is given twice counts once; of the runs
    of a board the first one that was not trained is what the others differ from. Checkpoints of one
    training stand together, in the order of their steps.

    Boards of one name, which differ in settings or evaluators, are numbered.
    """
    every = {run.folder.resolve(): run for run in runs}
    groups: dict[str, list[Run]] = {}
    for run in every.values():
        groups.setdefault(run.board, []).append(run)
    ordered = sorted(groups.items(), key=lambda item: (*_names(item[1][0]), item[0]))
    times = Counter(_names(group[0]) for _, group in ordered)
    seen: Counter[tuple[str, str]] = Counter()
    boards = []
    for number, (_, group) in enumerate(ordered, start=1):
        suite, protocol = names = _names(group[0])
        seen[names] += 1
        if times[names] > 1:
            protocol = f"{protocol} ({seen[names]})"
        board = entrants(_by_step(group))
        places = [name for name, _ in ordered_metrics(board[0].runs[0])]
        rows = sorted(compare(board), key=lambda row: places.index(row.metric))
        boards.append(Board(f"b{number}", suite, protocol, tuple(board), tuple(rows)))
    return boards


def training_of(run: Run) -> str:
    """Equal for the checkpoints of one training, whatever their step and seed; empty for what was
    not trained here.
    """
    story = run.training
    if not story:
        return ""
    config = {k: v for k, v in story["config"].items() if k != "seed"}
    return digest_of(
        [story["name"], story["method"], story["base"]["digest"], story["data"]["digest"], config]
    )


def training_names(runs: Sequence[Run]) -> dict[str, str]:
    """What tables call each training of the runs, by :func:`training_of`. Two of one name are told
    apart as boards do it for their last checkpoints.
    """
    last: dict[str, Run] = {}
    for run in runs:
        key = training_of(run)
        if key and (key not in last or run.training["step"] > last[key].training["step"]):
            last[key] = run
    times = Counter(run.name for run in last.values())
    return {
        key: run.name if times[run.name] == 1 else f"{run.name} ({run.group[:6]})"
        for key, run in last.items()
    }


def _by_step(runs: Sequence[Run]) -> list[Run]:
    """The trainings in the order in which they first come, each with its checkpoints by step."""
    of = [training_of(run) for run in runs]
    keys = [(of.index(key), run.training["step"] if key else 0)
            for key, run in zip(of, runs, strict=True)]  # fmt: skip
    return [runs[i] for i in sorted(range(len(runs)), key=keys.__getitem__)]


def ordered_metrics(run: Run) -> list[tuple[str, MetricRecord]]:
    """A run's metrics with their declarations, the one to rank by first."""
    first = primary_metric(run)
    return [first, *(metric for metric in metrics_of(run) if metric[0] != first[0])]


def _names(run: Run) -> tuple[str, str]:
    return run.record.suite.name, run.record.protocol.name

"""Records as the sections of a report: what may stand beside what, and in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from soar_bench.boards import Board, Comparison, Entrant, group_seeds
from soar_bench.boards.agreement import Agreement, agreements
from soar_bench.boards.categories import Categories, categories_of_boards
from soar_bench.boards.comparing import compare_board
from soar_bench.boards.rows import Row
from soar_bench.records import Run, metrics_of
from soar_bench.records.model import MetricRecord, RunRecord
from soar_bench.records.run import training_key
from soar_bench.report.text import Value


@dataclass(frozen=True)
class Section:
    """One board of the report, compared with its first entrant."""

    #: names it inside the page: letters and digits
    key: str
    suite: str
    protocol: str
    #: the base first
    board: Board
    #: the column of the prompts' metadata to break metrics down by; empty without a breakdown
    by: str = ""
    #: the prompts of each of its values
    categories: Categories = field(default_factory=dict)
    #: why it lacks the breakdown that was asked for; empty if it does not
    note: str = ""

    @property
    def title(self) -> str:
        """Names the board in headings."""
        return f"{self.suite} under {self.protocol}"

    @property
    def entrants(self) -> tuple[Entrant, ...]:
        """Checkpoints of the board, the base first."""
        return self.board.entrants

    @cached_property
    def agreements(self) -> list[Agreement]:
        """Agreement of two judges of right and wrong, checkpoint by checkpoint."""
        return list(agreements(self.board))

    @property
    def runs(self) -> tuple[Run, ...]:
        """Every run, seed by seed, in the order of the entrants."""
        return self.board.runs

    @property
    def record(self) -> RunRecord:
        """The first run's record; its suite, protocol and evaluators are those of all."""
        return self.runs[0].record

    @cached_property
    def metrics(self) -> list[tuple[str, MetricRecord]]:
        """Each metric with its declaration, the one to rank by first."""
        return list(metrics_of(self.runs[0]))

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """Every metric of every entrant, as `soar-bench compare` has it, in the metrics' order."""
        places = [name for name, _ in self.metrics]
        return tuple(sorted(self._compared.rows, key=lambda row: places.index(row.metric)))

    @property
    def parts(self) -> tuple[Row, ...]:
        """The breakdown: every metric of every category and entrant, in the categories' order."""
        return self._compared.parts

    @cached_property
    def _compared(self) -> Comparison:
        return compare_board(self.board, by=self.by, by_category=self.categories)

    def value(self, entrant: int, metric: str) -> Value:
        """Return an entrant's value with its interval."""
        return Value(self.board.value(entrant, metric), self.board.interval(entrant, metric))

    @property
    def tasks(self) -> list[str]:
        """The tasks of the suite in its order; empty where it has none."""
        names = (t for metric, _ in self.metrics for t in self.board.table(metric).task_order)
        return [task for task in dict.fromkeys(names) if task]


def sections_of(runs: Sequence[Run], by: str = "") -> list[Section]:
    """Return the runs' boards, by suite and protocol. A run that is given twice counts once; of the
    runs of a board the first one that was not trained is what the others differ from. Checkpoints
    of one training stand together, in the order of their steps.

    Boards of one name, which differ in settings or evaluators, are numbered. ``by`` is a column of
    the prompts' metadata for a breakdown. SoarBenchError if no board has it.
    """
    groups: dict[str, list[Run]] = {}
    for run in {run.folder.resolve(): run for run in runs}.values():
        groups.setdefault(run.board, []).append(run)
    ordered = sorted(groups.items(), key=lambda item: (*_names(item[1][0]), item[0]))
    times = Counter(_names(group[0]) for _, group in ordered)
    seen: Counter[tuple[str, str]] = Counter()
    sections = []
    for number, (_, group) in enumerate(ordered, start=1):
        suite, protocol = names = _names(group[0])
        seen[names] += 1
        if times[names] > 1:
            protocol = f"{protocol} ({seen[names]})"
        board = Board.of(group_seeds(_by_step(group)))
        sections.append(Section(f"b{number}", suite, protocol, board))
    by_board, notes = categories_of_boards([section.board for section in sections], by)
    return [
        replace(section, by=by if categories else "", categories=categories, note=note)
        for section, categories, note in zip(sections, by_board, notes, strict=True)
    ]


def training_of(run: Run) -> str:
    """Return a key that the checkpoints of one training share, whatever their step and seed; empty
    for what was not trained here.
    """
    return training_key(run.training, with_step=False) if run.training else ""


def training_names(runs: Sequence[Run]) -> dict[str, str]:
    """Return the name for tables of each training, by :func:`training_of`. Two of one name are told
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
    """Return the trainings in the order in which they first come, their checkpoints by step."""
    trainings = list(dict.fromkeys(map(training_of, runs)))
    return sorted(
        runs, key=lambda run: (trainings.index(training_of(run)), run.training.get("step", 0))
    )


def _names(run: Run) -> tuple[str, str]:
    return run.record.suite.name, run.record.protocol.name

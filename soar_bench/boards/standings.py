"""Leaderboards: all entrants of a board ranked, with numbers beside them that are not compared."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from soar_bench.boards import published
from soar_bench.boards.board import Board
from soar_bench.boards.categories import TASK, Categories, categories_of_boards, held_out
from soar_bench.boards.entrants import Entrant, group_seeds
from soar_bench.boards.words import line
from soar_bench.core.text import count
from soar_bench.records import Run, primary_metric
from soar_bench.records.model import MetricRecord, ProtocolRecord, SuiteRecord
from soar_bench.stats import Estimates, ScoreTable, rank_ranges


@dataclass(frozen=True)
class Figure:
    """A number of one row. NaN is a number that cannot be known."""

    value: float
    #: ends of the 95% interval
    low: float
    high: float
    standard_error: float
    #: samples with and without a value; of a difference, those that both have or only one
    scored: int
    unscored: int
    prompts: int


@dataclass(frozen=True)
class Cell:
    """One metric of one row."""

    value: Figure
    #: standard deviation over training seeds; NaN for one
    seed_deviation: float
    #: how much higher than the base that the checkpoint stands on, paired; None without it
    difference: Figure | None


@dataclass(frozen=True)
class Standing:
    """One entrant of a leaderboard."""

    name: str
    runs: tuple[Run, ...]
    #: best and worst rank by paired tests; None without a value or where nothing is ranked
    rank: tuple[int, int] | None
    #: by metric
    cells: Mapping[str, Cell]
    #: for each of the board's breakdowns the figures of its categories
    parts: tuple[tuple[Figure, ...], ...]
    #: day of the newest record, UTC, as YYYY-MM-DD; empty where the records do not say
    date: str
    #: the tool whose results were imported; empty for what was measured here
    tool: str


#: The breakdown of a suite of the embedded world that is shown unasked.
HELD_OUT = "task, held-out prompts alone"


@dataclass(frozen=True)
class Breakdown:
    """Categories of the prompts that a metric is shown by."""

    metric: str
    #: ``task``, or a column of the prompts' metadata
    column: str
    #: in the suite's order
    categories: tuple[str, ...]
    #: number of prompts of each; empty for tasks
    prompts: tuple[int, ...] = ()

    @property
    def titles(self) -> tuple[str, ...]:
        """The categories with their numbers of prompts, where these are known."""
        if not self.prompts:
            return self.categories
        pairs = zip(self.categories, self.prompts, strict=True)
        return tuple(f"{name} ({count(number, 'prompt')})" for name, number in pairs)


@dataclass(frozen=True)
class Leaderboard:
    """Rows that may be compared, best first, and rows beside them that may not."""

    id: str
    #: the parts of a record that all runs share
    suite: SuiteRecord
    protocol: ProtocolRecord
    #: the metrics' declarations in order, by name
    metrics: Mapping[str, MetricRecord]
    #: the metric that rows are ranked by
    primary: str
    #: the primary metric by task where it is a mean of tasks and by the tasks' held-out prompts
    #: where there are any, then every metric by the column that was asked for
    breakdowns: tuple[Breakdown, ...]
    rows: tuple[Standing, ...]
    #: whether a base is on the board, so that rows have differences
    has_base: bool
    #: whether the images came from elsewhere
    imported: bool
    #: imported rows of the same prompts
    beside: tuple[Standing, ...] = ()
    #: why it lacks the breakdown that was asked for; empty if it does not
    note: str = ""

    @property
    def published(self) -> tuple[published.Column, ...]:
        """Columns of the paper's table that belong beside this board; often none."""
        measured = not self.imported and not self.suite.source
        return published.columns_beside(self.suite.name, self.protocol.name) if measured else ()


def standings(runs: Sequence[Run], by: str = "") -> list[Leaderboard]:
    """Return the leaderboard of each board, by name, whatever the order of ``runs``; with
    breakdowns ``by`` a column of the prompts' metadata where they have it.

    SoarBenchError if scores cannot be read, two checkpoints are of one training and seed, or no
    board has the column.
    """
    groups: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.folder.as_posix()):
        groups.setdefault(run.board, []).append(run)
    aligned = [
        Board.of(sorted(group_seeds(group), key=lambda entrant: entrant.name))
        for group in groups.values()
    ]
    by_board, notes = categories_of_boards(aligned, by)
    boards = [
        replace(_leaderboard(key, board, by, categories), note=note)
        for key, board, categories, note in zip(groups, aligned, by_board, notes, strict=True)
    ]
    boards.sort(key=lambda b: (b.suite.name, b.protocol.name, b.suite.images_per_prompt, b.id))
    beside: dict[tuple[str, str], tuple[Standing, ...]] = {}  # imported rows by suite
    for board in boards:
        if board.rows[0].tool:
            key = (board.suite.name, board.suite.digest)
            beside[key] = beside.get(key, ()) + board.rows
    return [
        b if b.imported else replace(b, beside=beside.get((b.suite.name, b.suite.digest), ()))
        for b in boards
    ]


def _leaderboard(identity: str, board: Board, by: str, categories: Categories) -> Leaderboard:
    first = min(board.runs, key=lambda run: run.folder.as_posix())
    primary, declared = primary_metric(first)
    bases = _bases(board.entrants)
    cells = {name: _cells(board.table(name), bases, m) for name, m in board.metrics.items()}
    ranks = rank_ranges(board.table(primary), declared.higher_is_better)
    breakdowns, parts = _breakdowns(board, primary, by, categories)
    rows = []
    for i, entrant in enumerate(board.entrants):
        own_cells = {name: of_metric[i] for name, of_metric in cells.items()}
        own_parts = tuple(tuple(figures[i] for figures in part) for part in parts)
        tool = entrant.first.record.checkpoint.tool if entrant.first.imported else ""
        name, date = _shown_name(entrant, tool), _date(entrant.runs)
        rows.append(Standing(name, entrant.runs, ranks.get(i), own_cells, own_parts, date, tool))
    sign = -1 if declared.higher_is_better else 1

    def place(row: Standing) -> tuple[float, str]:
        """Best first, no value last; values that differ by rounding are equal."""
        value = sign * row.cells[primary].value.value
        return math.inf if math.isnan(value) else round(value, 12), row.name

    return Leaderboard(
        identity, first.record.suite, first.record.protocol, board.metrics, primary, breakdowns,
        rows=tuple(sorted(rows, key=place)),
        has_base=any(base is not None for base in bases),
        imported=first.imported,
    )  # fmt: skip


def _breakdowns(
    board: Board, primary: str, by: str, categories: Categories
) -> tuple[tuple[Breakdown, ...], list[list[list[Figure]]]]:
    """Return the breakdowns, and the figures of each by category and entrant."""
    breakdowns, parts = [], []
    if board.metrics[primary].aggregate == "task_mean" and not (categories and by in TASK):
        tables = board.table(primary).by_task()
        breakdowns.append(Breakdown(primary, "task", tuple(tables)))
        parts.append([_values(table, board.metrics[primary]) for table in tables.values()])

    for column, chosen, metrics in (
        (HELD_OUT, {} if by else held_out(board), (primary,)),
        (by, categories, tuple(board.metrics)),
    ):
        boards = [board.part(prompts) for prompts in chosen.values()]
        for metric in metrics if boards else ():
            counts = tuple(len(part.table(metric).layout.prompts) for part in boards)
            breakdowns.append(Breakdown(metric, column, tuple(chosen), counts))
            parts.append([_values(part.table(metric), board.metrics[metric]) for part in boards])
    return tuple(breakdowns), parts


def _shown_name(entrant: Entrant, tool: str) -> str:
    """Return the entrant's name, with the tool where its results are imported."""
    run = entrant.first
    if not tool or not entrant.name.startswith(run.name):
        return line(entrant.name)
    return line(f"{run.label} (imported: {tool}){entrant.name[len(run.name) :]}")


def _bases(entrants: Sequence[Entrant]) -> list[int | None]:
    """Return for each entrant the number of its base; None where that is not on the board."""
    firsts = [entrant.first for entrant in entrants]
    untrained = [i for i, run in enumerate(firsts) if run.seed is None and not run.imported]
    places = {firsts[i].record.checkpoint.digest: i for i in untrained}
    bases = [places.get(run.base) for run in firsts]
    return [None if base == i else base for i, base in enumerate(bases)]


def _date(runs: Sequence[Run]) -> str:
    """Return the day of the newest record in UTC."""
    days = []
    for run in runs:
        try:
            made = datetime.fromisoformat(run.record.made.finished)
        except ValueError:  # not in the record
            continue
        # Records are written in UTC, also those that name no zone.
        days.append((made if made.tzinfo else made.replace(tzinfo=UTC)).astimezone(UTC))
    return max(days).strftime("%Y-%m-%d") if days else ""


def _figures(
    estimates: Estimates, unscored: np.ndarray, limits: tuple[float, float] = (-math.inf, math.inf)
) -> Iterator[Figure]:
    """Yield each row's figure. Intervals are cut off at ``limits``."""
    low, high = (np.clip(end, *limits) for end in estimates.interval())
    for row in zip(
        estimates.value.tolist(), low.tolist(), high.tolist(), estimates.standard_error.tolist(),
        estimates.scored.tolist(), unscored.tolist(), estimates.prompts.tolist(), strict=True,
    ):  # fmt: skip
        yield Figure(*row)


def _values(table: ScoreTable, metric: MetricRecord) -> list[Figure]:
    return list(_figures(table.own, table.unscored, metric.range))


def _cells(table: ScoreTable, bases: Sequence[int | None], metric: MetricRecord) -> list[Cell]:
    differences: dict[int, Figure] = {}
    for base in sorted({b for b in bases if b is not None}):
        others = np.array([i for i, b in enumerate(bases) if b == base])
        figures = _figures(table.differences(base, others), table.unpaired(base, others))
        differences |= zip(map(int, others), figures, strict=True)
    return [
        Cell(value, float(table.spread.deviation[i]), differences.get(i))
        for i, value in enumerate(_values(table, metric))
    ]

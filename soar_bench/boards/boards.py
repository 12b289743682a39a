"""Boards: runs of one suite, protocol and set of evaluators, with every number that is shown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, TypeGuard

import numpy as np
import pandas as pd

from soar_bench.boards import published
from soar_bench.boards.compare import Entrant, entrants, metrics_of, primary_metric
from soar_bench.records import Run
from soar_bench.records.model import MetricRecord, ProtocolRecord, SuiteRecord
from soar_bench.stats import Estimates, Layout, ScoreTable, rank_ranges

_SAMPLE = ["task", "prompt_id", "index"]


@dataclass(frozen=True)
class Scored:
    """A run's samples and values of one metric; every array is [samples], text as pandas has it."""

    task: Any
    prompt_id: Any
    index: np.ndarray
    #: NaN where unscored or not finite
    value: np.ndarray

    def alike(self, other: Scored) -> bool:
        """Whether both have the same samples in the same order."""
        return len(self.value) == len(other.value) and bool(
            np.array_equal(self.index, other.index)
            and self.prompt_id.equals(other.prompt_id)
            and self.task.equals(other.task)
        )

    def samples(self) -> pd.DataFrame:
        """The columns task, prompt_id and index."""
        return pd.DataFrame({name: getattr(self, name) for name in _SAMPLE})


class ReadRun(Run):
    """A run whose scores are read once, without the text and details that no board shows."""

    @cached_property
    def _kept(self) -> pd.DataFrame:
        return super().scores()[[*_SAMPLE, "metric", "value"]]

    @cached_property
    def by_metric(self) -> dict[str, Scored]:
        """The scores by metric. SoarBenchError as for :meth:`scores`."""
        codes, names = pd.factorize(self._kept["metric"].array)
        parts = [self._kept[codes == code] for code in range(len(names))]
        return {
            str(name): Scored(
                part["task"].array,
                part["prompt_id"].array,
                part["index"].to_numpy(),
                part["value"].where(part["value"].abs() < math.inf).to_numpy(float),
            )
            for name, part in zip(names, parts, strict=True)
        }

    def scores(self) -> pd.DataFrame:
        """The columns task, prompt_id, index, metric and value of the run's scores.

        SoarBenchError unless the file is the one that the record was written with.
        """
        return self._kept


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
    #: trainings that differ by seed alone and have a value
    seeds: int
    #: standard deviation over them; NaN for one
    seed_deviation: float
    #: how much higher than the base that the checkpoint stands on, paired; None without it
    difference: Figure | None


@dataclass(frozen=True)
class Row:
    """One entrant of a board."""

    name: str
    runs: tuple[Run, ...]
    #: best and worst rank by paired tests; None without a value or where nothing is ranked
    rank: tuple[int, int] | None
    #: by metric
    cells: Mapping[str, Cell]
    #: means of the primary metric by task
    tasks: Mapping[str, Figure]
    #: day of the newest record, UTC, as YYYY-MM-DD; empty where the records do not say
    date: str
    #: the tool whose results were imported; empty for what was measured here
    tool: str


@dataclass(frozen=True)
class Board:
    """Rows that may be compared, best first, and what stands beside them without being compared."""

    id: str
    #: the parts of a record that all runs share
    suite: SuiteRecord
    protocol: ProtocolRecord
    #: the metrics' declarations in order, by name
    metrics: Mapping[str, MetricRecord]
    #: the metric that rows are ranked by
    primary: str
    #: tasks in the suite's order; empty where the primary metric is a plain mean
    tasks: tuple[str, ...]
    rows: tuple[Row, ...]
    #: whether a base is on the board, so that rows have differences
    has_base: bool
    #: whether the images came from elsewhere
    imported: bool
    #: imported rows of the same prompts
    beside: tuple[Row, ...] = ()

    @property
    def published(self) -> tuple[published.Column, ...]:
        """Columns of the paper's table that belong beside this board; often none."""
        if self.imported or self.suite.source:
            return ()
        return published.columns_beside(self.suite.name, self.protocol.name)


def boards(runs: Sequence[Run]) -> list[Board]:
    """The boards of runs, in the order of their names. The order of ``runs`` does not matter.

    SoarBenchError if scores cannot be read, or two checkpoints are of one training and seed.
    """
    groups: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.folder.as_posix()):
        once = run if isinstance(run, ReadRun) else ReadRun(run.folder, run.record)
        groups.setdefault(run.board, []).append(once)
    found = sorted((_board(key, group) for key, group in groups.items()), key=_order)
    imported = [board for board in found if board.rows[0].tool]
    return [_with_imported(board, imported) for board in found]


def _order(board: Board) -> tuple[str, str, float, str]:
    suite = board.suite
    return (suite.name, board.protocol.name, suite.images_per_prompt, board.id)


def _with_imported(board: Board, imported: Sequence[Board]) -> Board:
    """The board with imported rows of its prompts beside it."""
    if board.imported:
        return board
    suite = board.suite
    same = [o for o in imported if (o.suite.name, o.suite.digest) == (suite.name, suite.digest)]
    return replace(board, beside=tuple(row for other in same for row in other.rows))


def tool_of(run: Run) -> str:
    """The tool whose results the run imports; empty for a run that was scored here."""
    return run.record.checkpoint.tool if run.imported else ""


def _board(identity: str, group: Sequence[Run]) -> Board:
    first = group[0]
    metrics = dict(metrics_of(first))
    primary, declared = primary_metric(first)
    entered = sorted(entrants(group), key=lambda e: e.name)
    columns = {name: _column(entered, name, one) for name, one in metrics.items()}
    higher = declared.higher_is_better
    ranks = rank_ranges(columns[primary].column, higher)
    bases = _bases(entered)
    cells = {name: _cells(column, bases) for name, column in columns.items()}
    tasks = _tasks(columns[primary]) if declared.aggregate == "task_mean" else {}
    rows = [
        Row(
            name=_shown_name(entrant),
            runs=entrant.runs,
            rank=ranks.get(i),
            cells={name: of_metric[i] for name, of_metric in cells.items()},
            tasks={task: figures[i] for task, figures in tasks.items()},
            date=_date(entrant.runs),
            tool=tool_of(entrant.runs[0]),
        )
        for i, entrant in enumerate(entered)
    ]
    sign = -1 if higher else 1
    return Board(
        id=identity,
        suite=first.record.suite,
        protocol=first.record.protocol,
        metrics=metrics,
        primary=primary,
        tasks=tuple(tasks),
        rows=tuple(
            sorted(rows, key=lambda r: (_last(sign * r.cells[primary].value.value), r.name))
        ),
        has_base=any(base is not None for base in bases),
        imported=first.imported,
    )


def _last(value: float) -> float:
    """Sorts what has no value behind what has one; equal values keep the order of their names,
    whatever rounding made of their last digits.
    """
    return math.inf if math.isnan(value) else round(value, 12)


def _shown_name(entrant: Entrant) -> str:
    """The entrant's name, with the tool where its results are imported."""
    run, tool = entrant.runs[0], tool_of(entrant.runs[0])
    if not tool or not entrant.name.startswith(run.name):
        return entrant.name
    return f"{run.label} (imported: {tool}){entrant.name[len(run.name) :]}"


def _bases(entered: Sequence[Entrant]) -> list[int | None]:
    """For each entrant which one it was trained from, if that is on the board."""
    known = {
        e.runs[0].record.checkpoint.digest: i
        for i, e in enumerate(entered)
        if e.runs[0].seed is None and not e.runs[0].imported
    }
    found = (known.get(e.runs[0].base) for e in entered)
    return [None if base == i else base for i, base in enumerate(found)]


def _date(runs: Sequence[Run]) -> str:
    """The day of the newest record in UTC."""
    days = []
    for run in runs:
        try:
            made = datetime.fromisoformat(run.record.made.finished)
        except ValueError:  # a record that does not say
            continue
        # Records are written in UTC; one that names no zone was too.
        days.append((made if made.tzinfo else made.replace(tzinfo=UTC)).astimezone(UTC))
    return max(days).strftime("%Y-%m-%d") if days else ""


@dataclass(frozen=True)
class _Metric:
    """A metric's column and what its samples are."""

    column: ScoreTable
    #: smallest and largest possible value
    limits: tuple[float, float]
    #: of each sample, by code
    tasks: np.ndarray
    #: the tasks' names by code, and in the order in which the first run has them
    names: tuple[str, ...]
    order: tuple[str, ...]


def _column(entered: Sequence[Entrant], metric: str, declared: MetricRecord) -> _Metric:
    """All runs' values of a metric on the same samples; NaN where a run has none."""
    runs = [run for entrant in entered for run in entrant.runs]
    owner = np.repeat(np.arange(len(entered)), [len(entrant.runs) for entrant in entered])
    samples, values = _aligned([run.by_metric.get(metric) for run in runs if _read(run)])
    order = tuple(dict.fromkeys(samples["task"]))
    tasks, names = pd.factorize(samples["task"], sort=True)
    prompts, _ = pd.factorize(samples["prompt_id"], sort=True)
    index = samples["index"].to_numpy()
    stratified = declared.aggregate == "task_mean"
    sorting = np.lexsort((index, prompts, tasks) if stratified else (index, tasks, prompts))
    layout = Layout.of(tasks[sorting], prompts[sorting], stratified)
    column = ScoreTable(layout, values[:, sorting], owner)
    low, high = declared.range
    return _Metric(
        column, (low, high), tasks[sorting], tuple(map(str, names)), tuple(map(str, order))
    )


def _read(run: Run) -> TypeGuard[ReadRun]:
    return isinstance(run, ReadRun)


def _aligned(runs: Sequence[Scored | None]) -> tuple[pd.DataFrame, np.ndarray]:
    """The samples that any run has, and each run's values of them: [runs, samples]."""
    first = next(run for run in runs if run is not None)
    if all(run is not None and first.alike(run) for run in runs):
        return first.samples(), np.array([run.value for run in runs if run is not None])
    frames = [None if run is None else run.samples() for run in runs]
    every = pd.concat(frames).drop_duplicates()  # passes over None
    samples = pd.MultiIndex.from_frame(every)
    values = np.full((len(runs), len(samples)), np.nan)
    for row, run, frame in zip(values, runs, frames, strict=True):
        if run is not None and frame is not None:
            row[samples.get_indexer(pd.MultiIndex.from_frame(frame))] = run.value
    return every.reset_index(drop=True), values


def _figures(
    found: Estimates, unscored: np.ndarray, limits: tuple[float, float] = (-math.inf, math.inf)
) -> Iterator[Figure]:
    """Each row's figure. What of an interval lies outside ``limits`` is impossible and cut off."""
    low, high = (np.clip(end, *limits) for end in found.interval())
    rows = zip(found.value, low, high, found.standard_error, found.scored, unscored, found.prompts,
               strict=True)  # fmt: skip
    for value, below, above, error, scored, without, prompts in rows:
        yield Figure(
            float(value), float(below), float(above), float(error),
            int(scored), int(without), int(prompts),
        )  # fmt: skip


def _cells(metric: _Metric, bases: Sequence[int | None]) -> list[Cell]:
    column = metric.column
    values = _figures(column.own, column.unscored, metric.limits)
    differences: dict[int, Figure] = {}
    for base in sorted({b for b in bases if b is not None}):
        others = np.array([i for i, b in enumerate(bases) if b == base])
        found = _figures(column.differences(base, others), column.unpaired(base, others))
        differences |= zip(map(int, others), found, strict=True)
    return [
        Cell(
            value,
            int(column.spread.seeds[i]),
            float(column.spread.deviation[i]),
            differences.get(i),
        )
        for i, value in enumerate(values)
    ]


def _tasks(metric: _Metric) -> dict[str, list[Figure]]:
    """Each task's means, in the order in which the suite has the tasks."""
    found = {}
    for code, name in enumerate(metric.names):
        part = metric.column.only(metric.tasks == code)
        found[name] = list(_figures(part.own, part.unscored, metric.limits))
    return {name: found[name] for name in metric.order}

"""Metrics over training steps: what ``soar-bench train`` saw of its checkpoints on the way.

The values are those of ``evaluations.jsonl`` in the training's folder. What they are of (suite,
protocol, evaluators) is said by the records that the trainer left in ``results`` beside it: lines
stand in one plot only where the records are of one board.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property

from evaluators import registry
from evaluators.types import EvaluatorError
from soar_bench.boards import Board, Entrant
from soar_bench.core.errors import SoarBenchError
from soar_bench.records import Run, read_run, run_folders
from soar_bench.records.model import MetricRecord
from soar_bench.report import curves, text
from soar_bench.report import lines as lines_of
from soar_bench.report.curves import Training
from soar_bench.report.plots import Figures
from soar_bench.report.sections import Section, ordered_metrics, training_of
from soar_bench.stats import CONFIDENCE

#: What the trainer leaves in its folder (training/run.py, soar_bench/trainer/watch.py).
EVALUATIONS_FILE, RESULTS = "evaluations.jsonl", "results"
#: Follows a metric's name where the figure is how many samples have no score.
UNSCORED = "/unscored"
#: Width and height of a plot in inches: no wider than a phone.
_SIZE = (3.7, 2.5)
_PERCENT = round(100 * CONFIDENCE)
_UNKNOWN = (math.nan, math.nan)


@dataclass(frozen=True)
class Look:
    """What was seen of one checkpoint; of the base at step 0."""

    #: by metric; absent where no sample has a score
    values: Mapping[str, float]
    #: samples without a score, by metric; absent where there are none
    unscored: Mapping[str, int]
    #: the record that has the same; None where it has gone
    run: Run | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Line:
    """The looks at one training, by step."""

    training: Training
    looks: Mapping[int, Look]

    @cached_property
    def intervals(self) -> Mapping[tuple[int, str], tuple[float, float]]:
        """Of the values whose records can be read, by step and metric."""
        ends_of = {}
        for step, look in self.looks.items():
            with suppress(SoarBenchError):
                ends_of.update({(step, m): ends for m, ends in _intervals(look.run).items()})
        return ends_of

    def cell(self, step: int, metric: str) -> str:
        """The value with its interval, and how many samples are not in it."""
        look = self.looks.get(step)
        if look is None:
            return text.NONE
        value = text.number(look.values.get(metric, math.nan))
        ends = text.interval(self.intervals.get((step, metric), _UNKNOWN))
        unscored = look.unscored.get(metric, 0)
        without = f"({unscored:,} unscored)" if unscored else ""
        return " ".join(part for part in (value, ends, without) if part)


@dataclass(frozen=True)
class Group:
    """What may stand in one plot."""

    #: a record that says what was measured; None where the records have gone
    run: Run | None
    lines: tuple[Line, ...]

    @property
    def steps(self) -> list[int]:
        return sorted({step for line in self.lines for step in line.looks})

    @property
    def metrics(self) -> list[str]:
        """Every metric, the one to rank by first where the record says it."""
        looks = [look for line in self.lines for look in line.looks.values()]
        seen = {metric for look in looks for metric in (*look.values, *look.unscored)}
        return [metric for metric in self.declared if metric in seen] + sorted(
            seen - set(self.declared)
        )

    @cached_property
    def declared(self) -> Mapping[str, MetricRecord]:
        """By metric its unit and direction, of those that are known."""
        return dict(ordered_metrics(self.run)) if self.run else _built_in()

    def label(self, line: Line) -> str:
        """A training, and its seed where there are several."""
        training = line.training
        seeds = sum(other.training.key == training.key for other in self.lines)
        return training.name if seeds == 1 else f"{training.name}, seed {training.seed}"


def figures(
    logs: Sequence[Training], series: Mapping[str, int], boards: Sequence[Section]
) -> list[Figures]:
    """A figure for each metric that was evaluated while one of the trainings went on.

    Those of one seed each are left out where a board has all of their checkpoints, since its sweep
    over the steps has the same points (:func:`soar_bench.report.sweeps.training_sweeps`).
    """
    drawn = []
    for number, group in enumerate(groups(logs)):
        board = next((b for b in boards if group.run and b.runs[0].board == group.run.board), None)
        if board is not None and _is_swept(group, board):
            continue
        for place, metric in enumerate(group.metrics):
            drawn.append(_draw(group, board, metric, series, f"curve-{number}-{place}"))
    return drawn


def groups(logs: Sequence[Training]) -> list[Group]:
    """What was seen of the trainings, by board. Where a training's records have gone, its seeds
    alone are in one group.
    """
    runs: dict[str, Run | None] = {}
    lines: dict[str, list[Line]] = {}
    for log in logs:
        looks_by_step = looks(log)
        records = _records(log, looks_by_step)
        by_board: dict[str, dict[int, Look]] = {}
        for step, look in looks_by_step.items():
            run = records.get(step)
            key = run.board if run else f"unknown {log.key}"
            runs.setdefault(key, run)
            by_board.setdefault(key, {})[step] = replace(look, run=run)
        for key, part in by_board.items():
            lines.setdefault(key, []).append(Line(log, part))
    return [Group(runs[key], tuple(group_lines)) for key, group_lines in lines.items()]


def looks(log: Training) -> dict[int, Look]:
    """By step what was seen, up to the last checkpoint that was judged; looks without a figure, as
    those that only made images, are left out.
    """
    file = log.folder / EVALUATIONS_FILE
    by_step: dict[int, Look] = {}
    lines = curves.lines(file) if file.is_file() else ()
    for line in sorted(lines, key=lambda line: line["step"]):
        values = line.get("figures")
        if not (0 <= line["step"] <= log.last and isinstance(values, dict)):
            continue
        numbers = {name: curves.number(value) for name, value in values.items()}
        numbers = {name: value for name, value in numbers.items() if math.isfinite(value)}
        if numbers:
            by_step[line["step"]] = Look(
                {name: value for name, value in numbers.items() if not name.endswith(UNSCORED)},
                {name.removesuffix(UNSCORED): int(value) for name, value in numbers.items()
                 if name.endswith(UNSCORED)},
            )  # fmt: skip
    return by_step


def _records(log: Training, seen: Mapping[int, Look]) -> dict[int, Run]:
    """By step the record that holds the same figures.

    The folder may hold others too. Of several that fit, the one counts whose board fits most steps.
    """
    fitting: dict[int, list[Run]] = {}
    for run in _runs(log):
        if run.training:
            same = (training_of(run), run.seed) == (log.key, log.seed)
            step = int(run.training["step"]) if same else -1
        else:
            step = 0 if run.record.checkpoint.digest == log.base else -1
        if step in seen and _look(run) == seen[step]:
            fitting.setdefault(step, []).append(run)
    times = Counter(board for runs in fitting.values() for board in {run.board for run in runs})
    return {step: max(runs, key=lambda run: times[run.board]) for step, runs in fitting.items()}


def _runs(log: Training) -> Iterator[Run]:
    """The records in the training's folder that can be read."""
    place = log.folder / RESULTS
    for folder in run_folders(place) if place.is_dir() else ():
        with suppress(SoarBenchError):  # then it says nothing of what was measured
            yield read_run(folder)


def _intervals(run: Run | None) -> dict[str, tuple[float, float]]:
    """By metric. SoarBenchError if the record's scores cannot be read."""
    if run is None:
        return {}
    board = Board.of([Entrant(run.name, (run,))])
    return {metric: board.interval(0, metric) for metric in board.metrics}


def _look(run: Run) -> Look:
    metrics = run.record.metrics
    return Look(
        {name: summary.value for name, summary in metrics.items() if summary.value is not None},
        {name: summary.unscored for name, summary in metrics.items() if summary.unscored},
    )


def _built_in() -> dict[str, MetricRecord]:
    """The metrics of the evaluators that are built in."""
    metrics = {}
    for name in registry.BUILT_IN:
        with suppress(EvaluatorError):
            for metric in registry.create(name).metrics:
                metrics[metric.name] = MetricRecord.of(metric)
    return metrics


def _is_swept(group: Group, board: Section) -> bool:
    """Whether the board's sweep over training steps has every point of the group."""
    on_board = {(training_of(run), run.training["step"]) for run in board.runs if run.training}
    bases = {run.record.checkpoint.digest for run in board.runs if not run.training}
    trainings = [line.training.key for line in group.lines]
    return len(set(trainings)) == len(trainings) and all(
        ((line.training.key, step) in on_board if step else line.training.base in bases)
        for line in group.lines
        for step in line.looks
    )


def _draw(
    group: Group, board: Section | None, metric: str, series: Mapping[str, int], key: str
) -> Figures:
    title = _title(group, board, metric)
    drawn = [line for line in group.lines if line.training.key in series]
    lines = [
        lines_of.Line(series[line.training.key], [
            lines_of.Mark(
                step,
                look.values[metric],
                line.intervals.get((step, metric), _UNKNOWN),
                f"{group.label(line)}, step {step}: {line.cell(step, metric)}",
                metric in look.unscored,
            )
            for step, look in line.looks.items() if metric in look.values
        ])
        for line in drawn
    ]  # fmt: skip
    says = f"{title}, one line a training and seed; the numbers follow as a table."
    drawing = lines_of.draw(lines, ("training step", metric), key, says, _SIZE)
    header = ("step", *(group.label(line) for line in group.lines))
    rows = tuple(
        (str(step), *(line.cell(step, metric) for line in group.lines)) for step in group.steps
    )
    legend = curves.legend([line.training for line in drawn], series)
    return Figures(title, drawing, _caption(group, metric, bool(drawing)), header, rows, legend)


def _title(group: Group, board: Section | None, metric: str) -> str:
    """``few under shapes: right while training (share of images, higher is better)``."""
    if board is not None:
        place = f"{board.title}: "
    elif group.run is not None:
        record = group.run.record
        place = f"{record.suite.name} under {record.protocol.name}: "
    else:
        place = ""
    declared = group.declared.get(metric)
    if declared is None:
        return f"{place}{metric} while training"
    better = "higher" if declared.higher_is_better else "lower"
    unit = declared.unit.partition(";")[0]
    return f"{place}{metric} while training ({unit}, {better} is better)"


def _caption(group: Group, metric: str, has_points: bool) -> str:
    sentences = []
    if group.run is not None:
        suite = group.run.record.suite
        images = text.count(int(suite.images_per_prompt), "image")
        sentences.append(f"{text.count(suite.prompts, 'prompt')}, {images} each.")
    else:
        sentences.append(
            "Which suite and protocol it is of is not known: the records that the training left "
            "have gone or say other values."
        )
    if not has_points:
        return " ".join([*sentences, "No sample could be scored."])
    ends = [e for line in group.lines for (_, of), e in line.intervals.items() if of == metric]
    intervals = any(math.isfinite(low) for low, _ in ends)
    upright = f"; upright lines are {_PERCENT}% intervals" if intervals else ""
    sentences.append(f"One line a training seed{upright}.")
    if 0 in group.steps:
        sentences.append("Step 0 is the base.")
    if any(metric in look.unscored for line in group.lines for look in line.looks.values()):
        sentences.append("Hollow points leave out unscored samples; the numbers count them.")
    return " ".join(sentences)

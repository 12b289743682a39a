"""Metrics over training steps: what ``soar-bench train`` saw of its checkpoints on the way.

docs/report.md says which values are drawn, and which of them share a plot.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from evaluators import registry
from evaluators.types import EvaluatorError
from soar_bench.boards import Board, Entrant
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.text import count
from soar_bench.records import Run, metrics_of, read_run, run_folders
from soar_bench.records.model import MetricRecord
from soar_bench.report import curves, lines, text
from soar_bench.report.curves import Training
from soar_bench.report.lines import Line, Mark
from soar_bench.report.plots import Plot
from soar_bench.report.sections import Section, training_of
from soar_bench.stats import CONFIDENCE

#: What the trainer leaves in its folder (training/run.py, soar_bench/trainer/watch.py).
EVALUATIONS_FILE, RESULTS = "evaluations.jsonl", "results"
#: Follows a metric's name where the figure is how many samples have no score.
UNSCORED = "/unscored"
#: Width and height of a plot in inches: no wider than a phone.
_SIZE = (3.7, 2.5)
_UNKNOWN = (math.nan, math.nan)


@dataclass(frozen=True)
class Evaluation:
    """Values of one checkpoint; of the base at step 0."""

    #: by metric; absent where no sample has a score
    values: Mapping[str, float]
    #: samples without a score, by metric; absent where there are none
    unscored: Mapping[str, int]


@dataclass(frozen=True)
class Curve:
    """The evaluations of one training, by step."""

    training: Training
    evaluations: Mapping[int, Evaluation]
    #: the records that have the same; absent where they have gone
    runs: Mapping[int, Run]

    @cached_property
    def intervals(self) -> Mapping[tuple[int, str], tuple[float, float]]:
        """Intervals of the values whose records can be read, by step and metric."""
        intervals = {}
        for step, run in self.runs.items():
            with suppress(SoarBenchError):
                board = Board.of([Entrant(run.name, (run,))])
                intervals.update({(step, m): board.interval(0, m) for m in board.metrics})
        return intervals

    def cell(self, step: int, metric: str) -> str:
        """Return the value with its interval, and how many samples are not in it."""
        evaluation = self.evaluations.get(step)
        if evaluation is None:
            return text.NONE
        value = text.number(evaluation.values.get(metric, math.nan))
        ends = text.interval(self.intervals.get((step, metric), _UNKNOWN))
        unscored = evaluation.unscored.get(metric, 0)
        without = f"({unscored:,} unscored)" if unscored else ""
        return " ".join(part for part in (value, ends, without) if part)


@dataclass(frozen=True)
class CurveGroup:
    """Curves that may stand in one plot."""

    curves: list[Curve]

    @property
    def run(self) -> Run | None:
        """A record that says what was measured; None where the records have gone."""
        return next((run for curve in self.curves for run in curve.runs.values()), None)

    @property
    def evaluations(self) -> list[Evaluation]:
        """Every evaluation of the curves."""
        return [e for curve in self.curves for e in curve.evaluations.values()]

    @property
    def steps(self) -> list[int]:
        """Every step with an evaluation, rising."""
        return sorted({step for curve in self.curves for step in curve.evaluations})

    @property
    def metrics(self) -> list[str]:
        """Every metric, the one to rank by first where the record says it."""
        seen = {metric for e in self.evaluations for metric in (*e.values, *e.unscored)}
        return [m for m in self.declared if m in seen] + sorted(seen - set(self.declared))

    @cached_property
    def declared(self) -> Mapping[str, MetricRecord]:
        """Declarations by metric, of those that are known."""
        return dict(metrics_of(self.run)) if self.run else _built_in()

    def label(self, curve: Curve) -> str:
        """Return a training's name, with its seed where there are several."""
        training = curve.training
        seeds = sum(other.training.key == training.key for other in self.curves)
        return training.name if seeds == 1 else f"{training.name}, seed {training.seed}"


def figures(
    logs: Sequence[Training], series: Mapping[str, int], boards: Sequence[Section]
) -> list[Plot]:
    """Return a plot for each metric that was evaluated while one of the trainings went on.

    Those of one seed each are left out where a board has all of their checkpoints, since its sweep
    over the steps has the same points (:func:`soar_bench.report.sweeps.training_sweeps`).
    """
    drawn = []
    for number, group in enumerate(_groups(logs)):
        board = next((b for b in boards if group.run and b.runs[0].board == group.run.board), None)
        if board is None or not _is_swept(group, board):
            for place, metric in enumerate(group.metrics):
                drawn.append(_draw(group, board, metric, series, f"curve-{number}-{place}"))
    return drawn


def _groups(logs: Sequence[Training]) -> list[CurveGroup]:
    """Return the evaluations of the trainings by board. Where a training's records have gone, its
    seeds alone are in one group.
    """
    groups: dict[str, list[Curve]] = {}
    for log in logs:
        evaluations = _evaluations(log)
        runs = _records(log, evaluations)
        keys = {step: runs[step].board if step in runs else f"unknown {log.key}"
                for step in evaluations}  # fmt: skip
        for key in dict.fromkeys(keys.values()):
            of_board = {step: e for step, e in evaluations.items() if keys[step] == key}
            records = {step: run for step, run in runs.items() if step in of_board}
            groups.setdefault(key, []).append(Curve(log, of_board, records))
    return [CurveGroup(group) for group in groups.values()]


def _evaluations(log: Training) -> dict[int, Evaluation]:
    """Return the evaluations by step, up to the last checkpoint that was judged; those without a
    figure, which only made images, are left out.
    """
    file = log.folder / EVALUATIONS_FILE
    by_step: dict[int, Evaluation] = {}
    entries = curves.read_steps(file) if file.is_file() else ()
    for entry in sorted(entries, key=lambda entry: entry["step"]):
        if not (0 <= entry["step"] <= log.last and isinstance(entry.get("figures"), dict)):
            continue
        numbers = {name: text.as_float(value) for name, value in entry["figures"].items()}
        numbers = {name: value for name, value in numbers.items() if math.isfinite(value)}
        values = {name: value for name, value in numbers.items() if not name.endswith(UNSCORED)}
        counts = {name.removesuffix(UNSCORED): int(n) for name, n in numbers.items()
                  if name.endswith(UNSCORED)}  # fmt: skip
        if numbers:
            by_step[entry["step"]] = Evaluation(values, counts)
    return by_step


def _records(log: Training, evaluations: Mapping[int, Evaluation]) -> dict[int, Run]:
    """Return the record that holds the same figures, by step.

    The folder may hold others too. Of several that fit, the one counts whose board fits most steps.
    """
    fitting: dict[int, list[Run]] = {}
    for run in _runs(log):
        training = (training_of(run), run.seed) == (log.key, log.seed)
        base = run.record.checkpoint.digest == log.base
        step = int(run.training["step"]) if training else 0 if base else -1
        metrics = run.record.metrics.items()
        recorded = Evaluation(
            {name: summary.value for name, summary in metrics if summary.value is not None},
            {name: summary.unscored for name, summary in metrics if summary.unscored},
        )
        if evaluations.get(step) == recorded:
            fitting.setdefault(step, []).append(run)
    times = Counter(board for runs in fitting.values() for board in {run.board for run in runs})
    return {step: max(runs, key=lambda run: times[run.board]) for step, runs in fitting.items()}


def _runs(log: Training) -> Iterator[Run]:
    """Yield the records in the training's folder that can be read."""
    place = log.folder / RESULTS
    for folder in run_folders(place) if place.is_dir() else ():
        with suppress(SoarBenchError):  # then it says nothing of what was measured
            yield read_run(folder)


def _built_in() -> dict[str, MetricRecord]:
    """Return the metrics of the evaluators that are built in."""
    metrics = {}
    for name in registry.BUILT_IN:
        with suppress(EvaluatorError):
            for metric in registry.create(name).metrics:
                metrics[metric.name] = MetricRecord.of(metric)
    return metrics


def _is_swept(group: CurveGroup, board: Section) -> bool:
    """Return whether the board's sweep over training steps has every point of the group."""
    on_board = {(training_of(run), run.training["step"]) for run in board.runs if run.training}
    bases = {(run.record.checkpoint.digest, 0) for run in board.runs}
    trainings = [curve.training for curve in group.curves]
    points = {(c.training.key if step else c.training.base, step)
              for c in group.curves for step in c.evaluations}  # fmt: skip
    return len({t.key for t in trainings}) == len(trainings) and points <= on_board | bases


def _draw(
    group: CurveGroup, board: Section | None, metric: str, series: Mapping[str, int], key: str
) -> Plot:
    title = _title(group, board, metric)
    drawn = []
    for curve in group.curves:
        if curve.training.key in series:
            marks = [
                Mark(
                    step,
                    evaluation.values[metric],
                    curve.intervals.get((step, metric), _UNKNOWN),
                    title=f"{group.label(curve)}, step {step}: {curve.cell(step, metric)}",
                    hollow=metric in evaluation.unscored,
                )
                for step, evaluation in curve.evaluations.items()
                if metric in evaluation.values
            ]
            drawn.append(Line(series[curve.training.key], curve.training.name, marks))
    says = f"{title}, one line a training and seed; the numbers follow as a table."
    drawing = lines.draw(drawn, ("training step", metric), key, says, _SIZE)
    caption = _caption(group, metric, bool(drawing))
    header = ("step", *map(group.label, group.curves))
    rows = tuple((str(s), *(curve.cell(s, metric) for curve in group.curves)) for s in group.steps)
    return Plot(title, drawing, caption, header, rows, lines.legend(drawn))


def _title(group: CurveGroup, board: Section | None, metric: str) -> str:
    """Return ``few under shapes: right while training (share of images, higher is better)``."""
    place = ""
    if group.run is not None:
        place = f"{group.run.record.title}: "
    if board is not None:
        place = f"{board.title}: "
    declared = group.declared.get(metric)
    if declared is None:
        return f"{place}{metric} while training"
    better = "higher" if declared.higher_is_better else "lower"
    unit = declared.unit.partition(";")[0]
    return f"{place}{metric} while training ({unit}, {better} is better)"


def _caption(group: CurveGroup, metric: str, has_points: bool) -> str:
    if group.run is None:
        sentences = [
            "Which suite and protocol it is of is not known: the records that the training left "
            "have gone or say other values."
        ]
    else:
        suite = group.run.record.suite
        images = count(int(suite.images_per_prompt), "image")
        sentences = [f"{count(suite.prompts, 'prompt')}, {images} each."]
    if not has_points:
        return " ".join([*sentences, "No sample could be scored."])
    ends = [e for curve in group.curves for (_, m), e in curve.intervals.items() if m == metric]
    has_intervals = any(math.isfinite(low) for low, _ in ends)
    level = f"; upright lines are {round(100 * CONFIDENCE)}% intervals" if has_intervals else ""
    sentences.append(f"One line a training seed{level}.")
    if 0 in group.steps:
        sentences.append("Step 0 is the base.")
    if any(metric in evaluation.unscored for evaluation in group.evaluations):
        sentences.append("Hollow points leave out unscored samples; the numbers count them.")
    return " ".join(sentences)

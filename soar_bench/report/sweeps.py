"""Sweeps: boards that differ in one setting, and trainings judged at several steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from soar_bench.core.digests import digest_of
from soar_bench.records.model import MetricRecord
from soar_bench.report import plots, text
from soar_bench.report.lines import Line, Mark
from soar_bench.report.lines import draw as draw_lines
from soar_bench.report.plots import Figures
from soar_bench.report.sections import Section, training_names, training_of
from soar_bench.report.text import Value
from soar_bench.stats import CONFIDENCE

#: The settings that are swept, with what the axis says.
SWEPT = {"steps": "sampler steps", "guidance": "guidance scale"}


@dataclass(frozen=True)
class Curve:
    """One line: a metric of one checkpoint against a number."""

    name: str
    points: tuple[tuple[float, Value], ...]
    #: which colour and mark it has; None: those of its place among the lines
    series: int | None = None


def protocol_sweeps(boards: Sequence[Section]) -> list[Figures]:
    """One figure for each metric of each set of boards that differ in one swept setting alone."""
    figures = []
    for setting, axis in SWEPT.items():
        families: dict[str, list[Section]] = {}
        for board in boards:
            decides = board.runs[0].decides
            rest = {k: v for k, v in decides["protocol"].items() if k != setting}
            # How many images a prompt has changes how sure a value is, not what it means.
            suite = {k: v for k, v in decides["suite"].items() if k != "images_per_prompt"}
            if setting in decides["protocol"]:
                key = digest_of({**decides, "protocol": rest, "suite": suite})
                families.setdefault(key, []).append(board)
        for number, family in enumerate(families.values()):
            family = _one_each(family, setting)
            if len(family) < 2:
                continue
            for metric, declared in family[0].metrics:
                curves = _across(family, setting, metric)
                if curves:
                    title = f"{family[0].suite}: {metric} by {axis}"
                    key = f"sweep-{setting}-{number}-{plots.metric_key(family[0], metric)}"
                    figure = draw(curves, title, axis, metric, declared, key)
                    figures.append(replace(figure, caption=figure.caption + _images(family)))
    return figures


def _one_each(family: Sequence[Section], setting: str) -> list[Section]:
    """The boards in the setting's order; of several with one value that with most images."""
    by_value: dict[float, Section] = {}
    for board in sorted(family, key=_images_of):
        by_value[_setting(board, setting)] = board
    return [by_value[value] for value in sorted(by_value)]


def _images_of(board: Section) -> float:
    return float(board.record.suite.images_per_prompt)


def _images(family: Sequence[Section]) -> str:
    """A sentence where the boards have different numbers of images; else nothing."""
    numbers = [f"{_images_of(board):g}" for board in family]
    if len(set(numbers)) == 1:
        return ""
    return f" Images a prompt, from left to right: {', '.join(numbers)}."


def _setting(board: Section, setting: str) -> float:
    settings: Any = board.record.protocol.settings
    return float(settings[setting])


def _across(family: Sequence[Section], setting: str, metric: str) -> list[Curve]:
    """Return the checkpoints that are on two boards of the family or more."""
    names: dict[str, str] = {}
    points: dict[str, list[tuple[float, Value]]] = {}
    for board in family:
        for number, entrant in enumerate(board.entrants):
            key = entrant.first.group
            names.setdefault(key, entrant.name)
            value = board.value(number, metric)
            if value.estimate.scored:
                points.setdefault(key, []).append((_setting(board, setting), value))
    return [Curve(names[key], tuple(of)) for key, of in points.items() if len(of) > 1]


def training_sweeps(boards: Sequence[Section]) -> list[Figures]:
    """One figure for each metric of a board that has checkpoints of one training at several steps.

    A line begins at the base, at step 0, where the base is on the board, and has the colour of the
    training's last checkpoint.
    """
    figures = []
    for board in boards:
        firsts = [entrant.first for entrant in board.entrants]
        bases = {r.record.checkpoint.digest: i for i, r in enumerate(firsts) if not r.training}
        trainings: dict[str, list[int]] = {}
        for number, run in enumerate(firsts):
            if key := training_of(run):
                trainings.setdefault(key, []).append(number)
        names = training_names(board.runs)
        several = {key: numbers for key, numbers in trainings.items() if len(numbers) > 1}
        for metric, declared in board.metrics if several else ():
            curves = []
            for training, numbers in several.items():
                base = bases.get(firsts[numbers[0]].base)
                steps = [(firsts[n].training["step"], n) for n in numbers]
                steps = ([] if base is None else [(0, base)]) + steps
                points = [(float(step), board.value(n, metric)) for step, n in steps]
                points = [(step, value) for step, value in points if value.estimate.scored]
                if len(points) > 1:
                    curves.append(Curve(names[training], tuple(points), numbers[-1]))
            if curves:
                title = f"{board.title}: {metric} by training step"
                key = f"{board.key}-steps-{plots.metric_key(board, metric)}"
                figures.append(draw(curves, title, "training step", metric, declared, key))
    return figures


def draw(
    curves: Sequence[Curve], title: str, axis: str, metric: str, declared: MetricRecord, key: str
) -> Figures:
    """Lines with their intervals, and the same as a table."""
    drawn = curves[: plots.MOST]
    series = [i if curve.series is None else curve.series for i, curve in enumerate(drawn)]
    places = sorted({x for curve in drawn for x, _ in curve.points})
    lines = [
        Line(number, [
            Mark(x, value.estimate.value, value.interval, f"{curve.name}, {axis} {x:g}: {value}")
            for x, value in curve.points
        ])
        for number, curve in zip(series, drawn, strict=True)
    ]  # fmt: skip
    drawing = draw_lines(lines, (axis, metric), key, f"{title}; the numbers follow as a table.")
    header = ("checkpoint", *(f"{x:g}" for x in places))
    rows = tuple(
        (curve.name, *(str(dict(curve.points).get(x, text.NONE)) for x in places))
        for curve in curves
    )
    better = "higher" if declared.higher_is_better else "lower"
    caption = f"{metric} with its {round(100 * CONFIDENCE)}% interval; {better} is better."
    legend = tuple((series[i], curve.name) for i, curve in enumerate(drawn))
    return Figures(title, drawing, caption, header, rows, legend)

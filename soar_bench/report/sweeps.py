"""Sweeps: boards that differ in one setting, and trainings judged at several steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from soar_bench.core.digests import digest_of
from soar_bench.report import lines, plots
from soar_bench.report.lines import Line, Mark
from soar_bench.report.plots import Plot
from soar_bench.report.sections import Section, training_names, training_of
from soar_bench.report.text import Value
from soar_bench.stats import CONFIDENCE

#: The settings that are swept, with the label of the axis.
SWEPT = {"steps": "sampler steps", "guidance": "guidance scale"}


def protocol_sweeps(boards: Sequence[Section]) -> list[Plot]:
    """Return a plot for each metric of boards that differ in one swept setting alone."""
    drawn = []
    for setting, axis in SWEPT.items():
        families: dict[str, list[Section]] = {}
        for board in boards:
            decides = board.record.decides
            rest = {k: v for k, v in decides["protocol"].items() if k != setting}
            # How many images a prompt has changes how sure a value is, not what it means.
            suite = {k: v for k, v in decides["suite"].items() if k != "images_per_prompt"}
            if setting in decides["protocol"]:
                key = digest_of({**decides, "protocol": rest, "suite": suite})
                families.setdefault(key, []).append(board)
        for number, family in enumerate(families.values()):
            by_value = _by_value(family, setting)
            first = next(iter(by_value.values()))
            images = [f"{_images(board):g}" for board in by_value.values()]
            note = f" Images per prompt, from left to right: {', '.join(images)}."
            note = note if len(set(images)) > 1 else ""
            for metric, _ in first.metrics:
                title = f"{first.suite}: {metric} by {axis}"
                key = f"sweep-{setting}-{number}-{plots.metric_key(first, metric)}"
                if curves := _across(by_value, axis, metric):
                    drawn.append(_draw(curves, title, axis, first, metric, key, note))
    return drawn


def _by_value(family: Sequence[Section], setting: str) -> dict[float, Section]:
    """Return the boards by the setting, rising; of several with one value that with most images."""
    by_value: dict[float, Section] = {}
    for board in sorted(family, key=_images):
        settings: Any = board.record.protocol.settings
        by_value[float(settings[setting])] = board
    return dict(sorted(by_value.items()))


def _images(board: Section) -> float:
    return float(board.record.suite.images_per_prompt)


def _across(by_value: dict[float, Section], axis: str, metric: str) -> list[Line]:
    """Return the checkpoints that are on two of the boards or more."""
    names: dict[str, str] = {}
    points: dict[str, list[tuple[float, Value]]] = {}
    for x, board in by_value.items():
        for number, entrant in enumerate(board.entrants):
            key = entrant.first.group
            names.setdefault(key, entrant.name)
            value = board.value(number, metric)
            if value.estimate.scored:
                points.setdefault(key, []).append((x, value))
    made = [_line(0, names[key], axis, of_entrant) for key, of_entrant in points.items()]
    several = [line for line in made if len(line.marks) > 1]
    return [Line(series, line.name, line.marks) for series, line in enumerate(several)]


def training_sweeps(boards: Sequence[Section]) -> list[Plot]:
    """Return a plot for each metric of a board with checkpoints of one training at several steps.

    A line begins at the base, at step 0, where the base is on the board, and has the colour of the
    training's last checkpoint.
    """
    drawn = []
    axis = "training step"
    for board in boards:
        firsts = [entrant.first for entrant in board.entrants]
        bases = {run.record.checkpoint.digest: i for i, run in enumerate(firsts)}
        trainings: dict[str, list[int]] = {}
        for number, run in enumerate(firsts):
            if key := training_of(run):
                trainings.setdefault(key, []).append(number)
        names = training_names(board.runs)
        for metric, _ in board.metrics:
            curves = []
            for training, numbers in trainings.items():
                base = bases.get(firsts[numbers[0]].start)
                steps = [(0, base)] if base is not None else []
                steps += [(firsts[n].training["step"], n) for n in numbers]
                points = [(float(step), board.value(n, metric)) for step, n in steps]
                line = _line(numbers[-1], names[training], axis, points)
                if len(numbers) > 1 and len(line.marks) > 1:
                    curves.append(line)
            title = f"{board.title}: {metric} by {axis}"
            key = f"{board.key}-steps-{plots.metric_key(board, metric)}"
            if curves:
                drawn.append(_draw(curves, title, axis, board, metric, key, ""))
    return drawn


def _line(series: int, name: str, axis: str, points: Sequence[tuple[float, Value]]) -> Line:
    """Return the line of the points that are scored."""
    return Line(series, name, [
        Mark(x, value.estimate.value, value.interval, str(value), f"{name}, {axis} {x:g}: {value}")
        for x, value in points if value.estimate.scored
    ])  # fmt: skip


def _draw(
    curves: Sequence[Line], title: str, axis: str, board: Section, metric: str, key: str, note: str
) -> Plot:
    """Return lines with their intervals, and the same as a table."""
    drawn = curves[: plots.MOST]
    says = f"{title}; the numbers follow as a table."
    better = "higher" if board.board.metrics[metric].higher_is_better else "lower"
    caption = f"{metric} with its {round(100 * CONFIDENCE)}% interval; {better} is better.{note}"
    header, *rows = lines.cells(curves, lines.places_of(drawn))
    drawing = lines.draw(drawn, (axis, metric), key, says)
    return Plot(title, drawing, caption, header, tuple(rows), lines.legend(drawn))

"""The plots of one board: values, tasks, distributions and paired differences.

Colours and marks go by the entrant's place on the board, in every plot the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from soar_bench.boards import Board, Entrant
from soar_bench.boards.board import within
from soar_bench.boards.categories import TASK
from soar_bench.boards.rows import Row
from soar_bench.boards.words import breakdown
from soar_bench.records.model import MetricRecord
from soar_bench.report import svg, text
from soar_bench.report.sections import Section
from soar_bench.report.text import Value
from soar_bench.stats import CONFIDENCE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: More entrants than this make no readable plot; the table has them all.
MOST = 12
#: Metrics beside each other in one figure.
_ABREAST = 3
_BINS = 24
#: A score with at most so many different values is shown value by value.
_DISCRETE = 12
_PERCENT = round(100 * CONFIDENCE)


@dataclass(frozen=True)
class Plot:
    """One drawing with the text around it."""

    title: str
    svg: Markup
    caption: str
    #: the same in numbers: the header and the rows; empty where the summary table has them
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    #: the series by number and name, where the drawing does not name them
    legend: tuple[tuple[int, str], ...] = ()


def _shown(board: Section) -> tuple[Entrant, ...]:
    """Return the entrants that plots have room for: the first ones."""
    return board.entrants[:MOST]


def _legend(board: Section) -> tuple[tuple[int, str], ...]:
    return tuple((i, entrant.name) for i, entrant in enumerate(_shown(board)))


def values(board: Section) -> Plot:
    """Return every metric's value with its interval, a row per checkpoint."""
    metrics, entrants = board.metrics, _shown(board)
    titles: dict[str, str] = {}
    with svg.figure(*_size(len(metrics), 0.3 * len(entrants) + 0.95)) as figure:
        for number, metric, axes in _columns(figure, board, entrants):
            for i, entrant in enumerate(entrants):
                value = board.value(i, metric)
                gid = f"v{number}-{i}"
                titles[gid] = f"{entrant.name}, {metric}: {value}"
                _point(axes, i, i, value, gid, across=True)
        says = f"Values with their {_PERCENT}% intervals; the table above has the numbers."
        drawing = svg.to_svg(figure, f"{board.key}-values", says, titles)
    return Plot("Values", drawing, f"Points are values, lines their {_PERCENT}% intervals.")


def effects(board: Section) -> Plot | None:
    """Return every metric's paired difference to the first entrant with its interval, a row per
    checkpoint; None if there is nothing to compare.
    """
    metrics, entrants = board.metrics, _shown(board)[1:]
    rows = {(r.metric, r.entrant): r for r in board.rows if r.difference and r.difference.scored}
    if not any((metric, e.name) in rows for metric, _ in metrics for e in entrants):
        return None
    reference, titles = board.entrants[0].name, {}
    with svg.figure(*_size(len(metrics), 0.3 * len(entrants) + 1.2)) as figure:
        for number, metric, axes in _columns(figure, board, entrants):
            axes.axvline(0, color=svg.INK, linewidth=1)
            for i, entrant in enumerate(entrants):
                row = rows.get((metric, entrant.name))
                if row is None or row.difference is None:
                    continue
                gid = f"e{number}-{i}"
                value = Value(row.difference, row.interval)
                titles[gid] = f"{entrant.name}, {metric}: {value}, {row.verdict}"
                _point(axes, i, i + 1, value, gid, across=True)
            axes.locator_params(axis="x", nbins=5)
            if not any(np.any(line.get_xdata()) for line in axes.lines):  # nothing has a scale
                axes.set_xlim(-1, 1)
                axes.set_xticks([0])
            axes.set_xlabel(f"difference to {svg.label(reference)}")
        says = f"Paired differences to {reference}; the table above has the numbers."
        drawing = svg.to_svg(figure, f"{board.key}-effects", says, titles)
    caption = (
        f"Points are differences to {reference} on the same prompts and noise, lines their "
        f"{_PERCENT}% intervals. These are not corrected: where one leaves out 0, the verdict may "
        "still be open."
    )
    return Plot("Paired differences", drawing, caption)


def _size(metrics: int, height: float) -> tuple[float, float]:
    """Return width and height in inches of a figure of :func:`_columns`, a row ``height`` high."""
    return max(3.2 * min(metrics, _ABREAST), 4.2) + 1.2, height * math.ceil(metrics / _ABREAST)


def _columns(
    figure: Figure, board: Section, entrants: Sequence[Entrant]
) -> Iterator[tuple[int, str, Axes]]:
    """Yield each metric with its number and axes, on which entrants are rows; no more axes beside
    each other than can be read.
    """
    many = len(board.metrics)
    rows, columns = math.ceil(many / _ABREAST), min(many, _ABREAST)
    all_axes = np.atleast_1d(figure.subplots(rows, columns, sharey=True)).ravel()
    for axes in all_axes[many:]:
        axes.remove()
    places = zip(all_axes[:many], board.metrics, strict=True)
    for number, (axes, (metric, declared)) in enumerate(places):
        axes.set_title(f"{svg.label(metric)} {'↑' if declared.higher_is_better else '↓'}")
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.12)
        axes.set_ylim(len(entrants) - 0.5, -0.5)
        axes.set_yticks(range(len(entrants)), [svg.label(e.name) for e in entrants])
        axes.tick_params(length=0)
        yield number, metric, axes


def tasks(board: Section, metric: str, declared: MetricRecord) -> Plot | None:
    """Return the metric's mean by task; None where nothing has one, or the breakdown shows it."""
    names = board.tasks
    if len(names) < 2 or board.by in TASK:
        return None
    entrants = _shown(board)
    tables = board.board.table(metric).by_task()
    estimates = [[tables[task].value(i) for task in names] for i in range(len(entrants))]
    values = [[Value(e, within(e.interval(), declared)) for e in row] for row in estimates]
    if not any(value.estimate.scored for row in values for value in row):
        return None
    drawing = _by(board, metric, declared, "task", names, values)
    header = ("checkpoint", *names)
    rows = tuple((e.name, *map(str, row)) for e, row in zip(entrants, values, strict=True))
    caption = f"Mean by task with its {_PERCENT}% interval."
    return Plot(f"{metric} by task", drawing, caption, header, rows, _legend(board))


def categories(board: Section, metric: str, declared: MetricRecord) -> Plot | None:
    """Return the metric's mean by the column that was asked for, with the paired differences as
    numbers; None without one.
    """
    entrants = _shown(board)
    by_category: dict[str, list[Row]] = {}
    for row in board.parts:
        if row.metric == metric:
            by_category.setdefault(row.category, []).append(row)
    values = [
        [Value(rows[i].value, rows[i].value_interval) for rows in by_category.values()]
        for i in range(len(entrants))
    ]
    if not any(value.estimate.scored for row in values for value in row):
        return None
    drawing = _by(board, metric, declared, board.by, list(by_category), values)
    header: tuple[str, ...] = (board.by, "checkpoint", "prompts", f"value [{_PERCENT}%]")
    if len(board.entrants) > 1:
        difference = f"difference to {board.entrants[0].name} [{_PERCENT}%]"
        header += (difference, "p, corrected", "verdict")
    numbers = tuple(
        (
            row.category,
            row.entrant,
            str(row.value.prompts),
            text.estimate(row.value, row.value_interval),
            text.estimate(row.difference, row.interval, sign=True),
            text.p_value(row.p_corrected),
            row.verdict,
        )[: len(header)]
        for rows in by_category.values()
        for row in rows
    )
    caption = f"{breakdown(board.by, board.parts)} Lines are {_PERCENT}% intervals."
    return Plot(f"{metric} by {board.by}", drawing, caption, header, numbers, _legend(board))


def _by(
    board: Section,
    metric: str,
    declared: MetricRecord,
    by: str,
    names: Sequence[str],
    values: Sequence[Sequence[Value]],
) -> Markup:
    """Draw values [entrants][names] beside each other, name by name."""
    entrants = _shown(board)
    low, high = declared.range
    bars = low == 0.0 and high <= 1.0
    titles: dict[str, str] = {}
    width = 0.8 / len(entrants)
    labels = [svg.label(name) for name in names]
    room = max(0.16 * (len(entrants) + 1.5), 0.075 * max(map(len, labels)))  # inches of a name
    with svg.figure(max(7.2, room * len(names) + 1), 2.9) as figure:
        axes = figure.subplots()
        for i, (entrant, row) in enumerate(zip(entrants, values, strict=True)):
            for j, value in enumerate(row):
                if not value.estimate.scored:
                    continue
                gid = f"t{i}-{j}"
                titles[gid] = f"{entrant.name}, {names[j]}: {value}"
                x = j + (i - (len(entrants) - 1) / 2) * width
                if bars:
                    _bar(axes, x, value, width * 0.92, i, gid)
                else:
                    _point(axes, x, i, value, gid)
        axes.set_xticks(range(len(names)), labels)
        axes.tick_params(axis="x", length=0)
        axes.grid(axis="x", visible=False)
        axes.set_ylabel(svg.label(declared.unit, 36))
        if bars:
            axes.set_ylim(0, 1.02)
        says = f"{metric} by {by}; the numbers follow as a table."
        kind = "tasks" if by == "task" else "by"
        key = f"{board.key}-{kind}-{metric_key(board, metric)}"
        return svg.to_svg(figure, key, says, titles)


def distribution(board: Section, metric: str, declared: MetricRecord) -> Plot | None:
    """Return how the prompts' means are distributed; None where nothing is scored."""
    rows = board.board.table(metric).prompt_means()[: len(_shown(board))]
    means = [row[~np.isnan(row)] for row in rows]
    all_means = np.concatenate(means)
    if not all_means.size:
        return None
    with svg.figure(5.4, 2.7) as figure:
        axes = figure.subplots()
        _histogram(axes, means, all_means)
        axes.set_xlabel(svg.label(declared.unit, 60))
        axes.set_ylabel("share of prompts")
        says = f"Distribution of {metric} over prompts, one line per checkpoint."
        drawing = svg.to_svg(figure, f"{board.key}-spread-{metric_key(board, metric)}", says)
    caption = "Share of prompts whose images have this mean."
    return Plot(f"{metric} by prompt", drawing, caption, legend=_legend(board))


def differences(board: Section, metric: str, declared: MetricRecord) -> Plot | None:
    """Return how the prompts' paired differences to the first entrant are distributed; None if
    there is nothing to compare.
    """
    base, pairs = board.entrants[0], []
    for i, entrant in list(enumerate(_shown(board)))[1:]:
        by_prompt = prompt_differences(board.board, i, 0, metric)
        if by_prompt.size:
            pairs.append((i, entrant.name, by_prompt))
    if not pairs:
        return None
    edges = _edges(np.concatenate([by_prompt for _, _, by_prompt in pairs]))
    rows = []
    with svg.figure(5.4, 0.72 * len(pairs) + 0.85) as figure:
        all_axes = np.atleast_1d(figure.subplots(len(pairs), 1, sharex=True, sharey=True))
        for axes, (i, name, by_prompt) in zip(all_axes, pairs, strict=True):
            share = np.histogram(by_prompt, edges)[0] / by_prompt.size
            axes.stairs(share, edges, fill=True, color=svg.series_color(i), alpha=0.75)
            axes.axvline(0, color=svg.INK, linewidth=1)
            axes.set_yticks([])
            axes.grid(axis="y", visible=False)
            axes.spines["left"].set_visible(False)
            axes.set_ylabel(svg.label(name), rotation=0, ha="right", va="center", labelpad=6)
            sign = 1 if declared.higher_is_better else -1
            better, worse = int((sign * by_prompt > 0).sum()), int((sign * by_prompt < 0).sum())
            rows.append((name, *map(str, (better, by_prompt.size - better - worse, worse))))
        all_axes[-1].set_xlabel(f"difference to {svg.label(base.name)}, prompt by prompt")
        says = f"Differences of {metric} to {base.name} by prompt; their counts follow as a table."
        drawing = svg.to_svg(figure, f"{board.key}-pairs-{metric_key(board, metric)}", says)
    caption = (
        f"Share of prompts by how much their mean differs from that of {base.name} on the same "
        "noise."
    )
    header = ("checkpoint", "prompts better", "equal", "worse")
    return Plot(f"{metric}: paired differences", drawing, caption, header, tuple(rows))


def prompt_differences(board: Board, entrant: int, base: int, metric: str) -> np.ndarray:
    """Return by prompt how much higher the mean of an entrant is than that of another, on the
    samples that both scored, [prompts].
    """
    clusters = board.pair(entrant, base, metric).clusters
    return np.zeros(0) if clusters is None else clusters.sums / clusters.counts


def metric_key(board: Section, metric: str) -> str:
    """Return a metric's name inside the page: letters and digits."""
    return f"m{[name for name, _ in board.metrics].index(metric)}"


def _point(
    axes: Axes, place: float, series: int, value: Value, gid: str, across: bool = False
) -> None:
    """Draw a value and its interval, upright or across."""
    if not value.estimate.scored:
        return
    color = svg.series_color(series)
    low, high = value.interval
    if math.isfinite(low):
        ends = ([low, high], [place, place])
        axes.plot(*(ends if across else ends[::-1]), color=color, linewidth=2.2)
    at = (value.estimate.value, place) if across else (place, value.estimate.value)
    axes.plot(*at, svg.series_marker(series), color=color, markersize=7, gid=gid)


def _bar(axes: Axes, x: float, value: Value, width: float, series: int, gid: str) -> None:
    low, high = value.interval
    # Pale, so that the half of the interval that lies on the bar is seen.
    axes.bar(x, value.estimate.value, width, color=svg.series_color(series), alpha=0.5, gid=gid)
    if math.isfinite(low):
        ends = [low, high]
        # On a line of the page's colour, so that it stands out from the bar.
        axes.plot([x, x], ends, color=svg.PAPER, linewidth=2.6, solid_capstyle="butt")
        axes.plot([x, x], ends, color=svg.INK, linewidth=1)


def _histogram(axes: Axes, means: Sequence[np.ndarray], all_means: np.ndarray) -> None:
    values = np.unique(all_means.round(9))
    present = [(i, of_entrant) for i, of_entrant in enumerate(means) if of_entrant.size]
    if len(values) <= _DISCRETE:
        gap = float(np.diff(values).min()) if len(values) > 1 else 1.0
        width = 0.84 * gap / len(present)
        for n, (i, of_entrant) in enumerate(present):
            shares = [float(np.isclose(of_entrant, value).mean()) for value in values]
            places = values + (n - (len(present) - 1) / 2) * width
            axes.bar(places, shares, width * 0.94, color=svg.series_color(i))
        axes.grid(axis="x", visible=False)
        if len(values) <= 6:
            axes.set_xticks(values, [f"{value:.3g}" for value in values])
        if len(values) == 1:
            axes.set_xlim(values[0] - 1, values[0] + 1)
        return
    edges = np.linspace(float(all_means.min()), float(all_means.max()), _BINS + 1)
    for i, of_entrant in present:
        share = np.histogram(of_entrant, edges)[0] / of_entrant.size
        style = svg.DASHES[i // svg.COLORS % len(svg.DASHES)]
        axes.stairs(share, edges, color=svg.series_color(i), linewidth=1.6, linestyle=style)
    axes.set_ylim(0, None)


def _edges(differences: np.ndarray) -> np.ndarray:
    """Return edges of bins, one of them around 0; few different values get a bin each."""
    furthest = float(np.abs(differences).max()) or 1.0
    values = np.unique(np.abs(differences).round(9))
    step = values[1] - values[0] if len(values) > 1 else furthest
    steps = round(furthest / step) if len(values) <= _DISCRETE and step > furthest / 40 else 12
    steps = max(steps, 1)
    width = furthest / steps
    return np.asarray([(k - 0.5) * width for k in range(-steps, steps + 2)])

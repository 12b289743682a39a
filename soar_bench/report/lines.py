"""Lines with marks and intervals against a number: sweeps, training steps and drift."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from soar_bench.report import svg, text

#: How far lines are drawn apart, and all of them at most, of the width: intervals stand side by
#: side, not on top of each other.
_APART, _SPREAD = 0.012, 0.06
#: Places nearer to each other than this share of the width are not named each by itself.
_CLOSE = 0.1


#: Ratios that are further apart than this have a logarithmic axis.
_FAR = 3.0


@dataclass(frozen=True)
class Mark:
    """One point of a line."""

    x: float
    y: float
    #: NaN where it is not known
    interval: tuple[float, float] = (math.nan, math.nan)
    #: ``y`` in a table
    cell: str = ""
    #: shows when a pointer rests on it
    title: str = ""
    #: drawn as an outline
    hollow: bool = False


@dataclass(frozen=True)
class Line:
    """The marks of one series, by x."""

    #: number of its colour and shape
    series: int
    name: str
    marks: Sequence[Mark]


def legend(lines: Sequence[Line]) -> tuple[tuple[int, str], ...]:
    """Return each series by number and name."""
    return tuple(dict.fromkeys((line.series, line.name) for line in lines))


def places_of(lines: Sequence[Line]) -> list[float]:
    """Return every x of the marks, rising."""
    return sorted({mark.x for line in lines for mark in line.marks})


def cells(lines: Sequence[Line], places: Sequence[float]) -> tuple[tuple[str, ...], ...]:
    """Return a table of the marks at some places, a row per line under a header."""
    rows = [(line.name, {mark.x: mark.cell for mark in line.marks}) for line in lines]
    header = ("checkpoint", *(f"{x:g}" for x in places))
    return header, *((name, *(by_x.get(x, text.NONE) for x in places)) for name, by_x in rows)


def draw(
    lines: Sequence[Line],
    labels: tuple[str, str],
    key: str,
    says: str,
    size: tuple[float, float] = (5.4, 2.9),
    level: float | None = None,
) -> Markup:
    """Return the drawing of lines, with ``labels`` of both axes and a horizontal line at ``level``;
    empty where no line has a mark. ``key`` and ``says`` are those of :func:`svg.to_svg`.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    places = places_of(lines)
    if not places:
        return Markup("")
    shift = min(_APART, _SPREAD / len(lines)) * (places[-1] - places[0])
    titles: dict[str, str] = {}
    with svg.figure(*size) as figure:
        axes = figure.subplots()
        if level is not None:
            axes.axhline(level, color=svg.INK, linewidth=0.8)
        for i, line in enumerate(lines):
            color, marker = svg.series_color(line.series), svg.series_marker(line.series)
            aside = (i - (len(lines) - 1) / 2) * shift
            xs = [mark.x + aside for mark in line.marks]
            axes.plot(xs, [mark.y for mark in line.marks], color=color, linewidth=1.5)
            for j, (x, mark) in enumerate(zip(xs, line.marks, strict=True)):
                if math.isfinite(mark.interval[0]):
                    axes.plot([x, x], mark.interval, color=color, linewidth=1.1)
                gid = f"p{i}-{j}"
                if mark.title:
                    titles[gid] = mark.title
                inside = svg.PAPER if mark.hollow else color
                axes.plot(x, mark.y, marker, color=color, markerfacecolor=inside, markersize=5,
                          gid=gid)  # fmt: skip
        gaps = [after - before for before, after in pairwise(places)]
        if all(gap > _CLOSE * (places[-1] - places[0]) for gap in gaps):
            axes.set_xticks(places, [f"{place:g}" for place in places])
        else:
            axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True))
        heights = [mark.y for line in lines for mark in line.marks]
        if level is not None and min(heights) > 0 and max(heights) > _FAR * min(heights):
            # Ratios: on a linear axis a single high one would press all others onto the line.
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
            axes.yaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(labels[0])
        axes.set_ylabel(svg.label(labels[1]))
        return svg.to_svg(figure, key, says, titles)

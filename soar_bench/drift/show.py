"""What the probe leaves: drift.csv, drift.json, drift.png, and tables for the terminal."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from soar_bench.core.files import replace_atomically, write_text
from soar_bench.core.text import json_text
from soar_bench.drift.figures import (
    EXACT,
    Difference,
    DriftRow,
    Probe,
    ProbeGroup,
    as_records,
    differences,
    entrants,
    labels,
    rows,
    summary,
)
from soar_bench.stats import CONFIDENCE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CSV_FILE, JSON_FILE, PLOT_FILE = "drift.csv", "drift.json", "drift.png"
SCHEMA = 1

#: Which level and whose, then the figures.
_FIRST = ("timestep", "sigma", "checkpoint", "digest", "steps_rolled")
_COLUMNS = (*_FIRST, *(f.name for f in fields(DriftRow) if f.name not in _FIRST))
#: So many levels a table; the files have all.
_SHOWN = 8
#: The geometric mean over all levels.
_MEAN = "all"
_PERCENT = round(100 * CONFIDENCE)
#: Told apart by people who do not see all colours: Okabe and Ito's palette without its yellow.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", ":", "-.")
_AXIS = "timestep (0 picture, 1000 noise)"


def record(probes: Sequence[Probe], settings: dict[str, Any]) -> dict[str, Any]:
    """Everything that was measured, as drift.json has it; what is not defined is null."""
    return {
        "schema": SCHEMA,
        "settings": settings,
        "checkpoints": [
            {
                "label": label,
                "name": probe.checkpoint.name,
                "digest": probe.checkpoint.digest,
                "training": probe.checkpoint.story.get("name"),
                "seed": probe.checkpoint.story.get("seed"),
            }
            for label, probe in zip(labels(probes), probes, strict=True)
        ],
        "rows": as_records(all_rows(probes)),
        "differences": as_records(_differences(probes)),
    }


def all_rows(probes: Sequence[Probe]) -> list[DriftRow]:
    return [
        row
        for label, probe in zip(labels(probes), probes, strict=True)
        for row in rows(probe, label)
    ]


def _differences(probes: Sequence[Probe]) -> list[Difference]:
    return differences(entrants(probes))


def as_csv(probes: Sequence[Probe]) -> str:
    """One line a row, the columns named as the fields of Row; what is not defined is empty."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in all_rows(probes):
        writer.writerow([_cell(getattr(row, name)) for name in _COLUMNS])
    return target.getvalue()


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.9g}" if math.isfinite(value) else ""
    return str(value)


def write(output: Path, probes: Sequence[Probe], settings: dict[str, Any]) -> list[Path]:
    """Writes the three files, each whole or not at all, and returns them."""
    files = [output / name for name in (CSV_FILE, JSON_FILE, PLOT_FILE)]
    write_text(files[0], as_csv(probes))
    write_text(files[1], json_text(record(probes, settings)))
    draw(files[2], probes)
    return files


def tables(probes: Sequence[Probe]) -> list[Table]:
    """The ratios by level and, with several entrants, their differences from the first."""
    groups = entrants(probes)
    shown = [_ratio_table(groups)]
    if len(groups) > 1:
        shown.append(_difference_table(groups))
    return shown


def _ratio_table(groups: Sequence[ProbeGroup]) -> Table:
    first = groups[0].probes[0]
    table = Table(
        title=f"own error / ideal error ± s.e., {first.samples} samples", title_justify="left"
    )
    table.add_column("steps", justify="right")
    table.add_column("timestep", justify="right")
    for entrant in groups:
        count = f" ({len(entrant.probes)} seeds)" if len(entrant.probes) > 1 else ""
        table.add_column(escape(entrant.name + count), justify="right", overflow="fold")
    for m, steps in enumerate(first.rolled):
        places = list(reversed(first.places(m)))
        for level in _some(places):
            cells = [_ratio_cell(entrant, m, [level]) for entrant in groups]
            table.add_row(str(steps), f"{first.timesteps[level]:.0f}", *cells)
        cells = [_ratio_cell(entrant, m, places) for entrant in groups]
        table.add_row(str(steps), _MEAN, *cells, style="bold", end_section=True)
    return table


def _ratio_cell(entrant: ProbeGroup, m: int, levels: Sequence[int]) -> str:
    shown = summary(entrant, m, levels)
    return "none" if math.isnan(shown.value) else f"{shown.value:.3f} ± {shown.standard_error:.3f}"


def _difference_table(groups: Sequence[ProbeGroup]) -> Table:
    reference, *others = groups
    table = Table(
        title=escape(f"ratio less that of {reference.name} [{_PERCENT}% interval]"),
        title_justify="left",
    )
    table.add_column("steps", justify="right")
    table.add_column("timestep", justify="right")
    for entrant in others:
        table.add_column(escape(entrant.name), justify="right", overflow="fold")
    shown = {
        (d.steps_rolled, d.timestep, d.entrant): d
        for d in differences(groups)
        if d.figure == "ratio"
    }
    first = reference.probes[0]
    for m, steps in enumerate(first.rolled):
        places = _some(list(reversed(first.places(m))))
        for timestep in [*(float(first.timesteps[level]) for level in places), None]:
            mean = timestep is None
            table.add_row(
                str(steps),
                _MEAN if timestep is None else f"{timestep:.0f}",
                *(_difference_cell(shown[steps, timestep, other.name]) for other in others),
                style="bold" if mean else None,
                end_section=mean,
            )
    return table


def _difference_cell(difference: Difference) -> str:
    if math.isnan(difference.value):
        return "none"
    return escape(f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]")


def _some(places: list[int]) -> list[int]:
    """At most so many as a table shows, evenly spread, with both ends."""
    if len(places) <= _SHOWN:
        return places
    last = len(places) - 1
    return [places[round(i * last / (_SHOWN - 1))] for i in range(_SHOWN)]


def notes(probes: Sequence[Probe]) -> list[str]:
    """Sentences that belong under the tables."""
    sentences = []
    first = probes[0]
    if any(len(first.places(m)) > _SHOWN for m in range(len(first.rolled))):
        sentences.append(f"The tables show {_SHOWN} levels of each length; {CSV_FILE} has all.")
    sentences.append(f"The row '{_MEAN}' is the geometric mean over all levels.")
    for label, probe in zip(labels(probes), probes, strict=True):
        exact = sum(float(ideal.mean()) <= EXACT for ideal in probe.ideal)
        if exact:
            sentences.append(
                f"{label} makes no error at the ideal states of {exact} of "
                f"{len(probe.ideal)} levels, so a ratio to it is not defined there."
            )
    groups = entrants(probes)
    if len(groups) > 1 and any(len(entrant.probes) == 1 for entrant in groups):
        sentences.append(
            "Where an entrant is one checkpoint, intervals say nothing of what another training "
            "seed would have given."
        )
    return sentences


def draw(file: Path, probes: Sequence[Probe]) -> None:
    """The ratio above and the two errors below, one column a length of walk, as PNG."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    groups = entrants(probes)
    rolled = probes[0].rolled
    with matplotlib.rc_context(
        {
            "axes.edgecolor": "black",
            "axes.facecolor": "white",
            "axes.grid": True,
            "axes.labelcolor": "black",
            "font.size": 9,
            "grid.color": "#dddddd",
            "text.color": "black",
            "text.parse_math": False,  # a name with dollar signs is a name
            "xtick.color": "black",
            "ytick.color": "black",
        }
    ):
        figure = Figure((3.1 * len(rolled) + 1, 6), layout="constrained", facecolor="white")
        axes = figure.subplots(2, len(rolled), sharex=True, sharey="row", squeeze=False)
        for m, steps in enumerate(rolled):
            for i, entrant in enumerate(groups):
                style = _COLORS[i % len(_COLORS)], _DASHES[i // len(_COLORS) % len(_DASHES)]
                _curves(axes[0, m], axes[1, m], entrant, m, style)
            axes[0, m].set_title(f"after {steps} step{'s' if steps > 1 else ''}")
            axes[0, m].axhline(1, color="#555555", linewidth=0.8)
            for row in (0, 1):
                axes[row, m].set_yscale("log")
                axes[row, m].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
                axes[row, m].yaxis.set_minor_formatter(NullFormatter())
            axes[1, m].set_xlabel(_AXIS)
        axes[0, 0].set_ylabel("own error / ideal error")
        axes[1, 0].set_ylabel(
            "mean squared error of the velocity\n(squared latent units a step of 1)"
        )
        handles, names = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 4))
        figure.suptitle(
            f"Own states (solid, with {_PERCENT}% bands) and ideal states (thin); "
            f"{probes[0].samples} samples"
        )
        with replace_atomically(file) as aside:
            figure.savefig(aside, format="png", dpi=150)


def _curves(above: Axes, below: Axes, entrant: ProbeGroup, m: int, style: tuple[str, Any]) -> None:
    first = entrant.probes[0]
    places = list(first.places(m))
    x = [float(first.timesteps[level]) for level in places]
    color, dash = style
    ratios = [summary(entrant, m, [level]) for level in places]
    low, high = zip(*(estimate.interval() for estimate in ratios), strict=True)
    above.plot(
        x,
        [estimate.value for estimate in ratios],
        dash,
        color=color,
        label=entrant.name,
        marker=".",
        linewidth=1.4,
    )
    above.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
    count = len(entrant.probes)
    own = [sum(float(p.own[m, level].mean()) for p in entrant.probes) / count for level in places]
    ideal = [sum(float(p.ideal[level].mean()) for p in entrant.probes) / count for level in places]
    below.plot(x, own, dash, color=color, linewidth=1.4, label=entrant.name)
    below.plot(x, ideal, dash, color=color, linewidth=0.6)

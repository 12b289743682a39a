"""Files of the probe (drift.csv, drift.json, drift.png) and tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.markup import escape
from rich.table import Table

from soar_bench.core.files import replace_atomically, write_text
from soar_bench.core.text import csv_text, json_text
from soar_bench.drift import figures
from soar_bench.drift.figures import EXACT, DriftRow, Probe, ProbeGroup, entrants, labels, summary
from soar_bench.stats import CONFIDENCE

CSV_FILE, JSON_FILE, PLOT_FILE = "drift.csv", "drift.json", "drift.png"
SCHEMA = 1

#: Levels that a table shows of each length of walk; the files have all.
_SHOWN = 8
#: Names the geometric mean over all levels.
_MEAN = "all"
_PERCENT = round(100 * CONFIDENCE)
#: Told apart by people who do not see all colours: Okabe and Ito's palette without its yellow.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", ":", "-.")


def record(probes: Sequence[Probe], settings: dict[str, Any]) -> dict[str, Any]:
    """Return all that was measured, as drift.json has it; what is not defined is null."""
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
        "rows": [asdict(row) for row in _rows(probes)],
        "differences": [asdict(d) for d in figures.differences(entrants(probes))],
    }


def _rows(probes: Sequence[Probe]) -> list[DriftRow]:
    pairs = zip(probes, labels(probes), strict=True)
    return [row for probe, label in pairs for row in figures.rows(probe, label)]


def as_csv(probes: Sequence[Probe]) -> str:
    """Return a line per row with the fields of DriftRow; what is not defined is empty."""
    table = pd.DataFrame([asdict(row) for row in _rows(probes)])
    table["checkpoint"] = table["checkpoint"].map(csv_text)
    return table.to_csv(index=False, float_format="%.9g", lineterminator="\n")


def write(output: Path, probes: Sequence[Probe], settings: dict[str, Any]) -> list[Path]:
    """Write the three files, each whole or not at all, and return them."""
    files = [output / name for name in (CSV_FILE, JSON_FILE, PLOT_FILE)]
    write_text(files[0], as_csv(probes))
    write_text(files[1], json_text(record(probes, settings)))
    draw(files[2], probes)
    return files


def tables(probes: Sequence[Probe]) -> list[Table]:
    """Return the ratios by level and, with several entrants, their differences from the first."""

    def ratio(entrant: ProbeGroup, m: int, levels: Sequence[int]) -> str:
        shown = summary(entrant, m, levels)
        if math.isnan(shown.value):
            return "none"
        return f"{shown.value:.3f} ± {shown.standard_error:.3f}"

    def difference(entrant: ProbeGroup, m: int, levels: Sequence[int]) -> str:
        shown = figures.difference(entrant, reference, "ratio", m, levels)
        low, high = shown.interval()
        return (
            "none" if math.isnan(shown.value) else f"{shown.value:+.3f} [{low:+.3f}, {high:+.3f}]"
        )

    reference, *others = groups = entrants(probes)
    title = f"own error / ideal error ± s.e., {probes[0].samples} samples"
    ratios = _table(title, groups, ratio, seeds=True)
    title = f"ratio less that of {reference.name} [{_PERCENT}% interval]"
    return [ratios, _table(title, others, difference)] if others else [ratios]


def _table(
    title: str,
    groups: Sequence[ProbeGroup],
    cell: Callable[[ProbeGroup, int, Sequence[int]], str],
    seeds: bool = False,
) -> Table:
    """Return a table with a column per entrant, and a row per level that is shown and over all.

    ``seeds``: whether the columns say how many seeds an entrant has.
    """
    first = groups[0].probes[0]
    table = Table(title=escape(title), title_justify="left")
    table.add_column("steps", justify="right")
    table.add_column("timestep", justify="right")
    for entrant in groups:
        count = f" ({len(entrant.probes)} seeds)" if seeds and len(entrant.probes) > 1 else ""
        table.add_column(escape(entrant.name + count), justify="right", overflow="fold")
    for m, steps in enumerate(first.rolled):
        levels = first.places(m)[::-1]
        for level in (levels[i] for i in figures.evenly(len(levels), _SHOWN)):
            cells = [escape(cell(entrant, m, [level])) for entrant in groups]
            table.add_row(str(steps), f"{first.timesteps[level]:.0f}", *cells)
        cells = [escape(cell(entrant, m, levels)) for entrant in groups]
        table.add_row(str(steps), _MEAN, *cells, style="bold", end_section=True)
    return table


def notes(probes: Sequence[Probe]) -> list[str]:
    """Return the sentences that belong under the tables."""
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
    """Draw the ratio above and the two errors below, a column per length of walk, as PNG."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    rolled = probes[0].rolled
    page: dict[Any, Any] = {
        "axes.edgecolor": "black", "axes.facecolor": "white", "axes.grid": True,
        "axes.labelcolor": "black", "font.size": 9, "grid.color": "#dddddd",
        "text.color": "black", "xtick.color": "black", "ytick.color": "black",
        "text.parse_math": False,  # a name with dollar signs is a name
    }  # fmt: skip
    with matplotlib.rc_context(page):
        figure = Figure((3.1 * len(rolled) + 1, 6), layout="constrained", facecolor="white")
        axes = figure.subplots(2, len(rolled), sharex=True, sharey="row", squeeze=False)
        for m, steps in enumerate(rolled):
            for i, entrant in enumerate(entrants(probes)):
                color, dash = _COLORS[i % len(_COLORS)], _DASHES[i // len(_COLORS) % len(_DASHES)]
                style = {"color": color, "linestyle": dash, "linewidth": 1.4, "label": entrant.name}
                places = list(entrant.probes[0].places(m))
                x = entrant.probes[0].timesteps[places]
                ratios = [summary(entrant, m, [level]) for level in places]
                low, high = zip(*(ratio.interval() for ratio in ratios), strict=True)
                above, below = axes[:, m]
                above.plot(x, [ratio.value for ratio in ratios], marker=".", **style)
                above.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
                own = np.mean([p.own[m, places].mean(axis=1) for p in entrant.probes], axis=0)
                ideal = np.mean([p.ideal[places].mean(axis=1) for p in entrant.probes], axis=0)
                below.plot(x, own, **style)
                below.plot(x, ideal, dash, color=color, linewidth=0.6)
            axes[0, m].set_title(f"after {steps} step{'s' if steps > 1 else ''}")
            axes[0, m].axhline(1, color="#555555", linewidth=0.8)
            for row in axes[:, m]:
                row.set_yscale("log")
                row.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
                row.yaxis.set_minor_formatter(NullFormatter())
            axes[1, m].set_xlabel("timestep (0 picture, 1000 noise)")
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

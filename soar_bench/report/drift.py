"""Drift curves: how much worse a model is at its own sampler's states, by timestep.

What is read is what ``soar-bench drift`` writes, or any file that has its columns:

``drift.csv``
    The columns ``timestep`` (a number), ``checkpoint`` (a label) and ``ratio`` (a number, or empty
    where it is not defined), one line a point; ``steps_rolled`` and ``ratio_se`` if there are any.
    Other columns are passed over.
``drift.json``
    The same rows as a list of objects, or such a list under ``rows``. Passed over where there is a
    ``drift.csv`` too.

A file stands in a record's folder or in one above it, up to the folder that the report was asked
for; or it is named with ``--drift``.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soar_bench.core.errors import SoarBenchError
from soar_bench.report import plots, text
from soar_bench.report.lines import Line, Mark, draw
from soar_bench.report.plots import Figures

FILES = ("drift.csv", "drift.json")
COLUMNS = ("timestep", "checkpoint", "ratio")
#: Columns of a table that are shown; the plot has all.
_SHOWN = 12


@dataclass(frozen=True)
class Point:
    """A checkpoint's ratio at a timestep."""

    timestep: float
    ratio: float
    #: its standard error; NaN where it is not known
    error: float = math.nan


#: By steps rolled, as the file has it (empty where it does not), and checkpoint: the points in the
#: order of timesteps.
Drift = dict[str, dict[str, list[Point]]]


def find(folders: Iterable[Path], top: Sequence[Path]) -> list[Path]:
    """Drift files in the records' folders and those above, inside the folders of ``top``."""
    tops = {folder.resolve() for folder in top}
    places: dict[Path, None] = {}
    for folder in folders:
        place = folder.resolve()
        above = [place, *place.parents]
        inside = next((i for i, folder_above in enumerate(above) if folder_above in tops), 0)
        places.update(dict.fromkeys(above[: inside + 1]))
    return [file for place in places for file in _of(place)]


def named(paths: Iterable[Path]) -> list[Path]:
    """The files that a user names, by themselves or by their folder. SoarBenchError if one is not
    there.
    """
    named_files: list[Path] = []
    for path in paths:
        place = path.resolve()
        files = _of(place) if place.is_dir() else [place] if place.is_file() else []
        if not files:
            raise SoarBenchError(f"there is no drift.csv in {path}: run soar-bench drift first")
        named_files += files
    return named_files


def _of(folder: Path) -> list[Path]:
    return [folder / name for name in FILES if (folder / name).is_file()][:1]


def read(file: Path) -> Drift:
    """The curves of a file. SoarBenchError that names the file and the row that is wrong."""
    try:
        content = file.read_text("utf-8")
        rows: Any = (
            json.loads(content)
            if file.suffix == ".json"
            else list(csv.DictReader(content.splitlines()))
        )
    except (ValueError, csv.Error) as error:
        raise SoarBenchError(f"{file} cannot be read ({error}): write it again") from None
    if isinstance(rows, dict):
        rows = rows.get("rows")
    if not isinstance(rows, list):
        raise SoarBenchError(f"{file} has no list of rows with {', '.join(COLUMNS)}")
    curves: Drift = {}
    for number, row in enumerate(rows, start=1):
        lacking = [c for c in COLUMNS if not isinstance(row, dict) or c not in row]
        if lacking:
            raise SoarBenchError(f"{file}: row {number} lacks {', '.join(lacking)}")
        if row["ratio"] in (None, ""):
            continue
        point = Point(*(_number(row.get(c)) for c in ("timestep", "ratio", "ratio_se")))
        if not (math.isfinite(point.timestep) and math.isfinite(point.ratio)):
            raise SoarBenchError(
                f"{file}: row {number} has a timestep or a ratio that is no finite number"
            )
        rolled = curves.setdefault(str(row.get("steps_rolled") or ""), {})
        rolled.setdefault(str(row["checkpoint"]), []).append(point)
    return {
        rolled: {name: sorted(points, key=lambda p: p.timestep) for name, points in of.items()}
        for rolled, of in curves.items()
    }


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def figures(curves: Drift, key: str, series: Mapping[str, int]) -> list[Figures]:
    """One drawing for each number of steps rolled, and the same as a table. ``series`` has the
    numbers of labels that the boards know.
    """
    names = list(dict.fromkeys(name for of in curves.values() for name in of))
    free = iter(i for i in range(len(names) + len(series)) if i not in series.values())
    numbers = {name: series[name] if name in series else next(free) for name in names}
    return [
        _figure(of, rolled, f"{key}-{place}", numbers)
        for place, (rolled, of) in enumerate(curves.items())
    ]


def _figure(
    curves: Mapping[str, Sequence[Point]], rolled: str, key: str, numbers: Mapping[str, int]
) -> Figures:
    drawn = list(curves.items())[: plots.MOST]
    lines = [
        Line(numbers[name], [
            Mark(p.timestep, p.ratio, (p.ratio - p.error, p.ratio + p.error)) for p in points
        ])
        for name, points in drawn
    ]  # fmt: skip
    says = "Drift ratio against the timestep, one line a checkpoint; a table follows."
    drawing = draw(lines, ("timestep", "drift ratio"), key, says, level=1)
    steps = sorted({p.timestep for points in curves.values() for p in points})
    if len(steps) > _SHOWN:
        steps = [steps[round(i * (len(steps) - 1) / (_SHOWN - 1))] for i in range(_SHOWN)]
    rows = []
    for name, points in curves.items():
        ratios = {p.timestep: p.ratio for p in points}
        rows.append((name, *(text.number(ratios.get(step, math.nan)) for step in steps)))
    after = f" after {rolled} {'step' if rolled == '1' else 'steps'}" if rolled else ""
    return Figures(
        f"Drift ratio{after}",
        drawing,
        "Error at states of the sampler's own over that at ideal ones, with its standard error; "
        "at 1 the model is as good at both. Compare checkpoints, not a checkpoint with 1.",
        ("checkpoint", *(f"{step:g}" for step in steps)),
        tuple(rows),
        tuple((numbers[name], name) for name, _ in drawn),
    )

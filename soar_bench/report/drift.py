"""Drift curves: how much worse a model is at its own sampler's states, by timestep.

docs/report.md says which files are read, and where they are looked for.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from soar_bench.core.errors import SoarBenchError
from soar_bench.core.text import from_csv, parse_json
from soar_bench.drift.figures import evenly
from soar_bench.report import lines, plots, svg, text
from soar_bench.report.lines import Line, Mark
from soar_bench.report.plots import Plot

FILES = ("drift.csv", "drift.json")
COLUMNS = ("timestep", "checkpoint", "ratio")
#: Columns of a table that are shown; the plot has all.
_SHOWN = 12


#: By steps rolled (as the file has it, or empty) and checkpoint: its ratios with one standard error
#: to either side, in the order of timesteps.
Drift = dict[str, dict[str, list[Mark]]]


def find(folders: Iterable[Path], top: Sequence[Path]) -> list[Path]:
    """Return drift files in the records' folders and above, inside the folders of ``top``."""
    tops = {folder.resolve() for folder in top}
    places: dict[Path, None] = {}
    for folder in folders:
        above = [folder.resolve(), *folder.resolve().parents]
        inside = next((i for i, folder_above in enumerate(above) if folder_above in tops), 0)
        places.update(dict.fromkeys(above[: inside + 1]))
    return [file for place in places for file in _of(place)]


def named(paths: Iterable[Path]) -> list[Path]:
    """Return the files that a user names, or their folders. SoarBenchError if one is not there."""
    files: list[Path] = []
    for path in paths:
        place = path.resolve()
        of_path = _of(place) if place.is_dir() else [place] if place.is_file() else []
        if not of_path:
            raise SoarBenchError(f"there is no drift.csv in {path}: run soar-bench drift first")
        files += of_path
    return files


def _of(folder: Path) -> list[Path]:
    return [folder / name for name in FILES if (folder / name).is_file()][:1]


def read(file: Path) -> Drift:
    """Return the curves of a file. SoarBenchError that names the file and the row that is wrong."""
    try:
        content = file.read_text("utf-8")
        is_json = file.suffix == ".json"
        rows: Any = parse_json(content) if is_json else [*csv.DictReader(io.StringIO(content, ""))]
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
        timestep, ratio, spread = (_number(row.get(c)) for c in ("timestep", "ratio", "ratio_se"))
        if not (math.isfinite(timestep) and math.isfinite(ratio)):
            raise SoarBenchError(
                f"{file}: row {number} has a timestep or a ratio that is no finite number"
            )
        mark = Mark(timestep, ratio, (ratio - spread, ratio + spread), text.number(ratio))
        by_checkpoint = curves.setdefault(str(row.get("steps_rolled") or ""), {})
        by_checkpoint.setdefault(from_csv(str(row["checkpoint"])), []).append(mark)
    for marks in (marks for by_checkpoint in curves.values() for marks in by_checkpoint.values()):
        marks.sort(key=lambda mark: mark.x)
    return curves


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def figures(curves: Drift, key: str, series: Mapping[str, int]) -> list[Plot]:
    """Return a plot for each number of steps rolled, and the same as a table. ``series`` has the
    numbers of labels that the boards know.
    """
    names = [name for by_checkpoint in curves.values() for name in by_checkpoint]
    numbers = svg.series_numbers(names, series)
    drawn = []
    for place, (rolled, by_checkpoint) in enumerate(curves.items()):
        of_file = [Line(numbers[name], name, marks) for name, marks in by_checkpoint.items()]
        drawn.append(_plot(of_file, rolled, f"{key}-{place}"))
    return drawn


def _plot(curves: Sequence[Line], rolled: str, key: str) -> Plot:
    drawn = curves[: plots.MOST]
    says = "Drift ratio against the timestep, one line per checkpoint; a table follows."
    drawing = lines.draw(drawn, ("timestep", "drift ratio"), key, says, level=1)
    steps = lines.places_of(curves)
    header, *rows = lines.cells(curves, [steps[i] for i in evenly(len(steps), _SHOWN)])
    after = f" after {rolled} {'step' if rolled == '1' else 'steps'}" if rolled else ""
    caption = (
        "Error at states of the sampler's own over that at ideal ones, with its standard error; "
        "at 1 the model is as good at both. Compare checkpoints, not a checkpoint with 1."
    )
    legend = lines.legend(drawn)
    return Plot(f"Drift ratio{after}", drawing, caption, header, tuple(rows), legend)

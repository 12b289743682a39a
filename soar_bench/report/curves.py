"""Training curves: the losses that ``soar-bench train`` wrote, where its folder is at hand."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from soar_bench.records import Run
from soar_bench.report import plots, svg
from soar_bench.report.boards import Board
from soar_bench.report.plots import Figures

#: What the trainer leaves in its folder (training/loop.py).
METRICS_FILE, CONFIG_FILE = "metrics.jsonl", "config.json"
#: The loss and its parts, by the trainer's name for them.
LOSSES = {
    "loss": "loss",
    "loss_base": "on the line (base)",
    "loss_auxiliary": "off the line (auxiliary)",
}
#: A running mean over this share of the logged steps shows the course through the noise.
_WINDOW = 0.08


@dataclass(frozen=True)
class Training:
    """The log of one training."""

    name: str
    seed: int | None
    steps: np.ndarray
    #: by name of :data:`LOSSES`; as long as ``steps``
    losses: dict[str, np.ndarray]


def trainings(runs: Iterable[Run]) -> tuple[list[Training], list[str]]:
    """The logs of the trainings behind the runs, each once, and the labels of those without."""
    found: dict[str, Training | None] = {}
    labels: dict[str, str] = {}
    for run in runs:
        if not run.training:
            continue
        digest = run.record["checkpoint"]["digest"]
        labels.setdefault(digest, run.label)
        if found.get(digest) is None:
            found[digest] = _training(run)
    logs = {(t.name, t.seed, len(t.steps)): t for t in found.values() if t is not None}
    return list(logs.values()), [labels[digest] for digest, log in found.items() if log is None]


def _training(run: Run) -> Training | None:
    folder = folder_of(run)
    if folder is None:
        return None
    last = int(run.training["step"])
    lines = [line for line in _lines(folder / METRICS_FILE) if 0 < line["step"] <= last]
    if not lines:
        return None
    losses = {name: np.asarray([_number(line.get(name)) for line in lines]) for name in LOSSES}
    return Training(run.name, run.seed, np.asarray([line["step"] for line in lines]), losses)


def folder_of(run: Run) -> Path | None:
    """Where the checkpoint was trained: the folder that it was named by, or the one above.

    Only if the settings, base and data there are those of the checkpoint's story.
    """
    story = run.training
    wanted = [story["config"], story["base"]["digest"], story["data"]["digest"]]
    named = Path(run.record["checkpoint"]["name"])
    for folder in (named, named.parent):
        if not ((folder / METRICS_FILE).is_file() and (folder / CONFIG_FILE).is_file()):
            continue
        with suppress(ValueError, KeyError, TypeError):  # not a folder of the trainer's
            there = json.loads((folder / CONFIG_FILE).read_text("utf-8"))
            if [there["settings"], there["base"], there["data"]] == wanted:
                return folder
    return None


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    """Whole lines; the last one may be torn."""
    for line in file.read_text("utf-8", errors="replace").splitlines():
        with suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict) and isinstance(found.get("step"), int):
                yield found


def _number(value: Any) -> float:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if known else math.nan


def figure(logs: Sequence[Training], boards: Sequence[Board]) -> Figures | None:
    """Every training's loss and its parts; None without a log.

    Seeds of one training have one colour: that of the entrant, where a board has it.
    """
    names = list(dict.fromkeys(log.name for log in logs))[: plots.MOST]
    if not names:
        return None
    places = {e.name: i for board in reversed(boards) for i, e in enumerate(board.entrants)}
    free = iter(i for i in range(plots.MOST + len(places)) if i not in places.values())
    series = {name: places[name] if name in places else next(free) for name in names}
    parts = [p for p in LOSSES if any(np.nan_to_num(log.losses[p]).any() for log in logs)]
    if not parts:
        return None
    with svg.style():
        drawing = svg.new_figure(3.4 * len(parts) + 0.4, 2.7)
        all_axes = np.atleast_1d(drawing.subplots(1, len(parts), sharex=True))
        for axes, part in zip(all_axes, parts, strict=True):
            for log in logs:
                values = log.losses[part]
                if log.name not in series or not np.nan_to_num(values).any():
                    continue
                color = svg.series_color(series[log.name])
                axes.plot(log.steps, values, color=color, linewidth=0.6, alpha=0.22)
                axes.plot(log.steps, running_mean(values), color=color, linewidth=1.6)
            axes.set_title(LOSSES[part])
            axes.set_xlabel("training step")
            axes.set_ylim(0, None)
        says = "Training losses against the training step, one line a training and seed."
        markup = svg.to_svg(drawing, "training", says)
    caption = "Strong lines are running means of the faint ones; one line a training seed."
    legend = tuple((series[name], name) for name in names)
    return Figures("Losses", markup, caption, legend=legend)


def running_mean(values: np.ndarray) -> np.ndarray:
    """The mean over a window around each place, shorter at both ends; unknown values are left
    out.
    """
    half = max(1, round(_WINDOW * len(values) / 2))
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    places = np.arange(len(values))
    low, high = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    number = counts[high] - counts[low]
    return np.where(number > 0, (sums[high] - sums[low]) / np.maximum(number, 1), math.nan)

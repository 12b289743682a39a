"""Training curves: the losses that ``soar-bench train`` wrote, where its folder is at hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from soar_bench.core.errors import SoarBenchError
from soar_bench.core.files import read_json
from soar_bench.core.text import parse_json
from soar_bench.records import Run
from soar_bench.report import plots, svg
from soar_bench.report.plots import Plot
from soar_bench.report.sections import Section, training_names, training_of
from soar_bench.report.text import as_float

#: What the trainer leaves in its folder (training/run.py).
METRICS_FILE, CONFIG_FILE = "metrics.jsonl", "config.json"
#: The loss and its parts, by the trainer's name for them.
LOSSES = {"loss": "loss", "loss_base": "on the line (base)",
          "loss_auxiliary": "off the line (auxiliary)"}  # fmt: skip
#: A running mean over this share of the logged steps shows the course through the noise.
_WINDOW = 0.08


@dataclass(frozen=True)
class Training:
    """The log of one training, up to the last of its checkpoints that was judged."""

    #: equal for the seeds of one training: see :func:`soar_bench.report.sections.training_of`
    key: str
    #: name for tables
    name: str
    seed: int | None
    #: of the trainer
    folder: Path
    #: the digest of its base
    base: str
    #: step of that last checkpoint
    last: int
    steps: np.ndarray
    #: by name of :data:`LOSSES`; as long as ``steps``
    losses: dict[str, np.ndarray]


def trainings(runs: Iterable[Run]) -> tuple[list[Training], list[str]]:
    """Return the logs of the trainings behind the runs, one per seed, and the labels of the runs
    without one.
    """
    trained = [run for run in runs if run.training]
    names = training_names(trained)
    groups: dict[tuple[str, int | None], list[Run]] = {}
    for run in trained:
        groups.setdefault((training_of(run), run.seed), []).append(run)
    logs, without = [], {}
    for (key, seed), group in groups.items():
        folder = next(filter(None, map(folder_of, group)), None)
        last = max(run.training["step"] for run in group)
        entries = read_steps(folder / METRICS_FILE) if folder else ()
        logged = [entry for entry in entries if 0 < entry["step"] <= last]
        if folder and logged:
            steps = np.asarray([entry["step"] for entry in logged])
            losses = {p: np.asarray([as_float(e.get(p)) for e in logged]) for p in LOSSES}
            base = str(group[0].training["base"]["digest"])
            logs.append(Training(key, names[key], seed, folder, base, last, steps, losses))
        else:
            without.update({run.record.checkpoint.digest: run.label for run in group})
    return logs, list(dict.fromkeys(without.values()))


def folder_of(run: Run) -> Path | None:
    """Return where a checkpoint was trained: the folder that it was named by, the one above, or the
    one whose evaluations the record is among.

    Only if the settings, base and data there are those of the checkpoint's story.
    """
    story = run.training
    expected = [story["config"], story["base"]["digest"], story["data"]["digest"]]
    checkpoint = Path(run.record.checkpoint.name)
    for folder in (checkpoint, checkpoint.parent, *run.folder.resolve().parents[3:4]):
        with suppress(SoarBenchError, OSError):  # not a folder of the trainer's
            config = read_json(folder / CONFIG_FILE)
            settings = [config.get(name) for name in ("settings", "base", "data")]
            if (folder / METRICS_FILE).is_file() and settings == expected:
                return folder
    return None


def read_steps(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the whole lines that have a step; the last one may be torn."""
    for line in file.read_text("utf-8", errors="replace").splitlines():
        with suppress(ValueError):
            entry = parse_json(line)
            if isinstance(entry, dict) and type(entry.get("step")) is int:
                yield entry


def series_of(logs: Sequence[Training], boards: Sequence[Section]) -> Mapping[str, int]:
    """Return by training the number of its colour and mark: that of its last checkpoint where a
    board has it. Those that are too many for a plot are left out.
    """
    places = {
        training_of(entrant.first): place
        for board in reversed(boards)
        for place, entrant in enumerate(board.entrants)
    }
    keys = dict.fromkeys(log.key for log in logs)
    return svg.series_numbers([*keys][: plots.MOST], places)


def figure(logs: Sequence[Training], series: Mapping[str, int]) -> Plot | None:
    """Return the loss and its parts of the trainings in ``series``; None without a log."""
    logs = [log for log in logs if log.key in series]
    parts = [p for p in LOSSES if any(np.nan_to_num(log.losses[p]).any() for log in logs)]
    if not parts:
        return None
    with svg.figure(3.4 * len(parts) + 0.4, 2.7) as drawing:
        all_axes = np.atleast_1d(drawing.subplots(1, len(parts), sharex=True))
        for axes, part in zip(all_axes, parts, strict=True):
            for log in logs:
                values = log.losses[part]
                if not np.nan_to_num(values).any():
                    continue
                color = svg.series_color(series[log.key])
                mark = "o" if len(values) == 1 else ""  # no line has one point
                axes.plot(log.steps, values, color=color, linewidth=0.6, alpha=0.22)
                axes.plot(log.steps, running_mean(values), color=color, linewidth=1.6, marker=mark)
            axes.locator_params(axis="x", integer=True)
            axes.set_title(LOSSES[part])
            axes.set_xlabel("training step")
            axes.set_ylim(0, None)
        says = "Training losses against the training step, one line a training and seed."
        markup = svg.to_svg(drawing, "training", says)
    caption = "Strong lines are running means of the faint ones; one line a training seed."
    legend = tuple(dict.fromkeys((series[log.key], log.name) for log in logs))
    return Plot("Losses", markup, caption, legend=legend)


def running_mean(values: np.ndarray) -> np.ndarray:
    """Return the mean over a window around each place, shorter at both ends, without values that
    are not finite.
    """
    window = 2 * max(1, round(_WINDOW * len(values) / 2)) + 1
    rolling = pd.Series(values).rolling(window, min_periods=1, center=True)
    return rolling.mean().to_numpy()

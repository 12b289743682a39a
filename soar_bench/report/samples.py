"""The gallery's data: for every sample of a board its prompt, scores, reasons and details.

The page's script reads them; their keys are short because there are thousands of them. See
:func:`board_data` for their meaning.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from soar_bench.boards.words import line
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.text import count, parse_json
from soar_bench.records import Run
from soar_bench.report import pictures
from soar_bench.report.pictures import LEFT_OUT, Picture, Wanted
from soar_bench.report.sections import Section
from soar_bench.report.text import as_float
from soar_bench.suites.types import PlannedSample, Prompt

_SAMPLE = ["prompt_id", "index"]
#: Details of other evaluators are shown as JSON up to this many characters.
_LONGEST = 2000


@dataclass(frozen=True)
class Gallery:
    """The samples of a board in the order of the gallery: prompt by prompt."""

    board: Section
    #: scores of each run
    frames: tuple[pd.DataFrame, ...]
    samples: tuple[PlannedSample, ...]
    tasks: tuple[str, ...]

    @classmethod
    def of(cls, board: Section) -> Gallery:
        """Return the gallery of a board. SoarBenchError if scores cannot be read."""
        frames = tuple(run.scores() for run in board.runs)
        rows = pd.concat([f[[*_SAMPLE, "prompt", "task"]] for f in frames])
        rows = rows.drop_duplicates(_SAMPLE)
        rows = rows.assign(order=pd.factorize(rows["prompt_id"])[0])
        rows = rows.sort_values(["order", "index"], kind="stable")
        named = rows[["prompt_id", "prompt", "index"]].itertuples(index=False)
        samples = tuple(
            PlannedSample(Prompt(name, text), int(index)) for name, text, index in named
        )
        return cls(board, frames, samples, tuple(map(str, rows["task"])))

    @property
    def keys(self) -> list[tuple[str, int]]:
        """Prompt id and index of each sample."""
        return [(sample.prompt.id, sample.index) for sample in self.samples]

    @property
    def first_images_first(self) -> list[int]:
        """The samples' numbers, all first images of the prompts before all second ones."""
        return sorted(range(len(self.samples)), key=lambda i: (self.samples[i].index, i))

    def images(self, cache: Path) -> list[list[Wanted]]:
        """Return the images of each sample, one per run that has it, in the gallery's order."""
        numbers = {key: i for i, key in enumerate(self.keys)}
        by_sample: list[list[Wanted]] = [[] for _ in self.samples]
        for r, (run, frame) in enumerate(zip(self.board.runs, self.frames, strict=True)):
            reader = pictures.reader_of(run, cache)
            rows = frame.drop_duplicates(_SAMPLE)[[*_SAMPLE, "image"]]
            for name, index, digest in rows.itertuples(index=False):
                number = numbers[name, index]
                image = Wanted(r, number, str(digest), reader(self.samples[number]))
                by_sample[number].append(image)
        return by_sample


def choose(
    boards: Sequence[list[list[Wanted]]], order: Sequence[list[int]], most: int
) -> list[list[Wanted]]:
    """Return at most ``most`` images, whole samples of all boards in turn, in the given order."""
    chosen: list[list[Wanted]] = [[] for _ in boards]
    for numbers in zip_longest(*order):
        for board, number, taken in zip(boards, numbers, chosen, strict=True):
            images = [] if number is None else board[number]
            if sum(map(len, chosen)) + len(images) > most:
                return chosen
            taken.extend(images)
    return chosen


def board_data(
    gallery: Gallery, placed: Sequence[tuple[Wanted, Picture | str]], cache: Path
) -> dict[str, Any]:
    """Return a board for the page's script.

    ``values[c][m][s]`` is the score of checkpoint c in metric m of sample s, null where unscored;
    ``unscored[c][m]`` maps s to the reason; ``images[c][s]`` is [thumbnail, full, width, height],
    a number into ``missing``, or null where the run has no such sample; ``details[c]`` maps s to
    boxes ``b`` ([label, colour, score, left, top, right, bottom]), broken rules ``r``, recognised
    lines ``t`` and anything else ``o`` ([metric, JSON]); ``judges`` are pairs of metrics that
    judge right and wrong.
    """
    board = gallery.board
    prompts = {
        sample.prompt.id: (sample.prompt.text, task)
        for sample, task in zip(gallery.samples, gallery.tasks, strict=True)
    }
    tasks = list(dict.fromkeys(gallery.tasks))
    places = {name: i for i, name in enumerate(prompts)}
    index = pd.MultiIndex.from_tuples(gallery.keys)
    picture_of = {(image.run, image.sample): picture for image, picture in placed}
    missing: dict[str, int] = {}
    values, unscored, details, images = [], [], [], []
    for c, (run, frame) in enumerate(zip(board.runs, gallery.frames, strict=True)):
        rows = {m: _aligned(frame, m, index) for m, _ in board.metrics}
        values.append([[_rounded(value) for value in of["value"]] for of in rows.values()])
        reasons = [enumerate(of["unscored"]) for of in rows.values()]
        unscored.append([{str(s): r for s, r in of if isinstance(r, str) and r} for of in reasons])
        details.append(_details(run, rows))
        present = index.isin(pd.MultiIndex.from_frame(frame[_SAMPLE]))
        shown = (picture_of.get((c, s), LEFT_OUT) if p else None for s, p in enumerate(present))
        images.append(
            [missing.setdefault(p, len(missing)) if isinstance(p, str) else p for p in shown]
        )
    metrics = []
    for m, (name, declared) in enumerate(board.metrics):
        seen = np.asarray([value for run in values for value in run[m] if value is not None])
        # Right or wrong and nothing between: shown with a tick or a cross.
        binary = bool(len(seen) and np.isin(seen, (0.0, 1.0)).all())
        binary = binary and list(declared.range) == [0.0, 1.0]
        higher = declared.higher_is_better
        metrics.append({"name": name, "unit": declared.unit, "higher": higher, "binary": binary})
    names = [metric["name"] for metric in metrics]
    judges = dict.fromkeys((a.first, a.second) for a in board.agreements)
    return {
        "key": board.key, "suite": line(board.suite), "protocol": line(board.protocol),
        "tasks": list(map(line, tasks)),
        "metrics": metrics, "checkpoints": _checkpoints(board, cache),
        "prompts": [[name, text, tasks.index(task)] for name, (text, task) in prompts.items()],
        "samples": [[places[name], number] for name, number in gallery.keys],
        "values": values, "unscored": unscored, "details": details, "images": images,
        "missing": list(missing), "judges": [list(map(names.index, pair)) for pair in judges],
    }  # fmt: skip


def _checkpoints(board: Section, cache: Path) -> list[dict[str, Any]]:
    return [
        {
            "name": line(entrant.name) + (f", seed {run.seed}" if len(entrant.runs) > 1 else ""),
            "entrant": number,
            # Of several seeds the first stands for all until the reader asks for more.
            "first": run is entrant.first,
            "command": pictures.command(run, cache),
        }
        for number, entrant in enumerate(board.entrants)
        for run in entrant.runs
    ]


def _aligned(frame: pd.DataFrame, metric: str, index: pd.MultiIndex) -> pd.DataFrame:
    """Return the metric's rows, one per sample of the gallery; missing where the run has none."""
    rows = frame[frame["metric"] == metric].drop_duplicates(_SAMPLE).set_index(_SAMPLE)
    return rows[["value", "unscored", "details"]].reindex(index)


def _rounded(value: float) -> float | None:
    """Return a score with nine figures: more than float32 has, so that ties stay what they are."""
    return float(f"{value:.9g}") if math.isfinite(value) else None


def _details(run: Run, by_metric: dict[str, pd.DataFrame]) -> dict[str, dict[str, Any]]:
    """Return by sample what explains its scores; samples without anything are left out."""
    by_sample: dict[str, dict[str, Any]] = {}
    for metric, rows in by_metric.items():
        for s, content in enumerate(rows["details"]):
            if not isinstance(content, str) or content in ("", "{}"):
                continue
            try:
                contents = parse_json(content)
            except ValueError as error:
                raise SoarBenchError(
                    f"{run.folder}: details of {metric} are no JSON ({error}): run that eval again"
                ) from None
            if isinstance(contents, dict):
                _add(by_sample.setdefault(str(s), {}), metric, contents)
    return by_sample


def _add(entry: dict[str, Any], metric: str, contents: dict[str, Any]) -> None:
    """Put the details of one metric in the script's form; what has no known form stays JSON."""
    boxes = _boxes(contents.get("detections"))
    if boxes is not None:
        entry.setdefault("b", []).extend(boxes)
        del contents["detections"]
    for key, short in (("reasons", "r"), ("recognised", "t")):
        lines = contents.get(key)
        if isinstance(lines, list) and all(isinstance(line, str) for line in lines):
            entry.setdefault(short, []).extend(lines)
            del contents[key]
    if contents:
        words = json.dumps(contents, ensure_ascii=False, sort_keys=True)
        words = words if len(words) <= _LONGEST else words[:_LONGEST] + "…"
        entry.setdefault("o", []).append([metric, words])


def _boxes(detections: Any) -> list[list[Any]] | None:
    """Return [label, colour, score, left, top, right, bottom] each; None for anything else."""
    if not isinstance(detections, list):
        return None
    boxes = []
    for detection in detections:
        box = detection.get("box") if isinstance(detection, dict) else None
        if not isinstance(box, list) or len(box) != 4:
            return None
        score = detection.get("score")
        if not all(math.isfinite(as_float(n)) for n in (*box, 0 if score is None else score)):
            return None
        label, color = str(detection.get("label", "")), str(detection.get("color") or "")
        boxes.append([label, color, score, *box])
    return boxes


def lacking(gallery: Gallery, data: dict[str, Any]) -> list[str]:
    """Return for each checkpoint that lacks images how many, in sentences."""
    sentences = []
    for checkpoint, images in zip(data["checkpoints"], data["images"], strict=True):
        reasons = [data["missing"][image] for image in images if isinstance(image, int)]
        reasons = [reason for reason in reasons if reason != LEFT_OUT]
        if reasons:
            where = f"{checkpoint['name']} on {gallery.board.title}"
            sentences.append(f"{where}: {count(len(reasons), 'image')} missing ({reasons[0]})")
    return sentences

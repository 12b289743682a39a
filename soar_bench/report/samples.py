"""What the gallery knows: for every sample of a board its prompt, scores, reasons and details.

The page's script reads it; its keys are short because there are thousands of them. See
:func:`board_data` for what they mean.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from soar_bench.core.errors import SoarBenchError
from soar_bench.records import Run
from soar_bench.report import pictures, text
from soar_bench.report.pictures import LEFT_OUT, Picture, Wanted
from soar_bench.report.sections import Section
from soar_bench.suites.types import PlannedSample, Prompt

_SAMPLE = ["prompt_id", "index"]
#: Details of other evaluators are shown as JSON up to this many characters.
_LONGEST = 2000


@dataclass(frozen=True)
class Samples:
    """The samples of a board in the order of the gallery: prompt by prompt."""

    board: Section
    frames: tuple[pd.DataFrame, ...]
    samples: tuple[PlannedSample, ...]
    tasks: tuple[str, ...]

    @classmethod
    def of(cls, board: Section) -> Samples:
        frames = tuple(run.scores() for run in board.runs)
        rows = pd.concat([f[[*_SAMPLE, "prompt", "task"]] for f in frames])
        rows = rows.drop_duplicates(_SAMPLE).reset_index(drop=True)
        order = {prompt: i for i, prompt in enumerate(rows["prompt_id"].unique())}
        rows["order"] = rows["prompt_id"].map(order)
        rows = rows.sort_values(["order", "index"], kind="stable")
        samples = tuple(
            PlannedSample(Prompt(identity, words), int(index))
            for identity, words, index in zip(
                rows["prompt_id"], rows["prompt"], rows["index"], strict=True
            )
        )
        return cls(board, frames, samples, tuple(map(str, rows["task"])))

    @property
    def first_images_first(self) -> list[int]:
        """The samples' numbers, all first images of the prompts before all second ones."""
        return sorted(range(len(self.samples)), key=lambda i: (self.samples[i].index, i))


def wanted(gallery: Samples, cache: Path) -> list[list[Wanted]]:
    """The images of each sample, one a run that has it; by sample in the gallery's order."""
    numbers = {(s.prompt.id, s.index): i for i, s in enumerate(gallery.samples)}
    by_sample: list[list[Wanted]] = [[] for _ in gallery.samples]
    for r, (run, frame) in enumerate(zip(gallery.board.runs, gallery.frames, strict=True)):
        reader = pictures.reader_of(run, cache)
        rows = frame.drop_duplicates(_SAMPLE)
        for identity, index, digest in zip(
            rows["prompt_id"], rows["index"], rows["image"], strict=True
        ):
            number = numbers[identity, int(index)]
            by_sample[number].append(
                Wanted(r, number, str(digest), reader(gallery.samples[number]))
            )
    return by_sample


def choose(
    boards: Sequence[list[list[Wanted]]], order: Sequence[list[int]], most: int
) -> list[list[Wanted]]:
    """At most ``most`` images, whole samples of all boards in turn, in the order given."""
    chosen: list[list[Wanted]] = [[] for _ in boards]
    left = most
    for place in range(max((len(numbers) for numbers in order), default=0)):
        for board, numbers, taken in zip(boards, order, chosen, strict=True):
            images = board[numbers[place]] if place < len(numbers) else []
            if len(images) > left:
                return chosen
            taken.extend(images)
            left -= len(images)
    return chosen


def board_data(
    gallery: Samples, placed: Sequence[tuple[Wanted, Picture | str]], cache: Path
) -> dict[str, Any]:
    """A board for the page's script.

    ``values[c][m][s]`` is the score of checkpoint c in metric m of sample s, null where unscored;
    ``unscored[c][m]`` maps s to the reason; ``images[c][s]`` is [thumbnail, full, width, height],
    a number into ``missing``, or null where the run has no such sample; ``details[c]`` maps s to
    boxes ``b`` ([label, colour, score, left, top, right, bottom]), broken rules ``r``, recognised
    lines ``t`` and anything else ``o`` ([metric, JSON]).
    """
    board = gallery.board
    names = list(dict.fromkeys(s.prompt.id for s in gallery.samples))
    texts = {s.prompt.id: s.prompt.text for s in gallery.samples}
    task_of = dict(zip((s.prompt.id for s in gallery.samples), gallery.tasks, strict=True))
    tasks = list(dict.fromkeys(gallery.tasks))
    places = {name: i for i, name in enumerate(names)}
    count = len(gallery.samples)
    index = pd.MultiIndex.from_tuples([(s.prompt.id, s.index) for s in gallery.samples])
    values, unscored, details = [], [], []
    for run, frame in zip(board.runs, gallery.frames, strict=True):
        rows = {m: _aligned(frame, m, index) for m, _ in board.metrics}
        values.append([[_number(v) for v in rows[m]["value"]] for m, _ in board.metrics])
        unscored.append([_reasons(rows[m]) for m, _ in board.metrics])
        details.append(_details(run, rows))
    images: list[list[Any]] = [[None] * count for _ in board.runs]
    missing: dict[str, int] = {}
    picture_of = {(image.run, image.sample): picture for image, picture in placed}
    for c, frame in enumerate(gallery.frames):
        has = set(frame[_SAMPLE].itertuples(index=False, name=None))
        for s, sample in enumerate(gallery.samples):
            if (sample.prompt.id, sample.index) not in has:
                continue
            picture = picture_of.get((c, s), LEFT_OUT)
            if isinstance(picture, str):
                images[c][s] = missing.setdefault(picture, len(missing))
            else:
                images[c][s] = [picture.thumbnail, picture.full, picture.width, picture.height]
    seen = [np.asarray([v for c in values for v in c[m] if v is not None])
            for m in range(len(board.metrics))]  # fmt: skip
    return {
        "key": board.key,
        "suite": board.suite,
        "protocol": board.protocol,
        "tasks": tasks,
        "metrics": [
            {
                "name": name,
                "unit": declared.unit,
                "higher": declared.higher_is_better,
                # Right or wrong and nothing between: shown with a tick or a cross.
                "binary": bool(len(seen_values) and np.isin(seen_values, (0.0, 1.0)).all()
                               and list(declared.range) == [0.0, 1.0]),
            }
            for (name, declared), seen_values in zip(board.metrics, seen, strict=True)
        ],
        "checkpoints": _checkpoints(board, cache),
        "prompts": [[name, texts[name], tasks.index(task_of[name])] for name in names],
        "samples": [[places[s.prompt.id], s.index] for s in gallery.samples],
        "values": values,
        "unscored": unscored,
        "details": details,
        "images": images,
        "missing": list(missing),
    }  # fmt: skip


def _checkpoints(board: Section, cache: Path) -> list[dict[str, Any]]:
    checkpoints = []
    for number, entrant in enumerate(board.entrants):
        for place, run in enumerate(entrant.runs):
            name = entrant.name
            if len(entrant.runs) > 1:
                name = f"{name}, seed {run.seed}"
            checkpoints.append(
                {
                    "name": name,
                    "entrant": number,
                    # Of several seeds the first stands for all until the reader asks for more.
                    "first": place == 0,
                    "command": pictures.command(run, cache),
                }
            )
    return checkpoints


def _aligned(frame: pd.DataFrame, metric: str, index: pd.MultiIndex) -> pd.DataFrame:
    """The metric's rows, one a sample of the gallery; missing where the run has none."""
    rows = frame[frame["metric"] == metric].drop_duplicates(_SAMPLE).set_index(_SAMPLE)
    return rows[["value", "unscored", "details"]].reindex(index)


def _number(value: float) -> float | None:
    """A score with nine figures: more than float32 has, so that ties stay what they are."""
    return float(f"{value:.9g}") if math.isfinite(value) else None


def _reasons(rows: pd.DataFrame) -> dict[str, str]:
    return {
        str(s): str(reason)
        for s, reason in enumerate(rows["unscored"])
        if isinstance(reason, str) and reason
    }


def _details(run: Run, by_metric: dict[str, pd.DataFrame]) -> dict[str, dict[str, Any]]:
    """By sample what explains its scores; samples without anything are left out."""
    by_sample: dict[str, dict[str, Any]] = {}
    for metric, rows in by_metric.items():
        for s, content in enumerate(rows["details"]):
            if not isinstance(content, str) or content in ("", "{}"):
                continue
            try:
                contents = json.loads(content)
            except ValueError as error:
                raise SoarBenchError(
                    f"{run.folder}: details of {metric} are no JSON ({error}): run that eval again"
                ) from None
            if isinstance(contents, dict):
                _add(by_sample.setdefault(str(s), {}), metric, dict(contents))
    return by_sample


def _add(entry: dict[str, Any], metric: str, contents: dict[str, Any]) -> None:
    """Puts the details of one metric in the script's form; what has no known form stays JSON."""
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
    """[label, colour, score, left, top, right, bottom] each; None if they are something else."""
    if not isinstance(detections, list):
        return None
    boxes = []
    for detection in detections:
        if not isinstance(detection, dict):
            return None
        box, score = detection.get("box"), detection.get("score")
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            return None
        if not (score is None or _is_number(score)):
            return None
        boxes.append(
            [str(detection.get("label", "")), str(detection.get("color") or ""), score, *box]
        )
    return boxes


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def lacking(gallery: Samples, data: dict[str, Any]) -> list[str]:
    """For each checkpoint that lacks images how many, in sentences."""
    sentences = []
    for checkpoint, images in zip(data["checkpoints"], data["images"], strict=True):
        absent = [data["missing"][image] for image in images if isinstance(image, int)]
        absent = [reason for reason in absent if reason != LEFT_OUT]
        if absent:
            many = text.count(len(absent), "image")
            where = f"{checkpoint['name']} on {gallery.board.title}"
            sentences.append(f"{where}: {many} missing ({absent[0]})")
    return sentences

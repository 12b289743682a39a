"""Per-image results of other tools, read from their files.

Two layouts are read, one image per line in JSON:

- ``geneval``: the results of djghosh13/geneval's ``evaluation/evaluate_images.py``: ``filename``,
  ``tag``, ``prompt``, ``correct``, ``reason``, and as JSON text ``metadata`` and ``details``.
- ``diffusion-nft``: ``evaluation_results.jsonl`` of NVlabs/DiffusionNFT's ``scripts/evaluation.py``
  and of HY-SOAR, which descends from it: ``sample_id``, ``prompt``, ``metadata``, ``scores``.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from evaluators.types import Score
from soar_bench.core.errors import SoarBenchError, unknown_name
from soar_bench.core.rows import Row, read_rows
from soar_bench.core.text import parse_json

#: What DiffusionNFT's code writes in the place of a score.
SENTINEL = -10.0
#: Of its scores: the sum of all, whatever their units, and GenEval's parts by task, which repeat
#: ``accuracy`` and ``strict_accuracy``.
_SUM, _BY_TASK = "avg", "_accuracy"


@dataclass(frozen=True)
class Meaning:
    """Metric that a tool's score is here."""

    metric: str
    unit: str
    #: smallest and largest possible value, in the metric's unit
    range: tuple[float, float]
    #: what the tool's number is multiplied by to be in that unit
    factor: float = 1.0
    aggregate: Literal["mean", "task_mean"] = "mean"
    #: whether the standard error of a plain mean is within tasks, which are fixed
    stratified: bool = False


@dataclass(frozen=True)
class Tool:
    """Source of results."""

    name: str
    #: as tables and records name it
    title: str
    #: keys that its lines have
    keys: tuple[str, ...]
    #: paper and code
    source: str
    meanings: Mapping[str, Meaning]


_SHARE = "share of images that are right"

GENEVAL = Tool(
    name="geneval",
    title="djghosh13/geneval",
    keys=("filename", "tag", "prompt", "correct"),
    source="arXiv 2310.11513; djghosh13/geneval",
    meanings={"correct": Meaning("geneval", _SHARE, (0.0, 1.0), aggregate="task_mean")},
)

DIFFUSION_NFT = Tool(
    name="diffusion-nft",
    title="DiffusionNFT or HY-SOAR",
    keys=("sample_id", "prompt", "scores"),
    source="NVlabs/DiffusionNFT, scripts/evaluation.py",
    meanings={
        "accuracy": Meaning("geneval_flow_grpo", _SHARE, (0.0, 1.0), stratified=True),
        "strict_accuracy": Meaning("geneval_flow_grpo_strict", _SHARE, (0.0, 1.0), stratified=True),
        "geneval": Meaning(
            "geneval_flow_grpo_soft", "partial credit", (-14.0, 1.0), stratified=True
        ),
        "ocr": Meaning(
            "ocr_accuracy_paddle_flow_grpo", "share of characters that are right", (0.0, 1.0)
        ),
        "pickscore": Meaning("pickscore", "exp(logit scale) x cosine", (-100.0, 100.0), 26.0),
        "clipscore": Meaning("clipscore", "cosine", (-1.0, 1.0)),
        "hpsv2": Meaning("hpsv21", "cosine", (-1.0, 1.0)),
        "aesthetic": Meaning("aesthetic", "rating", (-13.0, 24.0)),
        "imagereward": Meaning("image_reward", "reward", (-10.0, 10.0)),
    },
)

TOOLS = {tool.name: tool for tool in (GENEVAL, DIFFUSION_NFT)}


@dataclass(frozen=True)
class ImageResult:
    """Contents of a line."""

    line: int
    prompt: str
    task: str
    #: which image of its prompt; None where the line does not say
    index: int | None
    #: the tool's own number of the image; None where it has none
    number: int | None
    #: by the tool's name of the score
    values: Mapping[str, Score]


@dataclass(frozen=True)
class Results:
    """A tool's results, each sample once."""

    tool: Tool
    images: list[ImageResult]
    #: number of lines, and of those that repeat a sample
    lines: int
    repeated: int
    #: scores that only repeat others
    left_out: list[str]


def read_results(file: Path, tool_name: str | None) -> Results:
    """Read a file of results; by default the tool is the one whose lines the file has.

    SoarBenchError names file and line.
    """
    if not file.exists():
        raise SoarBenchError(f"there is no file {file}")
    rows = list(read_rows(file, writable=False, suffix=".jsonl"))
    if not rows:
        raise SoarBenchError(f"{file} is empty")
    tool = _tool(file, rows[0].values, tool_name)
    parse = _geneval if tool is GENEVAL else _diffusion_nft
    images, repeated = _once(file, [parse(row) for row in rows])
    images, left_out = _without_repeats(images)
    if not any(image.values for image in images):
        raise SoarBenchError(f"{file} has no scores")
    return Results(tool, images, len(rows), repeated, left_out)


def _tool(file: Path, first: Mapping[str, Any], name: str | None) -> Tool:
    if name is not None:
        if name not in TOOLS:
            raise unknown_name("tool", name, list(TOOLS))
        return TOOLS[name]
    for tool in TOOLS.values():
        if all(key in first for key in tool.keys):
            return tool
    layouts = "; ".join(f"{tool.name} has {', '.join(tool.keys)}" for tool in TOOLS.values())
    raise SoarBenchError(f"{file} is in no layout that is known ({layouts})")


def _get(row: Row, key: str, kind: type, called: str) -> Any:
    value = row.values.get(key)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        state = "is missing" if key not in row.values else f"is {json.dumps(value)[:60]}"
        raise SoarBenchError(f"{row.where}: {key} {state}, not {called}")
    return value


def _prompt(row: Row) -> str:
    if text := str(_get(row, "prompt", str, "a text")).strip():
        return text
    raise SoarBenchError(f"{row.where}: the prompt is empty")


_PLACE = re.compile(r"samples[/\\](\d+)\.\w+$")


def _geneval(row: Row) -> ImageResult:
    """Read a line of ``evaluate_images.py``."""
    place = _PLACE.search(str(_get(row, "filename", str, "a path")))
    correct = _get(row, "correct", bool, "true or false")
    details: dict[str, Any] = {"detections": _detections(row)}
    if not correct and row.values.get("reason"):
        details["reasons"] = str(row.values["reason"]).split("\n")
    return ImageResult(
        line=row.line,
        prompt=_prompt(row),
        task=str(_get(row, "tag", str, "a task's name")),
        index=int(place.group(1)) if place else None,
        number=None,
        values={"correct": Score(float(correct), details=details)},
    )


def _detections(row: Row) -> list[dict[str, Any]]:
    """Return the boxes of ``details``: by class, each left, top, right, bottom and score."""
    details = row.values.get("details")
    try:
        by_class = parse_json(details) if isinstance(details, str) and details else details or {}
        return [
            {"label": str(label), "score": float(score), "box": [float(edge) for edge in box]}
            for label, boxes in by_class.items()
            for *box, score in boxes
        ]
    except (ValueError, TypeError, AttributeError):
        raise SoarBenchError(f"{row.where}: details has no boxes by class") from None


def _diffusion_nft(row: Row) -> ImageResult:
    """Read a line of DiffusionNFT's ``evaluation_results.jsonl``."""
    metadata = row.values.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise SoarBenchError(f"{row.where}: metadata is no JSON object")
    scores = _get(row, "scores", dict, "an object with a number by name")
    return ImageResult(
        line=row.line,
        prompt=_prompt(row),
        task=str(metadata.get("tag", "")),
        index=None,
        number=int(_get(row, "sample_id", int, "a whole number")),
        values={name: _number(row.where, name, value) for name, value in scores.items()},
    )


def _number(where: str, name: str, value: Any) -> Score:
    if value is None:
        return Score(None, "the tool gave no value")
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise SoarBenchError(f"{where}: the score {name} is {json.dumps(value)[:60]}, not a number")
    if not math.isfinite(value):
        return Score(None, f"the tool's value is {value}")
    if value == SENTINEL:
        return Score(None, "the tool's sentinel -10")
    return Score(float(value))


def _once(file: Path, images: Sequence[ImageResult]) -> tuple[list[ImageResult], int]:
    """Return the images in the tool's own order, each sample once with its index, and how many
    lines repeat one.
    """
    first: dict[int, ImageResult] = {}
    kept = [image for image in images if image.number is None]
    for image in images:
        if image.number is None:
            continue
        before = first.setdefault(image.number, image)
        if before.prompt != image.prompt:
            raise SoarBenchError(
                f"{file}, line {image.line}: sample {image.number} has another prompt than in line "
                f"{before.line}"
            )
    kept += [first[number] for number in sorted(first)]
    counted = all(image.index is not None for image in kept)
    times: Counter[str] = Counter()
    lines: dict[tuple[str, int], int] = {}
    indexed = []
    for image in kept:
        index = image.index if counted and image.index is not None else times[image.prompt]
        times[image.prompt] += 1
        line = lines.setdefault((image.prompt, index), image.line)
        if line != image.line:
            raise SoarBenchError(
                f"{file}, line {image.line}: image {index} of {image.prompt[:60]!r} stands in line "
                f"{line} already"
            )
        indexed.append(replace(image, index=index))
    return indexed, len(images) - len(kept)


def _without_repeats(images: Sequence[ImageResult]) -> tuple[list[ImageResult], list[str]]:
    """Return the images without scores that only repeat others, and the names of those."""
    names = list(dict.fromkeys(name for image in images for name in image.values))
    repeat = [n for n in names if n.endswith(_BY_TASK) and n not in DIFFUSION_NFT.meanings]
    repeated = [n for n in names if n == _SUM or ("accuracy" in names and n in repeat)]
    kept = [
        replace(image, values={n: v for n, v in image.values.items() if n not in repeated})
        for image in images
    ]
    return kept, repeated

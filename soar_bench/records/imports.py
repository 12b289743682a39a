"""Another tool's per-image results as a run's record, marked as imported.

Two layouts are read, an image a line in JSON:

- ``geneval``: the results of djghosh13/geneval's ``evaluation/evaluate_images.py``: ``filename``,
  ``tag``, ``prompt``, ``correct``, ``reason``, and as JSON text ``metadata`` and ``details``.
- ``diffusion-nft``: ``evaluation_results.jsonl`` of NVlabs/DiffusionNFT's ``scripts/evaluation.py``
  and of HY-SOAR, which descends from it: ``sample_id``, ``prompt``, ``metadata``, ``scores``.

What an imported value can be held against is in docs/leaderboard.md. Imports no torch.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from soar_bench.core.digests import digest_file, digest_of
from soar_bench.core.errors import SoarBenchError, unknown_name
from soar_bench.core.rows import read_rows
from soar_bench.records import (
    IMAGES,
    IMPORTED,
    Run,
    RunDraft,
    score_frame,
    write_run,
)
from soar_bench.records.assembly import summaries
from soar_bench.records.model import EvaluatorRecord, MetricRecord
from soar_bench.suites import FETCHED, SUITES, get_suite
from soar_bench.suites import prompts as prompt_sets
from soar_bench.suites.types import Prompt, Suite

#: Begins the names of the protocol and the evaluator that imported results stand under.
_NAME = "imported-"
#: What DiffusionNFT's code writes in the place of a score.
SENTINEL = -10.0
#: Of its scores: the sum of all, whatever their units, and GenEval's parts by task, which repeat
#: ``accuracy`` and ``strict_accuracy``.
_SUM, _BY_TASK = "avg", "_accuracy"
_SHOWN = 5


@dataclass(frozen=True)
class Meaning:
    """What a tool's score is here."""

    metric: str
    unit: str
    #: smallest and largest possible value, in the metric's unit
    range: tuple[float, float]
    #: what the tool's number is multiplied by to be in that unit
    factor: float = 1.0
    aggregate: Literal["mean", "task_mean"] = "mean"


@dataclass(frozen=True)
class Tool:
    """Where results come from."""

    name: str
    #: as tables and records name it
    title: str
    #: keys that its lines have
    keys: tuple[str, ...]
    #: paper and code
    source: str
    meanings: Mapping[str, Meaning]


_UNBOUNDED = (-math.inf, math.inf)
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
        "accuracy": Meaning("geneval_flow_grpo", _SHARE, (0.0, 1.0)),
        "strict_accuracy": Meaning("geneval_flow_grpo_strict", _SHARE, (0.0, 1.0)),
        "geneval": Meaning("geneval_flow_grpo_soft", "partial credit", (-14.0, 1.0)),
        "ocr": Meaning("ocr_accuracy", "share of characters that are right", (0.0, 1.0)),
        "pickscore": Meaning(
            "pickscore", "exp(logit scale) x cosine", (-100.0, 100.0), factor=26.0
        ),
        "clipscore": Meaning("clipscore", "cosine", (-1.0, 1.0)),
        "hpsv2": Meaning("hpsv21", "cosine", (-1.0, 1.0)),
        "aesthetic": Meaning("aesthetic", "rating", (-13.0, 24.0)),
        "imagereward": Meaning("image_reward", "reward", (-10.0, 10.0)),
    },
)

TOOLS = {tool.name: tool for tool in (GENEVAL, DIFFUSION_NFT)}


@dataclass(frozen=True)
class _Value:
    """A score, or why there is none."""

    value: float | None
    unscored: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Image:
    """What a line says."""

    line: int
    prompt: str
    task: str
    #: which image of its prompt; None where the line does not say
    index: int | None
    #: the tool's own number of the image; None where it has none
    number: int | None
    #: by the tool's name of the score
    values: Mapping[str, _Value]


def import_results(
    file: Path, label: str, tool: str | None, suite: str | None, results: Path
) -> Run:
    """Writes the record and returns it.

    ``tool`` is a key of :data:`TOOLS`, by default the one whose lines the file has. ``suite`` is a
    suite or a file of prompts, all of which the file must have; by default the named suite of whose
    prompts that is true, and otherwise one of the file's own. SoarBenchError names file and line.
    """
    if not file.exists():
        raise SoarBenchError(f"there is no file {file}")
    rows = list(read_rows(file, writable=False, suffix=".jsonl"))
    if not rows:
        raise SoarBenchError(f"{file} is empty")
    found = _tool(file, rows[0].values, tool)
    reader = _geneval if found is GENEVAL else _diffusion_nft
    images = [reader(row.where, row.line, row.values) for row in rows]
    images, repeated = _once(file, images)
    images, left_out = _wanted(images)
    if not any(image.values for image in images):
        raise SoarBenchError(f"{file} has no scores")
    chosen, matched = _suite(file, images, suite)
    of_text = {prompt.text.strip(): prompt for prompt in chosen.prompts}
    meanings = _meanings(found, images)
    scores = _table(file, images, of_text, meanings)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    digest = digest_file(file)
    story = {
        "tool": found.title,
        "file": file.name,
        "sha256": digest,
        "lines": len(rows),
        "repeated": repeated,
        "left_out": left_out,
        "scores": {
            theirs: {"metric": m.metric, "factor": m.factor} for theirs, m in meanings.items()
        },
    }
    prompts, rest = divmod(len(images), len(chosen.prompts))
    evaluators = {
        _NAME + found.name: EvaluatorRecord(
            given=file.name,
            version="",
            identity={"tool": found.title},
            metrics={m.metric: _declared(found, m) for m in meanings.values()},
        )
    }
    record = RunDraft.model_validate(
        {
            "checkpoint": {
                "label": label,
                "name": str(file),
                "form": IMAGES,
                "base": None,
                "revision": "",
                "digest": digest_of([found.name, digest]),
                "story": {IMPORTED: story},
            },
            "suite": {
                "name": chosen.name,
                "digest": chosen.digest(),
                "seed": None,
                "prompts": len(chosen.prompts),
                "images_per_prompt": round(len(images) / len(chosen.prompts), 4)
                if rest
                else prompts,
                "source": chosen.source if matched else "",
            },
            "protocol": {
                "name": _NAME + found.name,
                "settings": {"images": "made and scored by another tool", "tool": found.title},
            },
            "evaluators": evaluators,
            "metrics": summaries(scores, evaluators),
            "made": {
                "started": now,
                "finished": now,
                "seconds": {},
                "generated": 0,
                "scored": {},
                "failed": {},
                "processes": 1,
                "versions": {"soar-bench": _version()},
            },
        }
    )
    return write_run(results, record, scores)


def notes(run: Run) -> list[str]:
    """What a user should know of an import, in sentences."""
    story: Any = run.record.checkpoint.story["imported"]
    suite = run.record.suite
    said = [f"{story['tool']}: {story['lines']} lines, {suite.prompts} prompts of {suite.name}"]
    if suite.name.startswith(_OWN):
        unfetched = [name for name in FETCHED if not prompt_sets.is_fetched(name)]
        more = f" (not fetched: {', '.join(unfetched)})" if unfetched else ""
        said.append(f"note: no named suite that is here has these prompts{more}")
    if story["repeated"]:
        said.append(
            f"note: {story['repeated']} lines repeat a sample, as the tool does to fill up its "
            "processes; of each sample the first line counts"
        )
    if story["left_out"]:
        said.append(f"note: left out: {', '.join(story['left_out'])}")
    for theirs, ours in story["scores"].items():
        if ours["factor"] != 1:
            said.append(f"note: {theirs} times {ours['factor']:g} is {ours['metric']}")
    for metric, found in run.record.metrics.items():
        if found.unscored:
            said.append(f"note: {metric} has {found.unscored} unscored samples")
    return said


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


def _get(where: str, row: Mapping[str, Any], key: str, kind: type, called: str) -> Any:
    value = row.get(key)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        found = "is missing" if key not in row else f"is {json.dumps(value)[:60]}"
        raise SoarBenchError(f"{where}: {key} {found}, not {called}")
    return value


def _prompt(where: str, row: Mapping[str, Any]) -> str:
    text = str(_get(where, row, "prompt", str, "a text")).strip()
    if not text:
        raise SoarBenchError(f"{where}: the prompt is empty")
    return text


_PLACE = re.compile(r"samples[/\\](\d+)\.\w+$")


def _geneval(where: str, line: int, row: Mapping[str, Any]) -> _Image:
    """A line of ``evaluate_images.py``."""
    place = _PLACE.search(str(_get(where, row, "filename", str, "a path")))
    correct = _get(where, row, "correct", bool, "true or false")
    details: dict[str, Any] = {"detections": _detections(where, row.get("details"))}
    if not correct and row.get("reason"):
        details["reasons"] = str(row["reason"]).split("\n")
    return _Image(
        line=line,
        prompt=_prompt(where, row),
        task=str(_get(where, row, "tag", str, "a task's name")),
        index=int(place.group(1)) if place else None,
        number=None,
        values={"correct": _Value(float(correct), details=details)},
    )


def _detections(where: str, given: Any) -> list[dict[str, Any]]:
    """The boxes of ``details``: by class, each left, top, right, bottom and score."""
    try:
        found = json.loads(given) if isinstance(given, str) and given else given or {}
        return [
            {"label": str(label), "score": float(score), "box": [float(edge) for edge in box]}
            for label, boxes in found.items()
            for *box, score in boxes
        ]
    except (ValueError, TypeError, AttributeError):
        raise SoarBenchError(f"{where}: details has no boxes by class") from None


def _diffusion_nft(where: str, line: int, row: Mapping[str, Any]) -> _Image:
    """A line of DiffusionNFT's ``evaluation_results.jsonl``."""
    metadata = row.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise SoarBenchError(f"{where}: metadata is no JSON object")
    scores = _get(where, row, "scores", dict, "an object with a number by name")
    return _Image(
        line=line,
        prompt=_prompt(where, row),
        task=str(metadata.get("tag", "")),
        index=None,
        number=int(_get(where, row, "sample_id", int, "a whole number")),
        values={name: _number(where, name, value) for name, value in scores.items()},
    )


def _number(where: str, name: str, value: Any) -> _Value:
    if value is None:
        return _Value(None, "the tool gave no value")
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise SoarBenchError(f"{where}: the score {name} is {json.dumps(value)[:60]}, not a number")
    if not math.isfinite(value):
        return _Value(None, f"the tool's value is {value}")
    if value == SENTINEL:
        return _Value(None, "the tool's sentinel -10")
    return _Value(float(value))


def _once(file: Path, images: Sequence[_Image]) -> tuple[list[_Image], int]:
    """Images in the tool's own order, each sample once with its index, and how many lines repeat
    one.
    """
    first: dict[int, _Image] = {}
    kept = []
    for image in images:
        if image.number is None:
            kept.append(image)
        elif image.number not in first:
            first[image.number] = image
        elif first[image.number].prompt != image.prompt:
            raise SoarBenchError(
                f"{file}, line {image.line}: sample {image.number} has another prompt than in line "
                f"{first[image.number].line}"
            )
    kept += [first[number] for number in sorted(first)]
    counted = all(image.index is not None for image in kept)
    seen: Counter[str] = Counter()
    places: dict[tuple[str, int], int] = {}
    indexed = []
    for image in kept:
        index = image.index if counted and image.index is not None else seen[image.prompt]
        seen[image.prompt] += 1
        before = places.setdefault((image.prompt, index), image.line)
        if before != image.line:
            raise SoarBenchError(
                f"{file}, line {image.line}: image {index} of {image.prompt[:60]!r} stands in line "
                f"{before} already"
            )
        indexed.append(replace(image, index=index))
    return indexed, len(images) - len(kept)


def _wanted(images: Sequence[_Image]) -> tuple[list[_Image], list[str]]:
    """The images without scores that only repeat others, and the names of those."""
    names = list(dict.fromkeys(name for image in images for name in image.values))
    repeat = [n for n in names if n.endswith(_BY_TASK) and n not in DIFFUSION_NFT.meanings]
    unwanted = [n for n in names if n == _SUM or ("accuracy" in names and n in repeat)]
    kept = [
        replace(image, values={n: v for n, v in image.values.items() if n not in unwanted})
        for image in images
    ]
    return kept, unwanted


#: What a suite is called whose prompts are in no named one.
_OWN = "prompts-"


def _suite(file: Path, images: Sequence[_Image], name: str | None) -> tuple[Suite, bool]:
    """The suite of the images' prompts, and whether it is one that is known by name."""
    lines: dict[str, int] = {}
    for image in images:
        lines.setdefault(image.prompt, image.line)
    if name is not None:
        suite = get_suite(name)
        texts = {prompt.text.strip() for prompt in suite.prompts}
        for text, line in lines.items():
            if text not in texts:
                raise SoarBenchError(
                    f"{file}, line {line}: {suite.name} has no prompt {text[:80]!r}; without "
                    "--suite the prompts become a suite of their own"
                )
        if len(lines) < len(texts):
            raise SoarBenchError(
                f"{file} has {len(lines)} of the {len(texts)} prompts of {suite.name}; without "
                "--suite they become a suite of their own"
            )
        return _distinct(suite), True
    for candidate in [*SUITES, *(n for n in FETCHED if prompt_sets.is_fetched(n))]:
        suite = get_suite(candidate)
        if {prompt.text.strip() for prompt in suite.prompts} == set(lines):
            return _distinct(suite), True
    tasks = {image.prompt: image.task for image in images}
    own = tuple(
        replace(p, metadata={"tag": tasks[p.text]} if tasks[p.text] else {})
        for p in prompt_sets.numbered("prompts", list(lines))
    )
    suite = Suite("", "", own, ())
    return replace(suite, name=f"{_OWN}{suite.digest()[:8]}"), False


def _distinct(suite: Suite) -> Suite:
    """The suite. SoarBenchError if two of its prompts have one text, which is all that is known."""
    times = Counter(prompt.text.strip() for prompt in suite.prompts)
    twice = next((text for text, count in times.items() if count > 1), None)
    if twice is not None:
        raise SoarBenchError(f"{suite.name} has two prompts {twice[:80]!r}: name another suite")
    return suite


def _meanings(tool: Tool, images: Sequence[_Image]) -> dict[str, Meaning]:
    """What each score is, by the tool's name; one that is not known keeps its name."""
    names = dict.fromkeys(name for image in images for name in image.values)
    return {
        name: tool.meanings.get(name, Meaning(name, "as the tool gives it", _UNBOUNDED))
        for name in names
    }


def _table(
    file: Path,
    images: Sequence[_Image],
    prompts: Mapping[str, Prompt],
    meanings: Mapping[str, Meaning],
) -> pd.DataFrame:
    order = {text: i for i, text in enumerate(prompts)}
    rows = []
    for name, meaning in meanings.items():
        low, high = meaning.range
        for image in sorted(images, key=lambda i: (i.index or 0, order[i.prompt])):
            got = image.values.get(name, _Value(None, "the tool gave no value"))
            value = None if got.value is None else got.value * meaning.factor
            if value is not None and not low <= value <= high:
                times = f", which is {value:g} after times {meaning.factor:g}"
                raise SoarBenchError(
                    f"{file}, line {image.line}: {name} is {got.value:g}"
                    f"{times if meaning.factor != 1 else ''}, outside {low:g} to {high:g}"
                )
            prompt = prompts[image.prompt]
            rows.append(
                {
                    "prompt_id": prompt.id,
                    "index": image.index,
                    "task": prompt.task,
                    "prompt": prompt.text,
                    "noise": "",
                    "image": "",
                    "metric": meaning.metric,
                    "value": value,
                    "unscored": got.unscored,
                    "details": json.dumps(dict(got.details), ensure_ascii=False),
                }
            )
    return score_frame(rows)


def _declared(tool: Tool, meaning: Meaning) -> MetricRecord:
    return MetricRecord(
        unit=meaning.unit,
        range=meaning.range,
        higher_is_better=True,
        version=f"as {tool.title} computed it, version not known",
        source=tool.source,
        aggregate=meaning.aggregate,
    )


def _version() -> str:
    try:
        return version("soar-bench")
    except PackageNotFoundError:  # run from a copy that is not installed
        return "unknown"

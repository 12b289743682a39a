"""Write the per-image results of another tool as a run's record, marked as imported.

docs/leaderboard.md says what an imported value can be compared with. Imports no torch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from evaluators.types import Score
from soar_bench.core.digests import digest_file, digest_of
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.packages import installed
from soar_bench.records.assembly import score_row, summaries
from soar_bench.records.model import IMAGES, IMPORTED, EvaluatorRecord, MetricRecord, RunDraft
from soar_bench.records.run import Run, score_frame, write_run
from soar_bench.records.tools import ImageResult, Meaning, Tool, read_results
from soar_bench.suites import FETCHED, SUITES, get_suite
from soar_bench.suites import prompts as prompt_sets
from soar_bench.suites.types import Prompt, Suite

#: Begins the names of the protocol and the evaluator of imported results.
_NAME = "imported-"
#: Begins the name of a suite whose prompts are in no named one.
_OWN = "prompts-"
_UNBOUNDED = (-math.inf, math.inf)


def import_results(
    file: Path, label: str, tool: str | None, suite: str | None, results: Path
) -> Run:
    """Write the record and return it.

    ``tool`` is a key of :data:`~soar_bench.records.tools.TOOLS`, by default the one whose lines the
    file has. ``suite`` is a suite or a file of prompts, all of which the file must have; by default
    the named suite of whose prompts that is true, and otherwise one of the file's own.
    SoarBenchError names file and line.
    """
    read = read_results(file, tool)
    images, title = read.images, read.tool.title
    chosen, named = _suite(file, images, suite)
    meanings = _meanings(read.tool, images)
    scores = _table(file, images, {p.text.strip(): p for p in chosen.prompts}, meanings)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    digest = digest_file(file)
    count, rest = divmod(len(images), len(chosen.prompts))
    name = _NAME + read.tool.name
    metrics = {meaning.metric: _declared(read.tool, meaning) for meaning in meanings.values()}
    evaluator = EvaluatorRecord(
        given=file.name, version="", identity={"tool": title}, metrics=metrics
    )
    story = {
        "tool": title, "file": file.name, "sha256": digest, "lines": read.lines,
        "repeated": read.repeated, "left_out": read.left_out,
        "scores": {k: {"metric": m.metric, "factor": m.factor} for k, m in meanings.items()},
    }  # fmt: skip
    record = RunDraft.model_validate({
        "checkpoint": {
            "label": label, "name": str(file), "form": IMAGES, "base": None, "revision": "",
            "digest": digest_of([read.tool.name, digest]), "story": {IMPORTED: story},
        },
        "suite": {
            "name": chosen.name, "digest": chosen.digest(), "seed": None,
            "prompts": len(chosen.prompts), "source": chosen.source if named else "",
            "images_per_prompt": round(len(images) / len(chosen.prompts), 4) if rest else count,
        },
        "protocol": {
            "name": name, "settings": {"images": "made and scored by another tool", "tool": title},
        },
        "evaluators": {name: evaluator},
        "metrics": summaries(scores, {name: evaluator}),
        "made": {
            "started": now, "finished": now, "seconds": {}, "generated": 0, "scored": {},
            "failed": {}, "processes": 1,
            "versions": {"soar-bench": installed("soar-bench") or "unknown"},
        },
    })  # fmt: skip
    return write_run(results, record, scores)


def notes(run: Run) -> list[str]:
    """Return sentences about an import for its user."""
    story: Any = run.record.checkpoint.story["imported"]
    suite = run.record.suite
    lines, prompts = story["lines"], suite.prompts
    sentences = [f"{story['tool']}: {lines} lines, {prompts} prompts of {suite.name}"]
    if suite.name.startswith(_OWN):
        unfetched = [name for name in FETCHED if not prompt_sets.is_fetched(name)]
        more = f" (not fetched: {', '.join(unfetched)})" if unfetched else ""
        sentences.append(f"note: no named suite that is here has these prompts{more}")
    if story["repeated"]:
        sentences.append(
            f"note: {story['repeated']} lines repeat a sample, as the tool does to fill up its "
            "processes; of each sample the first line counts"
        )
    if story["left_out"]:
        sentences.append(f"note: left out: {', '.join(story['left_out'])}")
    sentences += [
        f"note: {name} times {score['factor']:g} is {score['metric']}"
        for name, score in story["scores"].items()
        if score["factor"] != 1
    ]
    return sentences + [
        f"note: {metric} has {summary.unscored} unscored samples"
        for metric, summary in run.record.metrics.items()
        if summary.unscored
    ]


def _suite(file: Path, images: Sequence[ImageResult], name: str | None) -> tuple[Suite, bool]:
    """Return the suite of the images' prompts, and whether it is a named one or a file."""
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
    """Return the suite. SoarBenchError if two of its prompts have one text."""
    for text, times in Counter(prompt.text.strip() for prompt in suite.prompts).items():
        if times > 1:
            raise SoarBenchError(f"{suite.name} has two prompts {text[:80]!r}: name another suite")
    return suite


def _meanings(tool: Tool, images: Sequence[ImageResult]) -> dict[str, Meaning]:
    """Return the metric of each score, by the tool's name; an unknown one keeps its name."""
    names = dict.fromkeys(name for image in images for name in image.values)
    return {n: tool.meanings.get(n, Meaning(n, "as the tool gives it", _UNBOUNDED)) for n in names}


def _table(
    file: Path,
    images: Sequence[ImageResult],
    prompts: Mapping[str, Prompt],
    meanings: Mapping[str, Meaning],
) -> pd.DataFrame:
    order = {text: i for i, text in enumerate(prompts)}
    rows = []
    for name, meaning in meanings.items():
        low, high = meaning.range
        for image in sorted(images, key=lambda i: (i.index or 0, order[i.prompt])):
            score = image.values.get(name, Score(None, "the tool gave no value"))
            value = None if score.value is None else score.value * meaning.factor
            if value is not None and not low <= value <= high:
                times = f", which is {value:g} after times {meaning.factor:g}"
                raise SoarBenchError(
                    f"{file}, line {image.line}: {name} is {score.value:g}"
                    f"{times if meaning.factor != 1 else ''}, outside {low:g} to {high:g}"
                )
            prompt, score = prompts[image.prompt], replace(score, value=value)
            rows.append(score_row(prompt, image.index or 0, meaning.metric, score))
    return score_frame(rows)


def _declared(tool: Tool, meaning: Meaning) -> MetricRecord:
    return MetricRecord(
        unit=meaning.unit,
        range=meaning.range,
        higher_is_better=True,
        version=f"as {tool.title} computed it, version not known",
        source=tool.source,
        aggregate=meaning.aggregate,
        **({"stratified": True} if meaning.stratified else {}),
    )

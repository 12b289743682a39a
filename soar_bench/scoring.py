"""Scores for images, kept as they are made.

Scores are appended to a journal named by what decides them (evaluator, its versions and weights)
and keyed by sample and image digest, so that a stopped run goes on, an evaluator added later
judges images that exist, and no score outlives its image.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from evaluators.types import Evaluator, Sample, Score
from soar_bench.generate import digest_image, image_file, read_image
from soar_bench.records import deciding
from soar_bench.types import PlannedSample, SoarBenchError, digest_of

Scores = dict[str, Score]


def evaluator_identity(evaluator: Evaluator) -> dict[str, Any]:
    """Everything about an evaluator that decides its values, as it goes into the record."""
    return {
        "identity": evaluator.identity(),
        "metrics": {
            m.name: {
                "unit": m.unit,
                "range": list(m.range),
                "higher_is_better": m.higher_is_better,
                "version": m.version,
                "source": m.source,
                "aggregate": m.aggregate,
            }
            for m in evaluator.metrics
        },
    }


class Journal:
    """Scores of one evaluator on disk, one line a sample.

    A line that is not whole, because a process was killed while it wrote, is passed over: its
    sample is scored again.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._scores: dict[str, Scores] = {}
        if not file.exists():
            return
        for line in file.read_text("utf-8", errors="replace").split("\n"):
            with suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                self._scores[entry["key"]] = {
                    name: Score(s["value"], s["unscored"], s["details"])
                    for name, s in entry["scores"].items()
                }

    def get(self, key: str) -> Scores | None:
        return self._scores.get(key)

    def add(self, entries: Sequence[tuple[str, Scores]]) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        lines = []
        for key, scores in entries:
            self._scores[key] = scores
            plain = {
                name: {"value": s.value, "unscored": s.unscored, "details": dict(s.details)}
                for name, s in scores.items()
            }
            lines.append(json.dumps({"key": key, "scores": plain}) + "\n")
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write("\n" + "".join(lines))  # after a torn line, on a line of its own


def sample_key(sample: PlannedSample, image_digest: str) -> str:
    """What a score depends on besides the evaluator: pixels, prompt and metadata."""
    return digest_of([image_digest, sample.prompt.text, dict(sample.prompt.metadata)])


def score(
    evaluator: Evaluator,
    samples: Sequence[PlannedSample],
    folder: Path,
    cache: Path,
    *,
    batch_size: int = 64,
    device: str = "cpu",
    observe: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[str], list[Scores]]:
    """Image digests and scores of all samples, in order; only what is missing is computed."""
    identity = digest_of([evaluator.name, deciding(evaluator_identity(evaluator))])
    journal = Journal(
        cache / "scores" / f"{evaluator.name}-{identity[:16]}" / f"{folder.name}.jsonl"
    )
    digests: list[str] = []
    todo: dict[str, Sample] = {}
    keys: list[str] = []
    loaded = False

    def flush() -> None:
        nonlocal loaded
        if not todo:
            return
        if not loaded:
            evaluator.load(device)
            loaded = True
        results = evaluator.score(list(todo.values()))
        _check(evaluator, results, len(todo))
        journal.add(list(zip(todo, results, strict=True)))
        todo.clear()

    for done, planned in enumerate(samples, start=1):
        image = read_image(image_file(folder, planned))
        if image is None:
            raise SoarBenchError(
                f"the image of {planned.prompt.id} (index {planned.index}) has gone from {folder}: "
                "run the same command again"
            )
        digests.append(digest_image(image))
        keys.append(sample_key(planned, digests[-1]))
        if journal.get(keys[-1]) is None:
            todo[keys[-1]] = Sample(image, planned.prompt.text, planned.prompt.metadata)
        if len(todo) == batch_size:
            flush()
            observe(done, len(samples))
    flush()
    observe(len(samples), len(samples))
    found = [journal.get(key) for key in keys]
    return digests, [scores for scores in found if scores is not None]


def _check(evaluator: Evaluator, results: list[Scores], expected: int) -> None:
    """An evaluator that breaks its contract must not corrupt a record."""
    names = {m.name for m in evaluator.metrics}
    if len(results) != expected or any(set(r) != names for r in results):
        raise SoarBenchError(
            f"the evaluator {evaluator.name} did not return one score of each of its metrics "
            f"({', '.join(sorted(names))}) for each sample: report this to its author"
        )
    for metric in evaluator.metrics:
        for result in results:
            value = result[metric.name].value
            if value is not None and not metric.range[0] <= value <= metric.range[1]:
                raise SoarBenchError(
                    f"the evaluator {evaluator.name} gave {metric.name} = {value}, outside its "
                    f"range {metric.range}: report this to its author"
                )

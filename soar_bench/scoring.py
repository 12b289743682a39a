"""Scores for images, kept as they are made.

Scores are appended to a journal named by what decides them (evaluator, its versions and weights)
and keyed by sample and image digest, so that a stopped run goes on, an evaluator added later
judges images that exist, and no score outlives its image.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluators.types import Evaluator, Sample, Score
from soar_bench.generate import digest_image, image_file, read_image
from soar_bench.records import deciding
from soar_bench.types import PlannedSample, SoarBenchError, digest_of

Scores = dict[str, Score]

#: Of a sample: the digest of its image's pixels, and what gives them, uint8 RGB [H, W, 3].
Pictures = Callable[[PlannedSample], tuple[str, Callable[[], np.ndarray]]]


def generated(folder: Path) -> Pictures:
    """The images that ``generate`` left in a folder."""

    def picture(sample: PlannedSample) -> tuple[str, Callable[[], np.ndarray]]:
        image = read_image(image_file(folder, sample))
        if image is None:
            raise SoarBenchError(
                f"the image of {sample.prompt.id} (index {sample.index}) has gone from {folder}: "
                "run the same command again"
            )
        return digest_image(image), lambda: image

    return picture


def precision(evaluator: Evaluator, dtype: str | None) -> str:
    """The precision asked for where the evaluator has it, otherwise its own."""
    return dtype if dtype in evaluator.dtypes else evaluator.dtypes[0]


def evaluator_identity(evaluator: Evaluator, dtype: str) -> dict[str, Any]:
    """Everything about an evaluator that decides its values, as it goes into the record."""
    other = {} if dtype == evaluator.dtypes[0] else {"dtype": dtype}
    return {
        "identity": evaluator.identity() | other,
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

    @classmethod
    def of(cls, evaluator: Evaluator, dtype: str, cache: Path, name: str) -> Journal:
        """The journal of an evaluator as it is now, for the images of that name."""
        identity = digest_of([evaluator.name, deciding(evaluator_identity(evaluator, dtype))])
        return cls(cache / "scores" / f"{evaluator.name}-{identity[:16]}" / f"{name}.jsonl")

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


@dataclass
class Judge:
    """An evaluator at work, with the scores that it has given."""

    evaluator: Evaluator
    journal: Journal
    #: precision of its weights and activations
    dtype: str
    seconds: float = 0.0
    _loaded: bool = False

    @classmethod
    def of(cls, evaluator: Evaluator, dtype: str | None, cache: Path, name: str) -> Judge:
        """The evaluator in a precision, with the journal of its scores for the images of that name.

        An evaluator that has not the precision asked for works in its own.
        """
        chosen = precision(evaluator, dtype)
        return cls(evaluator, Journal.of(evaluator, chosen, cache, name), chosen)

    @property
    def declared(self) -> dict[str, Any]:
        return evaluator_identity(self.evaluator, self.dtype)

    def add(self, todo: Mapping[str, Sample], device: str) -> None:
        """Scores what of these samples has no score yet."""
        clock = time.monotonic()
        new = {key: sample for key, sample in todo.items() if self.journal.get(key) is None}
        if new:
            if not self._loaded:
                self.evaluator.load(device, self.dtype)
                self._loaded = True
            results = self.evaluator.score(list(new.values()))
            _check(self.evaluator, results, len(new))
            self.journal.add(list(zip(new, results, strict=True)))
        self.seconds += time.monotonic() - clock


def score(
    judges: Sequence[Judge],
    samples: Sequence[PlannedSample],
    pictures: Pictures,
    *,
    batch_size: int = 64,
    device: str = "cpu",
    observe: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> tuple[list[str], list[list[Scores]]]:
    """Image digests of all samples, and each judge's scores, in order; only what is missing is
    computed. The judges see every batch one after another, so that what they share is done once.
    """
    digests: list[str] = []
    keys: list[str] = []
    todo: dict[str, Sample] = {}

    def flush(done: int) -> None:
        for judge in judges:
            judge.add(todo, device)
            observe(judge.evaluator.name, done, len(samples))
        todo.clear()

    for done, planned in enumerate(samples, start=1):
        digest, image = pictures(planned)
        digests.append(digest)
        keys.append(sample_key(planned, digest))
        if any(judge.journal.get(keys[-1]) is None for judge in judges):
            todo[keys[-1]] = Sample(image(), planned.prompt.text, planned.prompt.metadata)
        if len(todo) == batch_size:
            flush(done)
    flush(len(samples))
    found = [[judge.journal.get(key) for key in keys] for judge in judges]
    return digests, [[scores for scores in column if scores is not None] for column in found]


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

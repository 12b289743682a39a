"""Scores for images: what is missing is computed, in batches that do not depend on what is.

The plan is cut into batches once, by position. A batch that lacks a score is scored as a whole, and
what it lacked is kept: so a score comes out of the same batch whether or not the work was stopped
in between and however many processes share it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from evaluators.types import Evaluator, Sample, Score
from soar_bench.cache.images import ImageGone, ImageStore
from soar_bench.cache.scores import Journal, Scores
from soar_bench.core.digests import digest_of
from soar_bench.core.distributed import ALONE, Group
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.memory import out_of_memory, release
from soar_bench.records import deciding
from soar_bench.suites.types import PlannedSample

#: Images an evaluator sees at once.
BATCH = 64
#: An evaluator that fails on all of so many samples is broken, and not they.
_HOPELESS = 8
_DECODERS = 8


class Pictures(Protocol):
    """Where the images of samples come from."""

    def digest(self, sample: PlannedSample) -> str:
        """Of its pixels, see :func:`soar_bench.cache.images.digest_image`; ImageGone if it is not
        there.
        """

    def pixels(self, sample: PlannedSample) -> np.ndarray:
        """uint8 RGB [H, W, 3], of exactly that digest; ImageGone if it is not there any more."""


@dataclass(frozen=True)
class Generated:
    """The images that ``generate`` left in a store."""

    store: ImageStore

    def digest(self, sample: PlannedSample) -> str:
        return self._there(sample, self.store.digest(sample))

    def pixels(self, sample: PlannedSample) -> np.ndarray:
        image: np.ndarray = self._there(sample, self.store.read(sample))
        return image

    def _there(self, sample: PlannedSample, found: Any) -> Any:
        if found is None:
            self.store.file(sample).unlink(missing_ok=True)  # damaged: to be made again
            raise ImageGone(
                f"the image of {sample.prompt.id} (index {sample.index}) has gone from "
                f"{self.store.folder}: run the same command again"
            )
        return found


class Decoded:
    """Images decoded once for all evaluators, as far as they fit into a number of bytes."""

    def __init__(self, pictures: Pictures, budget: int) -> None:
        self._pictures, self._left = pictures, budget
        self._kept: dict[tuple[str, int], np.ndarray] = {}
        #: spent reading and decoding
        self.seconds = 0.0

    def batch(self, samples: Sequence[PlannedSample]) -> list[np.ndarray]:
        """uint8 RGB [H, W, 3] of each sample."""
        clock = time.monotonic()
        with ThreadPoolExecutor(_DECODERS) as pool:
            images = list(pool.map(self._one, samples))
        self.seconds += time.monotonic() - clock
        return images

    def _one(self, sample: PlannedSample) -> np.ndarray:
        key = (sample.prompt.id, sample.index)
        image = self._kept.get(key)
        if image is None:
            image = self._pictures.pixels(sample)
            if image.nbytes <= self._left:
                self._left -= image.nbytes
                self._kept[key] = image
        return image


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
    #: spent scoring, loading included
    seconds: float = 0.0
    #: by key: what was scored here, samples without a score because the evaluator failed included
    new: dict[str, Scores] = field(default_factory=dict)
    #: keys of the samples on which the evaluator failed
    failed: set[str] = field(default_factory=set)
    _loaded: bool = False

    @classmethod
    def of(cls, evaluator: Evaluator, dtype: str | None, cache: Path, name: str) -> Judge:
        """The evaluator in a precision, with the journal of its scores for the images of that name.

        An evaluator that has not the precision asked for works in its own.
        """
        chosen = precision(evaluator, dtype)
        identity = deciding(evaluator_identity(evaluator, chosen))
        return cls(evaluator, Journal.of(cache, evaluator.name, identity, name), chosen)

    @property
    def declared(self) -> dict[str, Any]:
        return evaluator_identity(self.evaluator, self.dtype)

    def missing(self, keys: Iterable[str]) -> list[int]:
        """Positions of the keys without a score."""
        return [i for i, key in enumerate(keys) if self.journal.get(key) is None]

    def get(self, key: str) -> Scores | None:
        """The scores of a sample: of this run, otherwise kept from an earlier one."""
        return self.new.get(key) or self.journal.get(key)

    def add(self, keys: Sequence[str], samples: Sequence[Sample], device: str) -> None:
        """Scores a batch and keeps what had no score. A sample on which the evaluator fails is
        unscored, and not kept: another run tries it again.
        """
        clock = time.monotonic()
        if not self._loaded:
            self.evaluator.load(device, self.dtype)
            self._loaded = True
        lacking = set(self.missing(keys))
        results, errors = _score(self.evaluator, samples)
        nothing_yet = len(self.new) == len(self.failed)
        if len(errors) == len(samples) >= _HOPELESS and nothing_yet:
            raise SoarBenchError(
                f"the evaluator {self.evaluator.name} failed on each of {len(samples)} samples "
                f"({_say(errors[0])}): mend it and run the same command again, which goes on here"
            ) from errors[0]
        self.journal.add([(keys[i], results[i]) for i in sorted(lacking - set(errors))])
        self.new |= {keys[i]: results[i] for i in lacking}
        self.failed |= {keys[i] for i in lacking & set(errors)}
        self.seconds += time.monotonic() - clock


def _score(
    evaluator: Evaluator, samples: Sequence[Sample]
) -> tuple[list[Scores], dict[int, Exception]]:
    """The scores of a batch, and by position the errors of those on which the evaluator failed.

    Where a batch fails its samples are tried one by one; where it does not fit into memory, by
    halves.
    """
    try:
        results = evaluator.score(samples)
    except Exception as error:
        failure = error
    else:
        _check(evaluator, results, len(samples))
        return results, {}
    if out_of_memory(failure) and len(samples) > 1:
        failure.__traceback__ = None  # which holds what filled the memory
        release()
        step = -(-len(samples) // 2)
    elif len(samples) > 1:
        step = 1
    else:
        reason = f"the evaluator failed: {_say(failure)}"
        return [{m.name: Score(None, reason) for m in evaluator.metrics}], {0: failure}
    scores: list[Scores] = []
    errors: dict[int, Exception] = {}
    for start in range(0, len(samples), step):
        part, wrong = _score(evaluator, samples[start : start + step])
        scores += part
        errors |= {start + i: error for i, error in wrong.items()}
    return scores, errors


def _say(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": ")


def score(
    judges: Sequence[Judge],
    samples: Sequence[PlannedSample],
    keys: Sequence[str],
    decoded: Decoded,
    *,
    batch_size: int = BATCH,
    device: str = "cpu",
    group: Group = ALONE,
    observe: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> list[PlannedSample]:
    """Fills the judges with what they lack of the whole plan; returns samples whose image has gone.

    The judges see every batch one after another, so that what they share is done once. ``observe``
    hears of this process's share.
    """
    starts = range(0, len(keys), batch_size)
    batches = [range(i, min(i + batch_size, len(keys))) for i in starts]
    # The main process decides: another may already see scores that were written meanwhile.
    wanted = group.share(
        [[bool(judge.missing([keys[i] for i in batch])) for judge in judges] for batch in batches]
    )
    mine = group.mine([(b, w) for b, w in zip(batches, wanted, strict=True) if any(w)])
    totals = [sum(len(b) for b, w in mine if w[j]) for j in range(len(judges))]
    done = [0] * len(judges)
    gone: list[PlannedSample] = []
    for batch, lacking in mine:
        planned = [samples[i] for i in batch]
        try:
            images = decoded.batch(planned)
        except ImageGone:
            gone += planned
            continue
        todo = [
            Sample(image, sample.prompt.text, sample.prompt.metadata)
            for image, sample in zip(images, planned, strict=True)
        ]
        for j, judge in enumerate(judges):
            if lacking[j]:
                judge.add([keys[i] for i in batch], todo, device)
                done[j] += len(batch)
                observe(judge.evaluator.name, done[j], totals[j])
    return gone


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

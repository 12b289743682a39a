"""Scores of samples that have none, in the batches of :mod:`soar_bench.sampling.generate`.

A batch that lacks a score is scored as a whole, and only the lacking scores are kept.
"""

from __future__ import annotations

import copy
import errno
import os
import time
import typing
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from evaluators.registry import describe_error
from evaluators.scorer import BrokenContract, score_batch
from evaluators.types import Evaluator, Sample, Score
from soar_bench.cache.images import ImageGone
from soar_bench.cache.scores import Journal, Scores
from soar_bench.core.digests import digest_of, file_digest
from soar_bench.core.distributed import ALONE, Counter, Group
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.memory import image_budget, out_of_memory, release
from soar_bench.scoring.judges import Judge, sharing
from soar_bench.suites.types import PlannedSample

#: Images that an evaluator sees at once.
BATCH = 64
#: If an evaluator fails on this many samples in a row, treat it as broken and stop.
_HOPELESS = 8
_DECODERS = 8

#: Called with a stage ("generate" or an evaluator's name), samples done and samples in all.
Observer = Callable[[str, int, int], None]


class ImageSource(typing.Protocol):
    """Source of the samples' images. Both methods raise ImageGone where an image is not there."""

    @property
    def name(self) -> str:
        """Name of the images' journals in the cache."""

    def digest(self, sample: PlannedSample) -> str:
        """Digest of its pixels (:func:`soar_bench.core.images.digest_image`)."""

    def pixels(self, sample: PlannedSample) -> np.ndarray:
        """uint8 RGB [H, W, 3], of exactly that digest."""


@dataclass(frozen=True)
class Judged:
    """Scores of all samples, from all evaluators."""

    #: digest of each sample's pixels, in order
    digests: list[str] = field(default_factory=list)
    #: by evaluator: the scores of each sample, in order
    results: dict[str, list[Scores]] = field(default_factory=dict)
    #: by stage: decoding and each evaluator
    seconds: dict[str, float] = field(default_factory=dict)
    #: by evaluator: samples scored now
    scored: dict[str, int] = field(default_factory=dict)
    #: by evaluator: samples on which it failed
    failed: dict[str, int] = field(default_factory=dict)
    #: samples whose image is not there any more; if there are any, all else is incomplete
    gone: list[PlannedSample] = field(default_factory=list)


def sample_key(sample: PlannedSample, image_digest: str) -> str:
    """Digest of what a score depends on besides the evaluator: pixels, prompt and metadata, and the
    content of files that the metadata names (a reference image, a mask).
    """
    metadata = dict(sample.prompt.metadata)
    files = {
        name: file_digest(Path(value))
        for name, value in metadata.items()
        if isinstance(value, str) and "." in value and os.path.isfile(value)  # noqa: PTH113
    }
    parts = [image_digest, sample.prompt.text, metadata]
    return digest_of([*parts, files] if files else parts)


def score_samples(
    judges: Sequence[Judge],
    samples: Sequence[PlannedSample],
    source: ImageSource,
    cache: Path,
    batch_size: int = BATCH,
    device: str = "cpu",
    force: bool = False,
    observe: Observer = lambda stage, done, total: None,
    group: Group = ALONE,
) -> Judged:
    """Score what is missing.

    Evaluators that share a model see every batch one after another, so that what they share is done
    once; the others are in memory one at a time.
    """
    digests, gone = group.share(_digests(samples, source))
    if gone:
        return Judged(gone=gone)
    keys = [sample_key(sample, digest) for sample, digest in zip(samples, digests, strict=True)]
    decoded = _Decoded(source, image_budget(group.local_size))
    turns: dict[str, _Turn] = {}
    for together in sharing(judges):
        if force:
            if group.main:
                for judge in together:
                    judge.journal(cache, source.name).forget(keys)
            group.gather(None)
        at_work = [_Turn(judge, judge.journal(cache, source.name), device) for judge in together]
        gone = _score_batches(at_work, samples, keys, decoded, batch_size, group, observe)
        if gone:
            return Judged(gone=gone)
        for turn in at_work:
            turn.end(group)
            turns[turn.judge.name] = turn
    turns = {judge.name: turns[judge.name] for judge in judges}  # in the order they were named
    seconds = {"decode": max(group.gather(decoded.seconds))}
    seconds |= {name: turn.seconds for name, turn in turns.items()}
    failed = {name: sum(key in turn.failed for key in keys) for name, turn in turns.items()}
    return Judged(
        digests,
        {name: turn.scores(keys) for name, turn in turns.items()},
        {stage: round(spent, 3) for stage, spent in seconds.items()},
        {name: sum(key in turn.new for key in keys) for name, turn in turns.items()},
        {name: count for name, count in failed.items() if count},
    )


def _digests(
    samples: Sequence[PlannedSample], source: ImageSource
) -> tuple[list[str], list[PlannedSample]]:
    """Return the digests of all images, and the samples that have none."""
    digests, gone = [], []
    for sample in samples:
        try:
            digests.append(source.digest(sample))
        except ImageGone:
            gone.append(sample)
    return digests, gone


def _score_batches(
    turns: Sequence[_Turn],
    samples: Sequence[PlannedSample],
    keys: Sequence[str],
    decoded: _Decoded,
    batch_size: int,
    group: Group,
    observe: Observer,
) -> list[PlannedSample]:
    """Score this process's share; return the samples of all whose image has gone."""
    starts = range(0, len(keys), batch_size)
    batches = [range(i, min(i + batch_size, len(keys))) for i in starts]
    # The main process decides: another may already see scores that were written meanwhile.
    lacking = group.share([[t.lacks([keys[i] for i in b]) for t in turns] for b in batches])
    work = [(b, each) for b, each in zip(batches, lacking, strict=True) if any(each)]
    totals = [sum(len(batch) for batch, each in work if each[t]) for t in range(len(turns))]
    counters = [Counter(group) for _ in turns]
    gone: list[PlannedSample] = []
    for batch, each in group.mine(work):
        planned = [samples[i] for i in batch]
        try:
            images = decoded.batch(planned)
        except ImageGone:
            gone += planned
            continue
        for t, turn in enumerate(turns):
            if each[t]:
                # Copies of the metadata: an evaluator that writes into it changes no other's score.
                to_judge = [
                    Sample(image, sample.prompt.text, copy.deepcopy(dict(sample.prompt.metadata)))
                    for image, sample in zip(images, planned, strict=True)
                ]
                turn.add([keys[i] for i in batch], to_judge)
                observe(turn.judge.name, counters[t].add(len(batch)), totals[t])
    gone = [sample for part in group.gather(gone) for sample in part]
    for turn, total in zip(turns, totals, strict=True):
        if group.size > 1 and total and not gone:
            observe(turn.judge.name, total, total)  # with processes that ended later than this one
    return gone


@dataclass
class _Turn:
    """A judge at work, with the scores that it has given."""

    judge: Judge
    journal: Journal
    device: str
    #: of scoring, loading included
    seconds: float = 0.0
    #: by key: scores made here; a sample on which the evaluator failed is among them, unscored
    new: dict[str, Scores] = field(default_factory=dict)
    #: keys of the samples on which the evaluator failed
    failed: set[str] = field(default_factory=set)
    #: in memory from the first batch to the end of the turn
    _loaded: Evaluator | None = None

    def lacks(self, keys: Sequence[str]) -> bool:
        """Whether one of the keys has no score."""
        return any(self.journal.get(key) is None for key in keys)

    def scores(self, keys: Sequence[str]) -> list[Scores]:
        """Return the scores of each sample, made here or kept from an earlier run."""
        scores = (self.new.get(key) or self.journal.get(key) for key in keys)
        return [of_sample for of_sample in scores if of_sample is not None]

    def add(self, keys: Sequence[str], samples: Sequence[Sample]) -> None:
        """Score a batch and keep what had no score. A sample on which the evaluator fails is
        unscored, and not kept: another run tries it again.
        """
        clock = time.monotonic()
        if self._loaded is None:
            self._loaded = self._load()
        lacking = {i for i, key in enumerate(keys) if self.journal.get(key) is None}
        results, errors = _try(self._loaded, samples)
        nothing_yet = len(self.new) == len(self.failed)
        if len(errors) == len(samples) >= _HOPELESS and nothing_yet:
            raise SoarBenchError(
                f"the evaluator {self.judge.name} failed on each of {len(samples)} samples "
                f"({_say(errors[0])}): mend it and run the same command again, which goes on here"
            ) from errors[0]
        self.journal.add([(keys[i], results[i]) for i in sorted(lacking - set(errors))])
        self.new |= {keys[i]: results[i] for i in lacking}
        self.failed |= {keys[i] for i in lacking & set(errors)}
        self.seconds += time.monotonic() - clock

    def _load(self) -> Evaluator:
        """Return an evaluator in memory. SoarBenchError if loading fails, whatever it raises."""
        evaluator = self.judge.fresh()
        try:
            evaluator.load(self.device, self.judge.dtype)
        except SoarBenchError:
            raise
        except (Exception, SystemExit) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise SoarBenchError(
                f"the evaluator {self.judge.name} cannot be loaded: {describe_error(error)}"
            ) from error
        return evaluator

    def end(self, group: Group) -> None:
        """Let the evaluator go, and collect the results of all processes."""
        self._loaded = None
        for new, failed, seconds in group.gather((self.new, self.failed, self.seconds)):
            self.new |= new
            self.failed |= failed
            self.seconds = max(self.seconds, seconds)


def _try(
    evaluator: Evaluator, samples: Sequence[Sample]
) -> tuple[list[Scores], dict[int, BaseException]]:
    """Return the scores of a batch, and errors by position of the sample.

    A batch that fails is tried one by one, one that does not fit into memory by halves.
    """
    try:
        return score_batch(evaluator, samples), {}
    except BrokenContract:
        raise
    except (Exception, SystemExit) as error:  # some libraries call exit on bad input
        failure = error
    if len(samples) == 1:
        reason = f"the evaluator failed: {_say(failure)}"
        return [{m.name: Score(None, reason) for m in evaluator.metrics}], {0: failure}
    step = 1
    if out_of_memory(failure):
        failure.__traceback__ = None  # which holds what filled the memory
        release()
        step = -(-len(samples) // 2)
    scores: list[Scores] = []
    errors: dict[int, BaseException] = {}
    for start in range(0, len(samples), step):
        part, failures = _try(evaluator, samples[start : start + step])
        scores += part
        errors |= {start + i: error for i, error in failures.items()}
    return scores, errors


def _say(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": ")


class _Decoded:
    """Images decoded once for all evaluators, as far as they fit into ``budget`` bytes."""

    def __init__(self, source: ImageSource, budget: int) -> None:
        self._source, self._left = source, budget
        self._kept: dict[tuple[str, int], np.ndarray] = {}
        self.seconds = 0.0

    def batch(self, samples: Sequence[PlannedSample]) -> list[np.ndarray]:
        """Return uint8 RGB [H, W, 3] of each sample."""
        clock = time.monotonic()
        with ThreadPoolExecutor(_DECODERS) as pool:
            images = list(pool.map(self._decode, samples))
        for image in images:
            image.setflags(write=False)  # all evaluators see the same array
        self.seconds += time.monotonic() - clock
        return images

    def _decode(self, sample: PlannedSample) -> np.ndarray:
        key = (sample.prompt.id, sample.index)
        image = self._kept.get(key)
        if image is None:
            image = self._source.pixels(sample)
            if image.nbytes <= self._left:
                self._left -= image.nbytes
                self._kept[key] = image
        return image

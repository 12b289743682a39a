"""Scores of samples that have none, in the batches of :mod:`soar_bench.sampling.generate`.

A batch that lacks a score is scored as a whole, and only the lacking scores are kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from soar_bench.cache.images import ImageGone
from soar_bench.cache.scores import Scores
from soar_bench.core.digests import digest_of, file_digest
from soar_bench.core.distributed import ALONE, Counter, Group
from soar_bench.core.memory import Watch, image_budget
from soar_bench.scoring.decoded import Decoded, ImageSource
from soar_bench.scoring.inputs import sample_of
from soar_bench.scoring.judges import Judge, sharing
from soar_bench.scoring.sets import score_sets, set_keys
from soar_bench.scoring.turns import Turn
from soar_bench.suites.types import PlannedSample, named_texts

#: Images that an evaluator sees at once.
BATCH = 64

#: Called with a stage ("generate" or an evaluator's name), samples done and samples in all.
Observer = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Judged:
    """Scores of all samples, from all evaluators."""

    #: digest of each sample's pixels, in order
    digests: list[str] = field(default_factory=list)
    #: by evaluator: the scores of each sample, in order
    results: dict[str, list[Scores]] = field(default_factory=dict)
    #: by stage: decoding and each evaluator
    seconds: dict[str, float] = field(default_factory=dict)
    #: by evaluator: most bytes that were held, by kind
    peaks: dict[str, dict[str, int]] = field(default_factory=dict)
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
    paths = sample.prompt.files()
    for name, text in named_texts(metadata):
        # a plug-in may open files of other folders by itself
        if name not in paths and "." in text and os.path.isfile(text):  # noqa: PTH113
            paths[name] = Path(text)
    files = {name: file_digest(path) for name, path in paths.items()}
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
    alone = [sample_key(sample, digest) for sample, digest in zip(samples, digests, strict=True)]
    keys_of = {judge.name: set_keys(judge.evaluator, samples, alone) for judge in judges}
    decoded = Decoded(source, image_budget(group.local_size))
    turns: dict[str, Turn] = {}
    for together in sharing(judges):
        if force:
            if group.main:
                for judge in together:
                    judge.journal(cache, source.name).forget(keys_of[judge.name])
            group.gather(None)
        watch = Watch(device)
        at_work = [Turn(judge, judge.journal(cache, source.name), device) for judge in together]
        if together[0].together == "sample":
            gone = _score_batches(at_work, samples, alone, decoded, batch_size, group, observe)
        else:
            (turn,) = at_work
            keys = keys_of[turn.judge.name]
            gone = score_sets(turn, samples, keys, decoded, batch_size, group, observe)
        if gone:
            return Judged(gone=gone)
        peaks = watch.peaks()
        for turn in at_work:
            turn.peaks = peaks
            turn.end(group)
            turns[turn.judge.name] = turn
    turns = {judge.name: turns[judge.name] for judge in judges}  # in the order they were named
    seconds = {"decode": max(group.gather(decoded.seconds))}
    seconds |= {name: turn.seconds for name, turn in turns.items()}
    failed = {n: sum(key in turn.failed for key in keys_of[n]) for n, turn in turns.items()}
    return Judged(
        digests,
        {name: turn.scores(keys_of[name]) for name, turn in turns.items()},
        {stage: round(spent, 3) for stage, spent in seconds.items()},
        {name: turn.peaks for name, turn in turns.items()},
        {name: sum(key in turn.new for key in keys_of[name]) for name, turn in turns.items()},
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
    turns: Sequence[Turn],
    samples: Sequence[PlannedSample],
    keys: Sequence[str],
    decoded: Decoded,
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
                to_judge = [
                    sample_of(turn.judge.evaluator, image, sample.prompt)
                    for image, sample in zip(images, planned, strict=True)
                ]
                turn.add([keys[i] for i in batch], to_judge)
                observe(turn.judge.name, counters[t].add(len(batch)), totals[t])
    gone = [sample for part in group.gather(gone) for sample in part]
    for turn, total in zip(turns, totals, strict=True):
        if group.size > 1 and total and not gone:
            observe(turn.judge.name, total, total)  # with processes that ended later than this one
    return gone

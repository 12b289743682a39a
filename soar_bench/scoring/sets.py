"""Scores of evaluators that judge images together: all of a prompt, or all of a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from evaluators.scorer import BrokenContract, plain_scores
from evaluators.types import Evaluator, Sample, Score, SetEvaluator
from soar_bench.cache.images import ImageGone
from soar_bench.core.digests import digest_of
from soar_bench.core.distributed import Counter, Group
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.memory import out_of_memory, release
from soar_bench.core.text import count
from soar_bench.scoring.decoded import Decoded
from soar_bench.scoring.inputs import sample_of
from soar_bench.scoring.turns import HOPELESS, Turn, in_short
from soar_bench.suites.types import PlannedSample

#: A row of each image of a set, by the sample's place.
Rows = dict[int, np.ndarray]


def sets_of(evaluator: SetEvaluator, samples: Sequence[PlannedSample]) -> list[list[int]]:
    """Return the places of the samples of each set, by prompt and index."""
    sets: dict[str, list[int]] = {}
    for place, sample in enumerate(samples):
        key = sample.prompt.id if evaluator.together == "prompt" else ""
        sets.setdefault(key, []).append(place)
    return [
        sorted(places, key=lambda i: (samples[i].prompt.id, samples[i].index))
        for places in sets.values()
    ]


def set_keys(
    evaluator: Evaluator, samples: Sequence[PlannedSample], keys: Sequence[str]
) -> list[str]:
    """Return the keys of scores: a sample's own (``keys``), and for sets also that of the set."""
    if not isinstance(evaluator, SetEvaluator):
        return list(keys)
    of_sets = list(keys)
    for places in sets_of(evaluator, samples):
        whole = digest_of([keys[i] for i in places])
        for i in places:
            of_sets[i] = digest_of([keys[i], whole])
    return of_sets


def check_sets(evaluator: Evaluator, samples: Sequence[PlannedSample]) -> None:
    """Raise SoarBenchError if no set has as many images as the evaluator needs."""
    if not isinstance(evaluator, SetEvaluator):
        return
    most = max((len(places) for places in sets_of(evaluator, samples)), default=0)
    if most >= evaluator.fewest:
        return
    needed = count(evaluator.fewest, "image")
    if evaluator.together == "run":
        raise SoarBenchError(
            f"{evaluator.name} needs {needed} of a run or more, and there are {most}: judge more, "
            "or leave it out"
        )
    raise SoarBenchError(
        f"{evaluator.name} compares the images of a prompt, and needs {needed} of each: there is "
        f"{'one' if most == 1 else most}; ask for more (--images, images_per_prompt) or leave it "
        "out"
    )


def score_sets(
    turn: Turn,
    samples: Sequence[PlannedSample],
    keys: Sequence[str],
    decoded: Decoded,
    batch_size: int,
    group: Group,
    observe: Callable[[str, int, int], None],
) -> list[PlannedSample]:
    """Score this process's share of the sets that lack a score; a run's set is embedded by all and
    judged by the main process. Returns the samples of all processes whose image has gone.
    """
    evaluator = turn.judge.evaluator
    assert isinstance(evaluator, SetEvaluator)
    sets = sets_of(evaluator, samples)
    lacking = group.share([turn.lacks([keys[i] for i in places]) for places in sets])
    work = [places for places, lacks in zip(sets, lacking, strict=True) if lacks]
    if evaluator.together == "run":
        places = [i for of_set in work for i in of_set]
        batches = [places[i : i + batch_size] for i in range(0, len(places), batch_size)]
    else:
        batches = _packed(work, batch_size)
    mine = group.mine(batches)
    total, counter = sum(map(len, batches)), Counter(group)
    rows: Rows = {}
    gone: list[PlannedSample] = []
    for batch in mine:
        try:
            images = decoded.batch([samples[i] for i in batch])
        except ImageGone:
            gone += [samples[i] for i in batch]
            continue
        clock = time.monotonic()
        to_judge = {}
        for i, image in zip(batch, images, strict=True):
            to_judge[i] = sample_of(evaluator, image, samples[i].prompt)
        if evaluator.together == "run":
            with _in_one_sentence(turn):
                rows |= _embedded(turn, to_judge)
        else:
            _judge_prompts(turn, [s for s in work if s[0] in to_judge], to_judge, keys)
        turn.seconds += time.monotonic() - clock
        observe(turn.judge.name, counter.add(len(batch)), total)
    gone = [sample for part in group.gather(gone) for sample in part]
    if evaluator.together == "run" and work:
        rows = {i: row for part in group.gather(rows) for i, row in part.items()}
        if group.main and len(rows) == sum(map(len, work)):
            clock = time.monotonic()
            for places in work:
                with _in_one_sentence(turn):
                    of_set = _judged(turn, [rows[i] for i in places])
                turn.keep([keys[i] for i in places], of_set)
            turn.seconds += time.monotonic() - clock
    return gone


def _packed(sets: Sequence[list[int]], batch_size: int) -> list[list[int]]:
    """Return batches of whole sets, of up to ``batch_size`` images where a set is not larger."""
    batches: list[list[int]] = []
    for places in sets:
        if batches and len(batches[-1]) + len(places) <= batch_size:
            batches[-1] = batches[-1] + places
        else:
            batches.append(list(places))
    return batches


def _embedded(turn: Turn, samples: dict[int, Sample]) -> Rows:
    """Return the row of each sample by its place; a batch too large for the memory by halves."""
    evaluator: Any = turn.loaded()
    places = list(samples)
    try:
        rows = list(evaluator.embed([samples[i] for i in places]))
    except Exception as error:
        if len(places) == 1 or not out_of_memory(error):
            raise
        error.__traceback__ = None  # which holds what filled the memory
        release()
        middle = len(places) // 2
        halves = ({i: samples[i] for i in part} for part in (places[:middle], places[middle:]))
        return {i: row for half in halves for i, row in _embedded(turn, half).items()}
    if len(rows) != len(places):
        raise BrokenContract(
            f"the evaluator {evaluator.name} embedded {len(rows)} of {len(places)} images: report "
            "this to its author"
        )
    return dict(zip(places, map(np.asarray, rows), strict=True))


@contextmanager
def _in_one_sentence(turn: Turn) -> Iterator[None]:
    """Turn a failure into SoarBenchError: a run's set cannot do without an image or its scores."""
    try:
        yield
    except SoarBenchError:
        raise
    except (Exception, SystemExit) as error:
        raise SoarBenchError(
            f"the evaluator {turn.judge.name} failed ({in_short(error)}): mend it and run the same "
            "command again"
        ) from error


def _judged(turn: Turn, rows: Sequence[np.ndarray]) -> list[dict[str, Score]]:
    evaluator: Any = turn.loaded()
    return plain_scores(evaluator, evaluator.judge(rows), len(rows))


def _judge_prompts(
    turn: Turn, sets: Sequence[list[int]], samples: dict[int, Sample], keys: Sequence[str]
) -> None:
    """Judge sets, and keep their scores. If they fail together, each is tried alone; a set that
    fails is unscored and not kept.
    """
    try:
        rows = _embedded(turn, samples)
        results = [_judged(turn, [rows[i] for i in places]) for places in sets]
    except SoarBenchError:
        raise
    except (Exception, SystemExit) as error:  # some libraries call exit on bad input
        if len(sets) > 1:
            for places in sets:
                _judge_prompts(turn, [places], {i: samples[i] for i in places}, keys)
            return
        turn.fail([keys[i] for i in sets[0]], f"the evaluator failed: {in_short(error)}")
        if len(turn.new) == len(turn.failed) >= HOPELESS:
            raise turn.given_up(len(turn.failed), error) from error
        return
    for places, of_set in zip(sets, results, strict=True):
        turn.keep([keys[i] for i in places], of_set)

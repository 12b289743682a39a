"""A judge at work on samples, with what it has scored and what it has failed on."""

from __future__ import annotations

import errno
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from evaluators.registry import describe_error
from evaluators.scorer import BrokenContract, score_batch
from evaluators.types import Evaluator, Sample, Score
from soar_bench.cache.scores import Journal, Scores
from soar_bench.core.distributed import Group
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.memory import largest_of, out_of_memory, release
from soar_bench.scoring.judges import Judge

#: If an evaluator fails on this many samples in a row, treat it as broken and stop.
HOPELESS = 8


@dataclass
class Turn:
    """A judge at work, with the scores that it has given."""

    judge: Judge
    journal: Journal
    device: str
    #: of scoring, loading included
    seconds: float = 0.0
    #: most bytes that were held, by kind; evaluators that share a model have them together
    peaks: dict[str, int] = field(default_factory=dict)
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
        evaluator = self.loaded()
        lacking = {i for i, key in enumerate(keys) if self.journal.get(key) is None}
        results, errors = try_batch(evaluator, samples)
        nothing_yet = len(self.new) == len(self.failed)
        if len(errors) == len(samples) >= HOPELESS and nothing_yet:
            raise self.given_up(len(samples), errors[0]) from errors[0]
        self.journal.add([(keys[i], results[i]) for i in sorted(lacking - set(errors))])
        self.new |= {keys[i]: results[i] for i in lacking}
        self.failed |= {keys[i] for i in lacking & set(errors)}
        self.seconds += time.monotonic() - clock

    def keep(self, keys: Sequence[str], scores: Sequence[Scores]) -> None:
        """Keep the scores of samples that were judged together."""
        entries = list(zip(keys, scores, strict=True))
        self.journal.add(entries)
        self.new |= entries

    def fail(self, keys: Sequence[str], reason: str) -> None:
        """Leave samples unscored for this run; another run tries them again."""
        unscored = {metric.name: Score(None, reason) for metric in self.judge.evaluator.metrics}
        self.new |= dict.fromkeys(keys, unscored)
        self.failed |= set(keys)

    def given_up(self, count: int, error: BaseException) -> SoarBenchError:
        """Return the error of an evaluator that failed on each of so many samples."""
        return SoarBenchError(
            f"the evaluator {self.judge.name} failed on each of {count} samples "
            f"({in_short(error)}): mend it and run the same command again, which goes on here"
        )

    def loaded(self) -> Evaluator:
        """Return the evaluator in memory, which is loaded when it is first needed."""
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

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
        own = self.new, self.failed, self.seconds, self.peaks
        for new, failed, seconds, peaks in group.gather(own):
            self.new |= new
            self.failed |= failed
            self.seconds = max(self.seconds, seconds)
            self.peaks = largest_of([self.peaks, peaks])


def try_batch(
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
        reason = f"the evaluator failed: {in_short(failure)}"
        return [{m.name: Score(None, reason) for m in evaluator.metrics}], {0: failure}
    step = 1
    if out_of_memory(failure):
        failure.__traceback__ = None  # which holds what filled the memory
        release()
        step = -(-len(samples) // 2)
    scores: list[Scores] = []
    errors: dict[int, BaseException] = {}
    for start in range(0, len(samples), step):
        part, failures = try_batch(evaluator, samples[start : start + step])
        scores += part
        errors |= {start + i: error for i, error in failures.items()}
    return scores, errors


def in_short(error: BaseException) -> str:
    """Return an error's kind and the first 200 characters of its text, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": ")

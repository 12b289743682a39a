"""The contract of an evaluator, as one function to call from its tests. Imports no torch.

def test_it_keeps_the_contract():
    check_evaluator(MyEvaluator)
"""

from __future__ import annotations

import copy
import io
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from evaluators import registry
from evaluators.declaration import fault
from evaluators.types import Evaluator, EvaluatorError, Sample, Score, SetEvaluator
from soar_bench.core.images import decode

Factory = Callable[[], Evaluator]
Scores = list[dict[str, Score]]

#: Seconds that making an evaluator and its ``check()`` may take once its files are known; loading a
#: model takes longer.
CHEAP = 5.0


def sample_images() -> dict[str, np.ndarray]:
    """Return varied uint8 RGB images [H, W, 3] by name, always the same.

    Flat, noisy, smooth; square, wide, tall, tiny (8 x 8), and large (512 x 512).
    """
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    stripes = np.where((np.arange(150) // 10 % 2)[:, None, None], noise[:1, :40], 20)
    return {
        "grey": np.full((64, 64, 3), 128, np.uint8),
        "black": np.zeros((64, 64, 3), np.uint8),
        "noise": noise,
        "tiny noise": noise[:8, :8].copy(),
        "a wide gradient": _gradient(48, 160),
        "tall stripes": stripes.astype(np.uint8),
        "a large gradient": _gradient(512, 512),
    }


def check_evaluator(
    evaluator: Evaluator | Factory | str,
    samples: Sequence[Sample] | None = None,
    *,
    tolerance: float = 1e-5,
    processes: bool = True,
) -> None:
    """Assert, on the CPU, that an evaluator keeps its contract.

    Args:
        evaluator: a name, an object (of which copies are checked, so that it stays unloaded), the
            class, or a function without arguments that a module defines.
        samples: images of several sizes, and one that stays unscored if the evaluator leaves any
            unscored; :func:`sample_images` unless given. A SetEvaluator is checked on sets: several
            images of a prompt.
        tolerance: how far values may differ, relative to the value where that exceeds 1.
        processes: whether to compare scores with those of two new processes.

    Raises:
        AssertionError: a sentence for the first clause that is broken.
        EvaluatorError: the evaluator cannot run here.
    """
    factory = _factory(evaluator)
    subject: Evaluator = _call(factory, "making an evaluator")
    if samples is None:
        samples = _default_samples(isinstance(subject, SetEvaluator))
    samples = list(samples)
    assert samples, "give at least one sample to check an evaluator with"
    wrong = fault(subject)
    assert not wrong, f"the evaluator {wrong}"
    identity, metrics = _identity(subject), subject.metrics
    _check_is_cheap(factory)
    assert _identity(factory()) == identity, "identity() must be the same for every instance"
    _call(lambda: subject.load("cpu", subject.dtypes[0]), "load()")
    case = _Case(subject, samples, tolerance)
    reference = case.first()
    case.same(reference, case.score(samples), "when it is scored again after one load()")
    empty = _call(lambda: subject.score([]), "score([])")
    assert empty == [], f"score([]) must give [], not {empty!r}"
    if isinstance(subject, SetEvaluator):
        _check_rows(subject, samples, tolerance)
    else:
        case.same(reference, [case.score([s])[0] for s in samples], "alone and in a batch")
    case.same(reference, case.score(samples[::-1])[::-1], "in another order")
    if not isinstance(subject, SetEvaluator):
        beside = case.score([samples[0], samples[-1], samples[0]])
        case.same([reference[i] for i in (0, -1, 0)], beside, "beside a copy of itself")
    case.same(reference, case.score([_as_png(s) for s in samples]), "saved as PNG and read back")
    after = _identity(subject)
    assert after == identity, (
        f"identity() must stay the same after load() and score(), not {identity} then {after}"
    )
    assert subject.metrics == metrics, "metrics must stay the same after load() and score()"
    if processes:
        case.check_processes(factory, reference, identity)


@dataclass(frozen=True)
class _Case:
    """A loaded evaluator and its samples."""

    evaluator: Evaluator
    samples: list[Sample]
    tolerance: float

    def score(self, samples: list[Sample]) -> Scores:
        expected = len(samples)
        results = _call(lambda: self.evaluator.score(samples), "score()")
        kind = type(results).__name__
        assert isinstance(results, list), f"score() must return a list, not {kind}"
        assert len(results) == expected, (
            f"score() must return one dict for each sample, not {len(results)} for {expected}"
        )
        self.check_results(results)
        return results

    def first(self) -> Scores:
        """Score all samples, which must not change by it."""
        samples, copies = list(self.samples), copy.deepcopy(self.samples)
        results = self.score(samples)
        unchanged = len(samples) == len(copies) and all(
            now is first
            and np.array_equal(now.image, was.image)
            and (now.prompt, now.metadata) == (was.prompt, was.metadata)
            for now, first, was in zip(samples, self.samples, copies, strict=True)
        )
        assert unchanged, "score() must not change its list of samples, their images or metadata"
        return results

    def check_results(self, results: Scores) -> None:
        metrics = {metric.name: metric for metric in self.evaluator.metrics}
        for row, scores in enumerate(results):
            keys = type(scores).__name__
            if isinstance(scores, dict):
                keys = ", ".join(map(str, scores))
            assert isinstance(scores, dict) and set(scores) == set(metrics), (
                f"score() must give every sample a dict with the metrics {', '.join(metrics)}, "
                f"but sample {row} has {keys}"
            )
            for name, score in scores.items():
                what, kind = f"{name} of sample {row}", type(score).__name__
                assert isinstance(score, Score), f"{what} must be a Score, not {kind}"
                _check_is_json(score, what)
                if score.value is None:
                    continue
                (low, high), room = metrics[name].range, self._room(score.value)
                assert low - room <= score.value <= high + room, (
                    f"{what} is {score.value}, outside the declared range {low} to {high}"
                )

    def check_processes(
        self, factory: Factory, reference: Scores, identity: dict[str, str]
    ) -> None:
        """Score every second sample in one new process, the others in another; sets in one."""
        sent = [replace(sample, metadata=dict(sample.metadata)) for sample in self.samples]
        halves = [sent[::2], sent[1::2]]
        together = isinstance(self.evaluator, SetEvaluator)
        parts = []
        for error, part, other in _in_processes(factory, [sent] if together else halves):
            assert not error, error
            assert other == identity, (
                f"identity() must be the same in every process, not {identity} and {other}"
            )
            parts.append(part)
        parts = [parts[0][::2], parts[0][1::2]] if together else parts
        scores = [parts[row % 2][row // 2] for row in range(len(sent))]
        self.check_results(scores)
        self.same(reference, scores, "in two other processes")

    def same(self, reference: Scores, others: Scores, when: str) -> None:
        for row, (a, b) in enumerate(zip(reference, others, strict=True)):
            for name, first in a.items():
                second = b[name]
                assert (first.value is None) == (second.value is None), (
                    f"{name} of sample {row} must be scored or unscored whatever the batch: "
                    f"it is {_text(first)} and {_text(second)} {when}"
                )
                if first.value is None or second.value is None:
                    continue
                assert abs(first.value - second.value) <= self._room(first.value), (
                    f"{name} of sample {row} must be the same {when}: "
                    f"it is {first.value} and {second.value}"
                )

    def _room(self, value: float) -> float:
        return self.tolerance * max(1.0, abs(value))


def _default_samples(sets: bool) -> list[Sample]:
    """Return the sample images, each with a prompt of its own; those of one size with one prompt
    for evaluators of sets.
    """
    images = sample_images()
    if not sets:
        return [Sample(image, f"a photo of {name}") for name, image in images.items()]
    square = [image for image in images.values() if image.shape == (64, 64, 3)]
    return [Sample(image, f"a photo {i // 3}") for i, image in enumerate([*square, *square[1:]])]


def _check_rows(evaluator: SetEvaluator, samples: list[Sample], tolerance: float) -> None:
    """Check that an image's row depends on that image alone."""
    rows = _call(lambda: evaluator.embed(samples), "embed()")
    assert isinstance(rows, list) and len(rows) == len(samples), (
        "embed() must return a list with one array for each sample"
    )
    for number, (sample, row) in enumerate(zip(samples, rows, strict=True)):
        (alone,) = evaluator.embed([sample])
        same = np.shape(row) == np.shape(alone) and np.allclose(
            row, alone, rtol=tolerance, atol=tolerance
        )
        assert same, f"embed() must give sample {number} the same row alone and in a batch"


def _call(call: Callable[[], Any], what: str) -> Any:
    """Return the call's result; an error but EvaluatorError becomes the broken clause."""
    try:
        return call()
    except EvaluatorError:
        raise
    except Exception as error:
        raise AssertionError(f"{what} must not raise {error!r}") from error


def _factory(evaluator: Evaluator | Factory | str) -> Factory:
    if isinstance(evaluator, str):
        return partial(registry.create, evaluator)
    return partial(copy.deepcopy, evaluator) if isinstance(evaluator, Evaluator) else evaluator


def _check_is_cheap(factory: Factory) -> None:
    """Take the quickest of three, so that neither a first read nor a busy machine counts."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        _call(lambda: factory().check(), "check() before load()")
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < CHEAP, (
        f"making an evaluator and check() must be cheap, but take {min(seconds):.1f} s: "
        "load what is heavy in load()"
    )


def _identity(evaluator: Evaluator) -> dict[str, str]:
    identity = _call(evaluator.identity, "identity()")
    texts = isinstance(identity, dict) and all(
        isinstance(text, str) for pair in identity.items() for text in pair
    )
    assert texts, f"identity() must be a dict of texts, not {identity!r}"
    return dict(identity)


def _check_is_json(score: Score, what: str) -> None:
    plain = {"value": score.value, "details": score.details}
    reason = "lists, texts as keys"
    try:
        plain["details"] = dict(score.details)
        same = json.loads(json.dumps(plain, allow_nan=False)) == plain
    except (TypeError, ValueError) as error:
        same, reason = False, str(error)
    assert same, f"value and details of {what} must be of JSON's types ({reason}): {plain}"


def _as_png(sample: Sample) -> Sample:
    stream = io.BytesIO()
    Image.fromarray(sample.image).save(stream, "PNG")
    return replace(sample, image=decode(stream, "the sample")[0])


#: Result of a process, in plain data: an error, or scores and the identity.
_Report = tuple[str, Scores, dict[str, str]]


def _in_processes(factory: Factory, parts: list[list[Sample]]) -> list[_Report]:
    """Score each part in a new process of its own, at the same time."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(parts), mp_context=context) as pool:
        futures = [pool.submit(_work, factory, part) for part in parts]
        try:
            return [future.result() for future in futures]
        except Exception as error:
            raise AssertionError(
                f"the factory must work in other processes ({error!r}): give a class or a "
                "function that a module defines, or processes=False"
            ) from error


def _work(factory: Factory, samples: list[Sample]) -> _Report:
    imported = "torch" in sys.modules  # by the module that the factory comes from
    try:
        evaluator = factory()
        evaluator.check()
        if "torch" in sys.modules and not imported:
            return "making an evaluator and check() must not import torch: load() may", [], {}
        evaluator.load("cpu", evaluator.dtypes[0])
        scores = evaluator.score(samples)
        plain = [{n: Score(s.value, s.unscored) for n, s in row.items()} for row in scores]
        return "", plain, evaluator.identity()
    except Exception as error:
        return f"an evaluator must work in a process of its own, which raised {error!r}", [], {}


def _gradient(height: int, width: int) -> np.ndarray:
    down, right = np.mgrid[0 : 255 : height * 1j, 0 : 255 : width * 1j]
    return np.stack([right, down, 255 - right], axis=-1).astype(np.uint8)


def _text(score: Score) -> str:
    return f"unscored ({score.unscored})" if score.value is None else f"{score.value}"

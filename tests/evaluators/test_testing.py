"""The contract tests catch what they are for: one deliberately broken evaluator a clause."""

from __future__ import annotations

import itertools
import os
import sys
import time
import types

import numpy as np
import pytest

from evaluators import testing
from evaluators.testing import check_evaluator, sample_images
from evaluators.types import Evaluator, EvaluatorError, Metric, Sample, Score

METRIC = Metric("brightness", "share", (0.0, 1.0), True, "1", "here", "mean of all values / 255")


class Brightness(Evaluator):
    """Keeps the contract; the others break one clause of it each."""

    name = "brightness"
    metrics = (METRIC,)

    def score(self, samples):
        return [{"brightness": self.judge(sample)} for sample in samples]

    def judge(self, sample):
        if "unjudged" in sample.prompt:
            return Score(None, unscored="the prompt says so")
        return Score(float(sample.image.mean() / 255), details={"size": sample.image.size})


def samples():
    images = sample_images()
    samples = [Sample(image, f"a photo of {name}", {"n": [1]}) for name, image in images.items()]
    return [*samples, Sample(images["noise"], "unjudged")]


def test_an_evaluator_that_keeps_the_contract_passes():
    check_evaluator(Brightness, samples())


def test_the_sample_images_are_varied_and_always_the_same():
    images = sample_images()
    for name, image in images.items():
        Sample(image, name)
        np.testing.assert_array_equal(image, sample_images()[name])
    shapes = {image.shape[:2] for image in images.values()}
    assert (512, 512) in shapes
    assert any(h > w for h, w in shapes)
    assert any(w > h for h, w in shapes)
    assert any(h < 16 for h, w in shapes)
    spreads = [float(image.std()) for image in images.values()]
    assert min(spreads) == 0
    assert max(spreads) > 70


class NoVersion(Brightness):
    metrics = (Metric("brightness", "share", (0, 1), True, "", "here", "no version"),)


class RaisesWhenMade(Brightness):
    def __init__(self):
        raise OSError("no network")


class SlowCheck(Brightness):
    def check(self):
        time.sleep(0.2)


class RaisesInCheck(Brightness):
    def check(self):
        raise ImportError("no such package")


class RaisesInLoad(Brightness):
    def load(self, device="cpu", dtype="float32"):
        raise RuntimeError("no weights")


class NoIdentity(Brightness):
    def identity(self):
        return {"weights": 3}


class IdentityOfAnInstance(Brightness):
    _count = itertools.count()

    def __init__(self):
        self.number = next(self._count)

    def identity(self):
        return {"number": str(self.number)}


class IdentityAfterLoad(Brightness):
    loaded = False

    def load(self, device="cpu", dtype="float32"):
        self.loaded = True

    def identity(self):
        return {"weights": "read"} if self.loaded else {}


class MetricsAfterLoad(Brightness):
    def load(self, device="cpu", dtype="float32"):
        self.metrics = (Metric("brightness", "share", (0, 1), True, "2", "here", "another"),)


class NoList(Brightness):
    def score(self, samples):
        return (scores for scores in super().score(samples))


class LosesCopies(Brightness):
    def score(self, samples):
        distinct = {id(sample): sample for sample in samples}
        return super().score(list(distinct.values()))


class LosesUnscored(Brightness):
    def score(self, samples):
        return [s for s in super().score(samples) if s["brightness"].value is not None]


class ForgetsAMetric(Brightness):
    metrics = (METRIC, Metric("second", "share", (0, 1), True, "1", "here", "never given"))


class GivesNumbers(Brightness):
    def judge(self, sample):
        return float(sample.image.mean() / 255)


class OutOfRange(Brightness):
    def judge(self, sample):
        return Score(float(sample.image.mean()))


class NotFinite(Brightness):
    def judge(self, sample):
        return Score(float("nan"))


class NotPlain(Brightness):
    def judge(self, sample):
        return Score(np.float32(sample.image.mean() / 255))


class ArrayInDetails(Brightness):
    def judge(self, sample):
        return Score(0.5, details={"mean": sample.image.mean(axis=(0, 1))})


class TupleInDetails(Brightness):
    def judge(self, sample):
        return Score(0.5, details={"size": sample.image.shape})


class NanInDetails(Brightness):
    def judge(self, sample):
        return Score(0.5, details={"ratio": float("nan")})


class RaisesOnEmpty(Brightness):
    def score(self, samples):
        np.stack([sample.image[0, 0] for sample in samples])
        return super().score(samples)


class NoneOnEmpty(Brightness):
    def score(self, samples):
        return super().score(samples) or None


class LoadsOnce(Brightness):
    """Works for one batch after each load()."""

    model = None

    def load(self, device="cpu", dtype="float32"):
        self.model = [1.0]

    def judge(self, sample):
        return Score(self.weight * sample.image.mean() / 255)

    def score(self, samples):
        self.weight = self.model.pop() if self.model else 0.0
        return super().score(samples)


class RelativeToTheBatch(Brightness):
    def score(self, samples):
        top = max((sample.image.mean() for sample in samples), default=0) or 1.0
        return [{"brightness": Score(float(sample.image.mean() / top))} for sample in samples]


class UnscoredInABatch(Brightness):
    """Leaves a whole batch unscored where one sample is."""

    def score(self, samples):
        results = super().score(samples)
        without = [r["brightness"] for r in results if r["brightness"].value is None]
        return [{"brightness": without[0]} for _ in results] if without else results


class ByPlace(Brightness):
    def score(self, samples):
        return [
            {"brightness": Score(1.0 if 0 < place < len(samples) - 1 else 0.5)}
            if len(samples) > 1
            else {"brightness": Score(0.5 if "grey" in samples[0].prompt or
                                      "unjudged" in samples[0].prompt else 1.0)}
            for place in range(len(samples))
        ]  # fmt: skip


class ByOrder(Brightness):
    """A sample after a darker one is a little brighter."""

    def score(self, samples):
        results = []
        before = None
        for sample in samples:
            mean = float(sample.image.mean() / 255)
            results.append({"brightness": Score(mean * (0.9 if self.darker(before, mean) else 1))})
            before = mean
        return results

    def darker(self, before, mean):
        return before is not None and 0.1 < before < mean < 0.5


class ByMemory(Brightness):
    """An array that is not the program's own, as one read from a file, is another image."""

    def judge(self, sample):
        return Score(0.5 if sample.image.flags.writeable else 0.6)


class ChangesImages(Brightness):
    def judge(self, sample):
        score = super().judge(sample)
        sample.image[0, 0] = 255 - sample.image[0, 0]
        return score


class ChangesMetadata(Brightness):
    def judge(self, sample):
        sample.metadata.get("n", []).append(2)
        return super().judge(sample)


class ChangesTheList(Brightness):
    def score(self, samples):
        results = super().score(samples)
        samples.sort(key=lambda sample: sample.prompt)
        return results


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (NoVersion, "must state the version of its metric brightness"),
        (dict, r"is no evaluators\.types\.Evaluator"),
        (RaisesWhenMade, r"making an evaluator must not raise OSError\('no network'\)"),
        (SlowCheck, r"check\(\) must be cheap, but take 0\.2 s"),
        (RaisesInCheck, r"check\(\) before load\(\) must not raise ImportError"),
        (RaisesInLoad, r"load\(\) must not raise RuntimeError\('no weights'\)"),
        (NoIdentity, r"identity\(\) must be a dict of texts, not \{'weights': 3\}"),
        (IdentityOfAnInstance, r"identity\(\) must be the same for every instance"),
        (IdentityAfterLoad, r"identity\(\) must stay the same after load\(\) and score\(\)"),
        (MetricsAfterLoad, r"metrics must stay the same after load\(\)"),
        (NoList, r"score\(\) must return a list, not generator"),
        (LosesCopies, "one dict for each sample, not 2 for 3"),
        (LosesUnscored, "one dict for each sample, not 7 for 8"),
        (ForgetsAMetric, "metrics brightness, second, but sample 0 has brightness"),
        (GivesNumbers, "brightness of sample 0 must be a Score, not float"),
        (OutOfRange, r"sample 0 is 128\.0, outside the declared range 0\.0 to 1\.0"),
        (NotFinite, r"score\(\) must not raise ValueError\('a score must be finite"),
        (NotPlain, "sample 0 must be of JSON's types .*float32"),
        (ArrayInDetails, "sample 0 must be of JSON's types .*ndarray"),
        (TupleInDetails, "sample 0 must be of JSON's types"),
        (NanInDetails, "sample 0 must be of JSON's types"),
        (RaisesOnEmpty, r"score\(\[\]\) must not raise ValueError"),
        (NoneOnEmpty, r"score\(\[\]\) must give \[\], not None"),
        (LoadsOnce, r"the same when it is scored again after one load\(\)"),
        (RelativeToTheBatch, "must be the same alone and in a batch"),
        (UnscoredInABatch, r"must be scored or unscored whatever the batch: it is unscored \(the "),
        (ByPlace, "must be the same (in another order|beside a copy)"),
        (ByMemory, "must be the same saved as PNG and read back: it is 0.5 and 0.6"),
        (ChangesImages, "must not change its list of samples, their images or metadata"),
        (ChangesMetadata, "must not change its list of samples, their images or metadata"),
        (ChangesTheList, "must not change its list of samples, their images or metadata"),
    ],
)
def test_a_broken_clause_is_one_sentence(factory, message, monkeypatch):
    monkeypatch.setattr(testing, "CHEAP", 0.15)
    with pytest.raises(AssertionError, match=message):
        check_evaluator(factory, samples(), processes=False)


def test_an_evaluator_that_depends_on_the_order_is_caught():
    """Each sample alone is right, and so is this order; only another order shows it."""
    dark, light = (Sample(np.full((4, 4, 3), v, np.uint8), str(v)) for v in (50, 100))
    with pytest.raises(AssertionError, match="must be the same in another order"):
        check_evaluator(ByOrder, [light, dark], processes=False)


class HashOfAText(Brightness):
    """Python hashes texts differently in every process."""

    def judge(self, sample):
        return Score(hash(sample.prompt) % 1000 / 1000)


class IdentityOfAProcess(Brightness):
    def identity(self):
        return {"process": str(os.getpid())}


class ImportsTorchInCheck(Brightness):
    def check(self):
        sys.modules.setdefault("torch", types.ModuleType("torch"))  # as an import does, but quick


class NeedsTheFirstProcess(Brightness):
    home = os.getpid()

    def load(self, device="cpu", dtype="float32"):
        if os.environ.get("SOAR_BENCH_TEST_HOME") != str(os.getpid()):
            raise RuntimeError("not at home")


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (HashOfAText, "must be the same in two other processes"),
        (IdentityOfAProcess, r"identity\(\) must be the same in every process"),
        (ImportsTorchInCheck, r"making an evaluator and check\(\) must not import torch"),
        (NeedsTheFirstProcess, "in a process of its own, which raised RuntimeError.*not at home"),
        (lambda: Brightness(), "the factory must work in other processes .*a class or a function"),
    ],
)
def test_what_differs_in_another_process_is_caught(factory, message, monkeypatch):
    monkeypatch.setenv("SOAR_BENCH_TEST_HOME", str(os.getpid()))
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    with pytest.raises(AssertionError, match=message):
        check_evaluator(factory, samples()[:3])


class CannotRunHere(Brightness):
    def check(self):
        raise EvaluatorError("install the package x")


def test_an_evaluator_that_cannot_run_here_is_no_broken_one():
    with pytest.raises(EvaluatorError, match="install the package x"):
        check_evaluator(CannotRunHere, samples())


class Rounded(Brightness):
    """Off by a little in a batch, as a GPU is."""

    def score(self, samples):
        off = 3e-5 if len(samples) > 1 else 0.0
        return [{"brightness": Score(0.5 + off)} for _ in samples]


def test_the_tolerance_is_the_callers():
    check_evaluator(Rounded, samples(), tolerance=1e-4, processes=False)
    with pytest.raises(AssertionError, match="alone and in a batch"):
        check_evaluator(Rounded, samples(), processes=False)


def test_it_needs_a_sample():
    with pytest.raises(AssertionError, match="at least one sample"):
        check_evaluator(Brightness, [])

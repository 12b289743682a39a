"""Evaluators that share a model are run side by side; the others one after another."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from evaluators import catalogue
from evaluators.types import Evaluator, Metric, Score
from soar_bench.cache.scores import Journal
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.images import digest_image
from soar_bench.core.memory import fitting_batch
from soar_bench.scoring import scores as scoring
from soar_bench.scoring.judges import Judge, resolve_judges, sharing
from soar_bench.scoring.plan import problems_of
from soar_bench.scoring.scores import score_samples
from soar_bench.suites.types import PlannedSample, Prompt


class Recorder(Evaluator):
    """Gives the mean brightness, and writes down what happens to it."""

    def __init__(self, name: str, shares: str, events: list[str]) -> None:
        self.name, self.shares, self.events = name, shares, events
        self.dtypes = ("float32", "bfloat16") if shares else ("float32",)
        self.metrics = (Metric(name, "share", (0, 1), True, "1", "here", "brightness"),)

    def load(self, device: str = "cpu", dtype: str = "float32") -> None:
        self.events.append(f"{self.name} loads {dtype}")

    def score(self, samples) -> list[dict[str, Score]]:
        self.events.append(f"{self.name} scores {len(samples)}")
        self.events.append(f"images {[id(s.image) for s in samples]}")
        return [{self.name: Score(float(s.image.mean() / 255))} for s in samples]


@pytest.fixture
def events() -> list[str]:
    """What happened to the evaluators that ``work`` makes, in order."""
    return []


SHARES = {"a": "tower", "b": "", "c": "tower"}


SAMPLES = [PlannedSample(Prompt(f"p{i}", f"prompt {i}"), 0) for i in range(5)]


class Grey:
    """Images of one grey each, and how often each was decoded."""

    name = "images"

    def __init__(self):
        self.decoded: list[str] = []

    def digest(self, sample):
        return digest_image(self._image(sample))

    def pixels(self, sample):
        self.decoded.append(sample.prompt.id)
        return self._image(sample)

    def _image(self, sample):
        return np.full((4, 4, 3), 10 * int(sample.prompt.id[1:]), np.uint8)


def work(cache: Path, evaluators, pictures=None, samples=SAMPLES, dtype=None, **options):
    judges = resolve_judges(evaluators, dtype)
    options = {"batch_size": 3, **options}
    return score_samples(judges, samples, pictures or Grey(), cache, **options)


def recorders(events, names, kind=Recorder):
    return [kind(name, SHARES[name], events) for name in names]


def stages(events):
    return [event for event in events if not event.startswith("images")]


def test_what_shares_a_model_sees_each_batch_together(events, tmp_path):
    judged = work(tmp_path, recorders(events, "abc"))
    assert stages(events) == [
        "a loads float32",
        "a scores 3",
        "c loads float32",
        "c scores 3",
        "a scores 2",
        "c scores 2",
        "b loads float32",
        "b scores 3",
        "b scores 2",
    ]
    images = [event for event in events if event.startswith("images")]
    assert images[0] == images[1]  # the very same arrays, so that a tower recognises them
    assert list(judged.results) == ["a", "b", "c"]  # as they were named
    expected = [10 * i / 255 for i in range(5)]
    for name in "abc":
        values = [scores[name].value for scores in judged.results[name]]
        assert values == pytest.approx(expected)


def test_only_what_is_missing_is_scored(events, tmp_path):
    work(tmp_path, recorders(events, "a"))
    events.clear()
    work(tmp_path, recorders(events, "ac"))
    assert stages(events) == ["c loads float32", "c scores 3", "c scores 2"]
    events.clear()
    work(tmp_path, recorders(events, "abc"))
    assert stages(events) == ["b loads float32", "b scores 3", "b scores 2"]


def test_another_precision_is_another_evaluator_where_it_has_one(events, tmp_path):
    work(tmp_path, recorders(events, "ab"))
    events.clear()
    judged = work(tmp_path, recorders(events, "ab"), dtype="bfloat16")
    assert stages(events) == ["a loads bfloat16", "a scores 3", "a scores 2"]
    a, b = resolve_judges(recorders(events, "ab"), "bfloat16")
    assert a.identity.pop("dtype") == "bfloat16"
    assert b.identity.keys() == {"source"}
    assert list(judged.results) == ["a", "b"]


def test_the_evaluators_own_precision_leaves_no_mark():
    evaluator = Recorder("a", "tower", [])
    for dtype in (None, "float16", "float32"):
        judge = Judge.of(evaluator, dtype)
        assert judge.dtype == "float32"
        assert "dtype" not in judge.identity


def test_the_built_in_evaluators_over_one_clip_are_a_group():
    names = ["aesthetic", "pickscore", "clipscore", "geneval", "ocr", "clipscore-processor"]
    groups = sharing(resolve_judges(names))
    assert [[judge.given for judge in group] for group in groups] == [
        ["aesthetic", "clipscore", "geneval", "clipscore-processor"],
        ["pickscore"],
        ["ocr"],
    ]


def test_a_score_outside_its_range_stops_the_run(events, tmp_path, monkeypatch):
    monkeypatch.setattr(
        Recorder, "score", lambda self, samples: [{self.name: Score(2.0)} for _ in samples]
    )
    with pytest.raises(Exception, match=r"gave a = 2\.0, outside its range"):
        work(tmp_path, recorders(events, "a"))


def test_an_image_is_decoded_once_for_all_evaluators_where_memory_allows(
    events, tmp_path, monkeypatch
):
    pictures = Grey()
    work(tmp_path / "much", recorders(events, "abc"), pictures)
    assert sorted(pictures.decoded) == ["p0", "p1", "p2", "p3", "p4"]
    monkeypatch.setattr(scoring, "image_budget", lambda processes: 2 * 4 * 4 * 3)
    pictures = Grey()
    judged = work(tmp_path / "little", recorders(events, "abc"), pictures)
    assert len(pictures.decoded) == 8, "two images are kept, three decoded for each of two groups"
    assert [s["b"].value for s in judged.results["b"]] == [
        s["a"].value for s in judged.results["a"]
    ]


class Failing(Recorder):
    """Fails wherever it sees an image of grey 20."""

    error: Exception = ValueError("cannot read <this> image")

    def score(self, samples):
        if any(s.image[0, 0, 0] == 20 for s in samples):
            raise self.error
        return super().score(samples)


def test_a_sample_on_which_an_evaluator_fails_is_unscored_and_the_rest_goes_on(
    events, tmp_path, monkeypatch
):
    judged = work(tmp_path, recorders(events, "a", Failing))
    values = [scores["a"].value for scores in judged.results["a"]]
    assert values == pytest.approx([0, 10 / 255, None, 30 / 255, 40 / 255])
    reason = judged.results["a"][2]["a"].unscored
    assert reason == "the evaluator failed: ValueError: cannot read <this> image"
    assert judged.failed == {"a": 1}


def test_a_failure_is_tried_again_and_not_kept(events, tmp_path, monkeypatch):
    failing = recorders(events, "a", Failing)
    work(tmp_path, failing)
    monkeypatch.setattr(Failing, "score", Recorder.score)
    judged = work(tmp_path, failing)
    assert judged.scored == {"a": 1}
    assert judged.failed == {}
    assert judged.results["a"][2]["a"].value == pytest.approx(20 / 255)


def test_an_evaluator_that_fails_on_everything_stops_the_run(events, tmp_path, monkeypatch):
    def fails(self, samples):
        raise KeyError("no such model")

    monkeypatch.setattr(Recorder, "score", fails)
    many = [PlannedSample(Prompt(f"p{i}", f"prompt {i}"), 0) for i in range(20)]
    with pytest.raises(SoarBenchError, match=r"failed on each of 10 samples .*no such model"):
        work(tmp_path, recorders(events, "a"), samples=many, batch_size=10)


def test_a_batch_that_does_not_fit_into_memory_is_scored_in_parts(events, tmp_path, monkeypatch):
    class Small(Recorder):
        def score(self, samples):
            if len(samples) > 1:
                raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
            return super().score(samples)

    judged = work(tmp_path, recorders(events, "a", Small))
    values = [scores["a"].value for scores in judged.results["a"]]
    assert values == pytest.approx([10 * i / 255 for i in range(5)])
    assert judged.failed == {}


def test_a_batch_that_lacks_one_score_is_scored_as_it_was_and_keeps_the_others(events, tmp_path):
    """So that a score does not depend on where the work was stopped."""
    whole = work(tmp_path / "whole", recorders(events, "a"))
    part = work(tmp_path / "part", recorders(events, "a"), samples=SAMPLES[:2])
    assert part.scored == {"a": 2}
    events.clear()
    rest = work(tmp_path / "part", recorders(events, "a"))
    assert stages(events) == ["a loads float32", "a scores 3", "a scores 2"]
    assert rest.scored == {"a": 3}
    assert rest.results == whole.results


def test_journals_of_several_processes_are_one(tmp_path):
    one, two = Journal(tmp_path, {"m": (0.0, 1.0)}), Journal(tmp_path, {"m": (0.0, 1.0)})
    one.add([("k1", {"m": Score(1.0)})])
    two.add([("k2", {"m": Score(None, "no text")})])
    again = Journal(tmp_path, {"m": (0.0, 1.0)})
    assert again.get("k1") == {"m": Score(1.0)}
    assert again.get("k2") == {"m": Score(None, "no text")}
    again.forget(["k1"])
    assert Journal(tmp_path, {"m": (0.0, 1.0)}).get("k1") is None
    assert Journal(tmp_path, {"m": (0.0, 1.0)}).get("k2") == {"m": Score(None, "no text")}
    assert len(list(tmp_path.glob("*.jsonl"))) == 1


@pytest.mark.parametrize(
    ("free", "one", "size"),
    [(100, 10, 8), (100, 81, 1), (10, 100, 1), (1 << 40, 1, 64), (50, 0, 32)],
)
def test_an_automatic_batch_is_the_largest_power_of_two_that_fits(free, one, size):
    """Into four fifths of what is free, 64 at most."""
    assert fitting_batch(free, one) == size


def test_weights_are_named_beside_the_package_that_an_evaluator_lacks(tmp_path, monkeypatch):
    """A user who installs it should not be told of the weights only then."""
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path))
    detector = SimpleNamespace(weights=(catalogue.MASK2FORMER, catalogue.CLIP_VIT_L_14))
    judge = SimpleNamespace(given="one", problem="it needs mmdet: pip install", evaluator=detector)
    assert problems_of([judge]) == [
        "weights are missing: run `soar-bench fetch mask2former-swin-s clip-vit-l-14`",
        "it needs mmdet: pip install",
    ]
    judge.problem = "they are not here: run `soar-bench fetch mask2former-swin-s`"
    assert problems_of([judge]) == [
        "weights are missing: run `soar-bench fetch mask2former-swin-s clip-vit-l-14`"
    ]
    detector.weights = detector.weights[:1]
    assert problems_of([judge]) == [judge.problem]

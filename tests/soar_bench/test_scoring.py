"""Evaluators that share a model are run side by side; the others one after another."""

from pathlib import Path

import numpy as np
import pytest

from evaluators import registry
from evaluators.types import Evaluator, Metric, Score
from soar_bench import evaluate
from soar_bench.evaluate import judge
from soar_bench.generate import digest_image
from soar_bench.scoring import evaluator_identity, precision
from soar_bench.types import PlannedSample, Prompt


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
def events(monkeypatch):
    found: list[str] = []
    shares = {"a": "tower", "b": "", "c": "tower"}
    monkeypatch.setattr(registry, "create", lambda name: Recorder(name, shares[name], found))
    return found


SAMPLES = [PlannedSample(Prompt(f"p{i}", f"prompt {i}"), 0) for i in range(5)]


def pictures(sample):
    image = np.full((4, 4, 3), 10 * int(sample.prompt.id[1:]), np.uint8)
    return digest_image(image), lambda: image


def work(cache: Path, names, **options):
    return judge(names, SAMPLES, pictures, cache, "images", batch_size=3, **options)


def stages(events):
    return [event for event in events if not event.startswith("images")]


def test_what_shares_a_model_sees_each_batch_together(events, tmp_path):
    judged = work(tmp_path, ["a", "b", "c"])
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
    work(tmp_path, ["a"])
    events.clear()
    work(tmp_path, ["a", "c"])
    assert stages(events) == ["c loads float32", "c scores 3", "c scores 2"]
    events.clear()
    work(tmp_path, ["a", "b", "c"])
    assert stages(events) == ["b loads float32", "b scores 3", "b scores 2"]


def test_another_precision_is_another_evaluator_where_it_has_one(events, tmp_path):
    work(tmp_path, ["a", "b"])
    events.clear()
    judged = work(tmp_path, ["a", "b"], dtype="bfloat16")
    assert stages(events) == ["a loads bfloat16", "a scores 3", "a scores 2"]
    assert judged.declared["a"]["identity"] == {"dtype": "bfloat16"}
    assert judged.declared["b"]["identity"] == {}


def test_the_evaluators_own_precision_leaves_no_mark():
    evaluator = Recorder("a", "tower", [])
    assert precision(evaluator, None) == precision(evaluator, "float16") == "float32"
    assert evaluator_identity(evaluator, "float32")["identity"] == {}


def test_the_built_in_evaluators_over_one_clip_are_a_group():
    names = ["aesthetic", "pickscore", "clipscore", "geneval", "ocr", "clipscore-processor"]
    assert evaluate._groups(names) == [
        ["aesthetic", "clipscore", "geneval", "clipscore-processor"],
        ["pickscore"],
        ["ocr"],
    ]


def test_a_score_outside_its_range_stops_the_run(events, tmp_path, monkeypatch):
    monkeypatch.setattr(
        Recorder, "score", lambda self, samples: [{self.name: Score(2.0)} for _ in samples]
    )
    with pytest.raises(Exception, match=r"gave a = 2\.0, outside its range"):
        work(tmp_path, ["a"])

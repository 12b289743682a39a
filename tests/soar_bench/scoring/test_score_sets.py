"""Runs under evaluators that judge images together."""

from __future__ import annotations

import numpy as np
import pytest
from stats_of_frames import pair_of

import soar_bench as sb
from evaluators import Metric, Score, SetEvaluator
from soar_bench.boards import Board, Entrant
from soar_bench.core.errors import SoarBenchError
from soar_bench.stats import estimate

CALLS = []


def images(count, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8))


class Spread(SetEvaluator):
    """Range of the mean values of a prompt's images."""

    name = "spread"
    metrics = (Metric("spread", "levels", (0.0, 255.0), True, "1", "test", "range of means"),)

    def embed(self, samples):
        CALLS.append(len(samples))
        return [np.array(sample.image.mean()) for sample in samples]

    def score_set(self, rows):
        return [{"spread": Score(float(np.ptp(rows)))} for _ in rows]


class Place(Spread):
    """How far an image's mean lies from that of the run."""

    name = "place"
    together = "run"
    metrics = (Metric("place", "levels", (-255.0, 255.0), True, "1", "test", "distance to mean"),)

    def score_set(self, rows):
        return [{"place": Score(float(row - np.mean(rows)))} for row in rows]


class Whole(Place):
    """The mean of the run, which every image gets."""

    name = "whole"
    metrics = (Metric("whole", "levels", (0.0, 255.0), True, "1", "test", "mean of the run"),)

    def score_set(self, rows):
        return [{"whole": Score(float(np.mean(rows)))} for _ in rows]


class Broken(Spread):
    name = "broken"

    def embed(self, samples):
        raise ValueError("no")


class BrokenRun(Broken):
    together = "run"


class BrokenFigure(Place):
    name = "broken-figure"

    def score_set(self, rows):
        raise ArithmeticError("no figure")


@pytest.fixture()
def score(tmp_path):
    def call(pictures, prompts, evaluator, **more):
        places = {"results": tmp_path / "results", "cache": tmp_path / "cache"}
        return sb.score(pictures, prompts, evaluators=evaluator, **places, **more)

    return call


PROMPTS = ["a", "b", "a", "b", "a", "b"]


def test_every_image_has_the_value_of_its_prompts_set(score):
    pictures = images(6)
    run = score(pictures, PROMPTS, Spread(), batch_size=3)
    frame = run.scores()
    means = [float(picture.mean()) for picture in pictures]
    expected = {"a": np.ptp(means[::2]), "b": np.ptp(means[1::2])}
    assert frame["value"].tolist() == pytest.approx([expected[p] for p in frame["prompt"]])
    record = run.record.metrics["spread"]
    assert record.value == pytest.approx((expected["a"] + expected["b"]) / 2)
    # two prompts: the standard error is that of two values, not of six
    assert record.standard_error == pytest.approx(abs(expected["a"] - expected["b"]) / 2)


def test_a_set_is_scored_again_where_one_of_its_images_changed(score):
    pictures = images(6)
    score(pictures, PROMPTS, Spread())
    CALLS.clear()
    score(pictures, PROMPTS, Spread())
    assert not CALLS
    changed = [*pictures[:5], images(1, 9)[0]]
    frame = score(changed, PROMPTS, Spread()).scores()
    means = [float(picture.mean()) for picture in changed[1::2]]
    assert frame[frame["prompt"] == "b"]["value"].tolist() == pytest.approx([np.ptp(means)] * 3)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_a_runs_set_is_embedded_in_batches_and_judged_whole(score, batch_size):
    pictures = images(6)
    CALLS.clear()
    frame = score(pictures, PROMPTS, Place(), batch_size=batch_size).scores()
    means = np.array([float(p.mean()) for p in pictures])
    names = [(prompt, number // 2) for number, prompt in enumerate(PROMPTS)]
    by_sample = dict(zip(names, means - means.mean(), strict=True))
    rows = zip(frame["prompt"], frame["index"], strict=True)
    assert frame["value"].tolist() == pytest.approx([by_sample[row] for row in rows])
    assert max(CALLS) <= batch_size and sum(CALLS) == 6


def test_prompts_with_one_image_are_unscored_and_a_run_of_them_is_refused(score):
    frame = score(images(3), ["a", "a", "b"], Spread()).scores()
    assert frame["value"].isna().tolist() == [prompt == "b" for prompt in frame["prompt"]]
    with pytest.raises(SoarBenchError, match="compares the images of a prompt, and needs 2 images"):
        score(images(2), ["a", "b"], Spread())
    with pytest.raises(SoarBenchError, match="needs 2 images of a run"):
        score(images(1), ["a"], Place())


def test_a_failure_is_unscored_for_a_prompt_and_ends_a_run(score):
    frame = score(images(2), ["a", "a"], Broken()).scores()
    assert frame["unscored"].tolist() == ["the evaluator failed: ValueError: no"] * 2
    with pytest.raises(SoarBenchError, match="failed on each of 8 samples"):
        score(images(8), ["a", "b"] * 4, Broken())
    with pytest.raises(SoarBenchError, match="broken failed"):
        score(images(2), ["a", "a"], BrokenRun())
    with pytest.raises(
        SoarBenchError, match=r"broken-figure failed \(ArithmeticError: no figure\)"
    ):
        score(images(2), ["a", "a"], BrokenFigure())


def test_two_runs_are_paired_by_prompt(score):
    prompts = [str(i % 8) for i in range(24)]
    first = score(images(24, 1), prompts, Spread(), label="first").scores()
    second = score(images(24, 2), prompts, Spread(), label="second").scores()
    per_prompt = [f.groupby("prompt_id")["value"].first() for f in (first, second)]
    differences = per_prompt[1] - per_prompt[0]
    difference = pair_of([second], [first]).difference
    assert difference.value == pytest.approx(differences.mean())
    assert difference.standard_error == pytest.approx(differences.std(ddof=1) / 8**0.5)


class Skewed(Spread):
    name = "skewed"
    metrics = (
        Metric("skewed", "levels", (0.0, 255.0), True, "1", "test", "range of means", skewed=True),
    )

    def score_set(self, rows):
        return [{"skewed": scores["spread"]} for scores in super().score_set(rows)]


def test_the_interval_of_a_metric_that_declares_it_is_corrected_for_skewness(score):
    prompts = [name for name in "abcdefg" for _ in range(2)]
    run = score(images(14), prompts, [Skewed(), Spread()])
    board = Board.of([Entrant("one", (run,))])
    frame = run.scores()
    for metric, skewed in (("skewed", True), ("spread", False)):
        assert run.record.evaluators[metric].metrics[metric].skewed == skewed
        expected = estimate(frame[frame["metric"] == metric], skewed=skewed).interval()
        assert board.interval(0, metric) == pytest.approx(expected)
    assert board.interval(0, "skewed") != board.interval(0, "spread")
    declared = run.record.as_json()["evaluators"]["spread"]["metrics"]["spread"]
    assert "skewed" not in declared


def test_one_figure_of_a_run_is_no_evidence_by_prompt(score):
    """Twelve prompts with the same difference would be p = 2^-11 if each were asked by itself."""
    prompts = [f"prompt {i}" for i in range(12)]
    runs = [score(images(12, seed), prompts, Whole(), label=f"r{seed}") for seed in (1, 2)]
    assert runs[0].record.evaluators["whole"].metrics["whole"].of_run
    row = sb.compare(runs).rows[-1]
    assert row.difference.value != 0 and np.isnan(row.p_value) and not row.test
    assert row.verdict == "one figure of each run, whose error is not known"
    assert np.isnan(row.p_against(1.0))
    of_prompts = score(images(6), PROMPTS, Spread()).record.evaluators["spread"]
    assert not of_prompts.metrics["spread"].of_run

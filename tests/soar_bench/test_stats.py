"""Statistics against known answers: hand computation, scipy, simulation."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from soar_bench.stats import estimate, over_seeds, paired_difference


def frame(values, prompts=None, tasks=None, index=None):
    n = len(values)
    return pd.DataFrame(
        {
            "prompt_id": prompts if prompts is not None else [f"p{i}" for i in range(n)],
            "task": tasks if tasks is not None else [""] * n,
            "index": index if index is not None else [0] * n,
            "value": values,
        }
    )


def test_one_image_a_prompt_is_the_plain_standard_error():
    values = np.random.default_rng(0).normal(size=40)
    found = estimate(frame(values))
    assert found.value == pytest.approx(values.mean())
    assert found.standard_error == pytest.approx(scipy_stats.sem(values))
    expected = scipy_stats.t.interval(0.95, 39, values.mean(), scipy_stats.sem(values))
    assert found.interval() == pytest.approx(expected)
    assert found.p_value() == pytest.approx(scipy_stats.ttest_1samp(values, 0).pvalue)


def test_clustered_standard_error_by_hand():
    """Two prompts, values 1 1 and 0 1: mean 3/4, summed residuals 1/2 and -1/2.

    Variance = 2/1 * (1/4 + 1/4) / 4^2 = 1/16.
    """
    found = estimate(frame([1, 1, 0, 1], ["a", "a", "b", "b"]))
    assert found.value == 0.75
    assert found.standard_error == pytest.approx(0.25)
    assert found.prompts == 2
    assert found.scored == 4


def test_equal_clusters_are_the_standard_error_of_their_means():
    values = np.random.default_rng(1).normal(size=(30, 4))
    found = estimate(frame(values.ravel(), np.repeat([f"p{i}" for i in range(30)], 4)))
    assert found.standard_error == pytest.approx(scipy_stats.sem(values.mean(1)))


def test_copies_of_an_image_add_nothing():
    once = estimate(frame([1.0, 0.0, 1.0, 0.0, 0.0]))
    many = estimate(frame([1.0, 0.0, 1.0, 0.0, 0.0] * 4, [f"p{i}" for i in range(5)] * 4))
    assert many.standard_error == pytest.approx(once.standard_error)


def test_task_mean_is_unweighted():
    """SD-XL's GenEval from its own table: 0.557 over tasks against 0.544 over images."""
    tasks = ["single"] * 2 + ["counting"] * 6
    found = estimate(frame([1, 1, 0, 0, 1, 0, 0, 1], tasks=tasks), "task_mean")
    assert found.value == pytest.approx((1 + 1 / 3) / 2)
    counting = estimate(frame([0, 0, 1, 0, 0, 1]))
    assert found.standard_error == pytest.approx(counting.standard_error / 2)


def test_unscored_is_counted_and_enters_no_mean():
    found = estimate(frame([1.0, None, 0.0, math.nan]))
    assert (found.value, found.scored, found.unscored) == (0.5, 2, 2)


def test_nothing_scored_has_no_value():
    found = estimate(frame([math.nan, math.nan]))
    assert math.isnan(found.value)
    assert found.unscored == 2
    assert math.isnan(found.interval()[0])


def test_a_single_prompt_has_no_standard_error():
    found = estimate(frame([1, 0, 1], ["a"] * 3))
    assert math.isnan(found.standard_error)
    assert all(map(math.isnan, found.interval()))


def test_paired_difference_is_the_paired_t_test():
    rng = np.random.default_rng(2)
    hard = rng.normal(size=50)
    a, b = hard + rng.normal(scale=0.1, size=50) + 0.05, hard + rng.normal(scale=0.1, size=50)
    found = paired_difference([frame(a)], [frame(b)])
    assert found.value == pytest.approx((a - b).mean())
    assert found.p_value() == pytest.approx(scipy_stats.ttest_rel(a, b).pvalue)
    apart = math.hypot(estimate(frame(a)).standard_error, estimate(frame(b)).standard_error)
    assert found.standard_error < apart / 5, "what both share has cancelled"


def test_only_samples_that_both_scored_are_paired():
    a = frame([1.0, 0.0, math.nan, 1.0])
    b = frame([0.0, 0.0, 1.0])
    found = paired_difference([a], [b])
    assert found.scored == 2
    assert found.value == 0.5
    assert found.unscored == 2


def test_order_does_not_matter():
    rng = np.random.default_rng(3)
    a, b = frame(rng.normal(size=20)), frame(rng.normal(size=20))
    plain = paired_difference([a], [b])
    shuffled = paired_difference([a.sample(frac=1, random_state=0)], [b])
    assert shuffled.value == pytest.approx(plain.value)
    assert shuffled.standard_error == pytest.approx(plain.standard_error)


def test_seeds_by_hand():
    """Values 0.2 and 0.6: mean 0.4, deviation 0.2828; seed part of the variance 0.08 / 2."""
    a = frame([0.0, 0.4])
    b = frame([0.4, 0.8])
    found = over_seeds([a, b])
    assert found.value == pytest.approx(0.4)
    assert found.seed_deviation == pytest.approx(math.sqrt(0.08))
    prompts = scipy_stats.sem([0.2, 0.6])
    assert found.standard_error == pytest.approx(math.sqrt(prompts**2 + 0.04))
    assert found.seeds == 2
    assert over_seeds([a]) == estimate(a)


def test_a_seed_with_nothing_scored_does_not_spoil_the_others():
    found = over_seeds([frame([0.0, 1.0]), frame([math.nan, math.nan]), frame([1.0, 1.0])])
    assert found.value == 0.75
    assert found.seeds == 2
    assert found.unscored == 2


def test_paired_seeds_by_hand():
    """Two seeds each: sample means a = (0.2, 0.6), b = (0.1, 0.3); differences 0.1 and 0.3.

    Prompt part sem(0.1, 0.3) = 0.1; seed values a 0.2, 0.6 (variance 0.08), b 0.2, 0.2 (0).
    """
    a = [frame([0.0, 0.4]), frame([0.4, 0.8])]
    b = [frame([0.1, 0.3]), frame([0.1, 0.3])]
    found = paired_difference(a, b)
    assert found.value == pytest.approx(0.2)
    assert found.standard_error == pytest.approx(math.sqrt(0.1**2 + 0.08 / 2))
    assert found.scored == 2


def test_seed_intervals_cover_at_least_as_often_as_they_say():
    """Seeds that differ and prompts that differ; the true difference is 0.05."""
    rng = np.random.default_rng(6)
    hits = 0
    for _ in range(400):
        hard = rng.normal(scale=0.3, size=40)
        sides = []
        for shift in (0.05, 0.0):
            runs = []
            for seed in rng.normal(scale=0.04, size=4):
                noise = rng.normal(scale=0.2, size=40)
                runs.append(frame(0.5 + shift + seed + hard + noise))
            sides.append(runs)
        low, high = paired_difference(*sides).interval()
        hits += low <= 0.05 <= high
    assert hits / 400 >= 0.93


def simulate(rng, prompts=60, images=4):
    """Clustered binary data: each prompt has a difficulty of its own; true mean 0.6."""
    difficulty = rng.beta(1.8, 1.2, size=prompts)
    values = rng.random((prompts, images)) < difficulty[:, None]
    return frame(values.ravel().astype(float), np.repeat(np.arange(prompts), images))


def test_intervals_cover_as_often_as_they_say():
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(2000):
        low, high = estimate(simulate(rng)).interval()
        hits += low <= 0.6 <= high
    assert 0.93 <= hits / 2000 <= 0.97


def test_paired_tests_are_wrong_as_often_as_they_say():
    rng = np.random.default_rng(5)
    positives = 0
    for _ in range(1500):
        difficulty = rng.beta(1.8, 1.2, size=60)
        a, b = (
            frame(
                (rng.random((60, 4)) < difficulty[:, None]).ravel().astype(float),
                np.repeat(np.arange(60), 4),
                index=np.tile(np.arange(4), 60),
            )
            for _ in range(2)
        )
        positives += paired_difference([a], [b]).p_value() < 0.05
    assert 0.03 <= positives / 1500 <= 0.07

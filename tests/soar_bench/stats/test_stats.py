"""Values, standard errors and differences against known answers: by hand, scipy, statsmodels."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from frames_by_hand import frame
from scipy import stats as scipy_stats
from stats_of_frames import bootstrap_interval, pair_of, sign_flip_p

from soar_bench.stats import (
    effect_size,
    estimate,
    over_seeds,
)


@pytest.mark.parametrize("aggregate", ["mean", "task_mean"])
def test_no_samples_at_all_have_no_value_and_no_difference(aggregate):
    empty = frame([])
    assert math.isnan(estimate(empty, aggregate).value)
    pair = pair_of([empty], [empty], aggregate)
    assert (pair.difference.scored, pair.wins) == (0, (0, 0, 0))
    assert math.isnan(pair.p_value)


def test_one_image_a_prompt_is_the_plain_standard_error():
    values = np.random.default_rng(0).normal(size=40)
    estimated = estimate(frame(values))
    assert estimated.value == pytest.approx(values.mean())
    assert estimated.standard_error == pytest.approx(scipy_stats.sem(values))
    expected = scipy_stats.t.interval(0.95, 39, values.mean(), scipy_stats.sem(values))
    assert estimated.interval() == pytest.approx(expected)
    assert estimated.p_value() == pytest.approx(scipy_stats.ttest_1samp(values, 0).pvalue)


def test_clustered_standard_error_by_hand():
    """Two prompts, values 1 1 and 0 1: mean 3/4, summed residuals 1/2 and -1/2.

    Variance = 2/1 * (1/4 + 1/4) / 4^2 = 1/16.
    """
    estimated = estimate(frame([1, 1, 0, 1], ["a", "a", "b", "b"]))
    assert estimated.value == 0.75
    assert estimated.standard_error == pytest.approx(0.25)
    assert estimated.prompts == 2
    assert estimated.scored == 4


def test_equal_clusters_are_the_standard_error_of_their_means():
    values = np.random.default_rng(1).normal(size=(30, 4))
    estimated = estimate(frame(values.ravel(), np.repeat([f"p{i}" for i in range(30)], 4)))
    assert estimated.standard_error == pytest.approx(scipy_stats.sem(values.mean(1)))


def test_copies_of_an_image_add_nothing():
    once = estimate(frame([1.0, 0.0, 1.0, 0.0, 0.0]))
    many = estimate(frame([1.0, 0.0, 1.0, 0.0, 0.0] * 4, [f"p{i}" for i in range(5)] * 4))
    assert many.standard_error == pytest.approx(once.standard_error)


def test_task_mean_is_unweighted():
    """SD-XL's GenEval from its own table: 0.557 over tasks against 0.544 over images."""
    tasks = ["single"] * 2 + ["counting"] * 6
    estimated = estimate(frame([1, 1, 0, 0, 1, 0, 0, 1], tasks=tasks), "task_mean")
    assert estimated.value == pytest.approx((1 + 1 / 3) / 2)
    counting = estimate(frame([0, 0, 1, 0, 0, 1]))
    assert estimated.standard_error == pytest.approx(counting.standard_error / 2)


def test_unscored_is_counted_and_enters_no_mean():
    estimated = estimate(frame([1.0, None, 0.0, math.nan]))
    assert (estimated.value, estimated.scored, estimated.unscored) == (0.5, 2, 2)


def test_nothing_scored_has_no_value():
    estimated = estimate(frame([math.nan, math.nan]))
    assert math.isnan(estimated.value)
    assert estimated.unscored == 2
    assert math.isnan(estimated.interval()[0])


def test_a_single_prompt_has_no_standard_error():
    estimated = estimate(frame([1, 0, 1], ["a"] * 3))
    assert math.isnan(estimated.standard_error)
    assert all(map(math.isnan, estimated.interval()))


def test_paired_difference_is_the_paired_t_test():
    rng = np.random.default_rng(2)
    hard = rng.normal(size=50)
    a, b = hard + rng.normal(scale=0.1, size=50) + 0.05, hard + rng.normal(scale=0.1, size=50)
    difference = pair_of([frame(a)], [frame(b)]).difference
    assert difference.value == pytest.approx((a - b).mean())
    assert difference.p_value() == pytest.approx(scipy_stats.ttest_rel(a, b).pvalue)
    apart = math.hypot(estimate(frame(a)).standard_error, estimate(frame(b)).standard_error)
    assert difference.standard_error < apart / 5, "what both share has cancelled"


def test_only_samples_that_both_scored_are_paired():
    a = frame([1.0, 0.0, math.nan, 1.0])
    b = frame([0.0, 0.0, 1.0])
    difference = pair_of([a], [b]).difference
    assert difference.scored == 2
    assert difference.value == 0.5
    assert difference.unscored == 2


def test_order_does_not_matter():
    rng = np.random.default_rng(3)
    a, b = frame(rng.normal(size=20)), frame(rng.normal(size=20))
    plain = pair_of([a], [b]).difference
    shuffled = pair_of([a.sample(frac=1, random_state=0)], [b]).difference
    assert shuffled.value == pytest.approx(plain.value)
    assert shuffled.standard_error == pytest.approx(plain.standard_error)


def test_seeds_by_hand():
    """Values 0.2 and 0.6: mean 0.4, deviation 0.2828; seed part of the variance 0.08 / 2."""
    a = frame([0.0, 0.4])
    b = frame([0.4, 0.8])
    estimated = over_seeds([a, b])
    assert estimated.value == pytest.approx(0.4)
    assert estimated.seed_deviation == pytest.approx(math.sqrt(0.08))
    prompts = scipy_stats.sem([0.2, 0.6])
    assert estimated.standard_error == pytest.approx(math.sqrt(prompts**2 + 0.04))
    assert estimated.seeds == 2
    assert repr(over_seeds([a])) == repr(estimate(a))  # with NaN, which Python 3.13 finds unequal


def test_a_seed_with_nothing_scored_does_not_spoil_the_others():
    estimated = over_seeds([frame([0.0, 1.0]), frame([math.nan, math.nan]), frame([1.0, 1.0])])
    assert estimated.value == 0.75
    assert estimated.seeds == 2
    assert estimated.unscored == 2


def test_paired_seeds_by_hand():
    """Two seeds each: sample means a = (0.2, 0.6), b = (0.1, 0.3); differences 0.1 and 0.3.

    Prompt part sem(0.1, 0.3) = 0.1; seed values a 0.2, 0.6 (variance 0.08), b 0.2, 0.2 (0).
    """
    a = [frame([0.0, 0.4]), frame([0.4, 0.8])]
    b = [frame([0.1, 0.3]), frame([0.1, 0.3])]
    difference = pair_of(a, b).difference
    assert difference.value == pytest.approx(0.2)
    assert difference.standard_error == pytest.approx(math.sqrt(0.1**2 + 0.08 / 2))
    assert difference.scored == 2


def test_clustered_error_of_unequal_clusters_is_that_of_statsmodels():
    """Constants: statsmodels 0.14, OLS on a constant, cov_type="cluster", and by hand below."""
    values, prompts = [1.0, 0.0, 1.0, 1.0, 0.0, 0.5], list("aabccc")
    estimated = estimate(frame(values, prompts, index=[0, 1, 0, 0, 1, 2]))
    mean = 3.5 / 6
    residuals = (1 - 2 * mean, 1 - mean, 1.5 - 3 * mean)
    by_hand = math.sqrt(3 / 2 * sum(r**2 for r in residuals)) / 6
    assert estimated.standard_error == pytest.approx(by_hand)
    models = pytest.importorskip("statsmodels.api")
    fitted = models.OLS(values, np.ones(6)).fit(
        cov_type="cluster", cov_kwds={"groups": pd.factorize(np.array(prompts))[0]}
    )
    assert estimated.standard_error == pytest.approx(fitted.bse[0])


def test_an_infinite_score_is_no_score():
    estimated = estimate(frame([1.0, math.inf, 0.0]))
    assert (estimated.value, estimated.scored, estimated.unscored) == (0.5, 2, 1)


@pytest.mark.parametrize("value", [1.0, 0.1, 22.3])
def test_constant_scores_have_no_interval_that_would_pass_for_certainty(value):
    estimated = estimate(frame([value] * 12, [f"p{i // 3}" for i in range(12)]))
    assert estimated.value == pytest.approx(value)
    assert estimated.standard_error == 0
    assert all(map(math.isnan, estimated.interval()))
    assert math.isnan(estimated.p_value())
    assert all(map(math.isnan, bootstrap_interval(frame([value] * 12))))


def test_an_equal_difference_everywhere_has_no_interval_and_no_t():
    base = np.linspace(20.0, 23.0, 7)
    difference = pair_of([frame(base + 0.1)], [frame(base)]).difference
    assert difference.value == pytest.approx(0.1)
    assert difference.standard_error == 0
    assert math.isnan(difference.p_value())
    assert math.isnan(effect_size(difference))
    assert sign_flip_p([frame(base + 0.1)], [frame(base)]) == pytest.approx(2 / 2**7)


def test_rounding_is_no_difference():
    a, b = frame([0.1 + 0.2, 0.7]), frame([0.3, 0.7])
    assert pair_of([a], [b]).difference.value == 0
    assert pair_of([a], [b]).wins == (0, 2, 0)
    assert sign_flip_p([a], [b]) == 1

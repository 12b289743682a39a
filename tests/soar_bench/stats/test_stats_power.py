"""Effect sizes, numbers of prompts and the bootstrap against known answers."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from frames_by_hand import frame, geneval_like
from scipy import stats as scipy_stats
from stats_of_frames import bootstrap_interval, pair_of

from soar_bench.stats import (
    effect_size,
    estimate,
    images_needed,
    interval_of,
    prompts_needed,
)
from soar_bench.stats.bootstrap import resampled
from soar_bench.stats.frames import table_of


def test_effect_size_is_mean_over_deviation_of_prompt_differences():
    rng = np.random.default_rng(12)
    a, b = rng.normal(0.3, size=(40, 4)), rng.normal(size=(40, 4))
    prompts, index = np.repeat(np.arange(40), 4), np.tile(np.arange(4), 40)
    sides = [frame(side.ravel(), prompts, index=index) for side in (a, b)]
    by_prompt = (a - b).mean(1)
    effect = effect_size(pair_of([sides[0]], [sides[1]]).difference)
    assert effect == pytest.approx(by_prompt.mean() / by_prompt.std(ddof=1))


def of_effect(d_z, prompts=50):
    """A paired difference of exactly this effect size: deviation 1, mean ``d_z``."""
    values = np.random.default_rng(13).normal(size=prompts)
    values = (values - values.mean()) / values.std(ddof=1) + d_z
    return pair_of([frame(values)], [frame(np.zeros(prompts))]).difference


@pytest.mark.parametrize(("d_z", "prompts"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_prompts_needed_are_those_of_published_tables(d_z, prompts):
    """Two-sided paired t-test, 5%, power 80%: G*Power's figures."""
    assert prompts_needed(of_effect(d_z), d_z) == prompts
    assert prompts_needed(of_effect(0.1), d_z) == prompts, "d need not be the one observed"
    assert prompts_needed(of_effect(d_z), -d_z) == prompts


def test_prompts_needed_are_those_of_statsmodels():
    power = pytest.importorskip("statsmodels.stats.power")
    exact = power.TTestPower().solve_power(effect_size=0.13, alpha=0.01, power=0.9)
    assert prompts_needed(of_effect(0.1), 0.13, power=0.9, level=0.99) == math.ceil(exact)


def test_no_number_of_prompts_shows_nothing():
    assert prompts_needed(of_effect(0.0), 0.0) == math.inf
    nothing = pair_of([frame([1.0])], [frame([1.0])]).difference
    assert math.isnan(prompts_needed(nothing, 0.1))
    assert math.isnan(prompts_needed(of_effect(0.3), math.nan))


def test_seeds_that_differ_too_much_cannot_be_outweighed_by_prompts():
    rng = np.random.default_rng(14)
    hard = rng.normal(size=300)
    sides = [
        [frame(hard + seed + rng.normal(scale=0.1, size=300)) for seed in seeds]
        for seeds in ((-0.3, 0.3), (0.2, -0.2))
    ]
    difference = pair_of(*sides).difference
    assert prompts_needed(difference, 0.05) == math.inf
    assert 2 <= prompts_needed(difference, 5.0) < 300


def test_prompts_needed_give_the_power_that_was_asked_for():
    rng = np.random.default_rng(15)
    draws = rng.normal(0.25, 1.0, size=(3000, int(prompts_needed(of_effect(0.1, 80), 0.25))))
    t = draws.mean(1) / scipy_stats.sem(draws, axis=1)
    seen = np.abs(t) > scipy_stats.t.ppf(0.975, draws.shape[1] - 1)
    assert seen.mean() == pytest.approx(0.8, abs=0.03)


def test_images_needed_lower_only_what_images_can():
    """Prompts differ with variance 0.04, images within them with 1; 60 prompts of 4 images each.

    The wanted d needs the variance of a prompt's mean to be 60 d^2 / 2.85^2, so that images of
    each prompt are 1 / (that - 0.04), for t quantiles that add up to about 2.85.
    """
    rng = np.random.default_rng(16)
    prompts, index = np.repeat(np.arange(6000), 4), np.tile(np.arange(4), 6000)
    values = np.repeat(rng.normal(scale=0.2, size=6000), 4) + rng.normal(size=24_000)
    sides = (frame(values, prompts, index=index), frame(np.zeros(24_000), prompts, index=index))
    many = pair_of([sides[0]], [sides[1]]).difference
    assert many.image_error == pytest.approx(math.sqrt(1 / 24_000), rel=0.03)
    assert many.prompt_error == pytest.approx(math.sqrt((0.04 + 1 / 4) / 6000), rel=0.03)
    needed = images_needed(many, 0.012)
    assert needed == pytest.approx(1 / (6000 * 0.012**2 / 2.8016**2 - 0.04), rel=0.15)
    assert images_needed(many, 0.005) == math.inf, "prompts differ too much"
    single = pair_of([frame([1.0, 0.0, 1.0])], [frame([0.0, 0.0, 0.0])]).difference
    assert math.isnan(images_needed(single, 0.1))


# Bootstrap


def test_resamples_vary_as_the_theory_says():
    """Their variance is that of a mean of independent strata with n in place of n - 1."""
    sides = geneval_like(np.random.default_rng(17))
    for aggregate in ("mean", "task_mean"):
        clusters = table_of([[sides[0]]], aggregate).clusters(0)
        means = pd.Series(clusters.sums / clusters.counts).groupby(clusters.strata)
        expected = math.sqrt(sum(means.var(ddof=0) / means.size())) / means.ngroups
        drawn = resampled(clusters, draws=20_000)
        assert drawn.std() == pytest.approx(expected, rel=0.02)
        assert drawn.mean() == pytest.approx(estimate(sides[0], aggregate).value, abs=3e-4)


def test_the_bootstrap_is_deterministic_and_agrees_with_t_where_scores_are_normal():
    rng = np.random.default_rng(18)
    values = frame(rng.normal(size=12))
    first = bootstrap_interval(values)
    assert first == bootstrap_interval(values)
    assert first != bootstrap_interval(values, seed=1)
    assert first == pytest.approx(estimate(values).interval(), abs=0.12)
    narrow = bootstrap_interval(values, level=0.5)
    assert first[0] < narrow[0] < narrow[1] < first[1]


def test_the_bootstrap_resamples_prompts_whole():
    """Copies of an image add nothing."""
    values = [1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    once = bootstrap_interval(frame(values))
    many = bootstrap_interval(frame(values * 4, [f"p{i}" for i in range(8)] * 4))
    assert many == pytest.approx(once)


def test_the_paired_bootstrap_is_of_differences():
    rng = np.random.default_rng(19)
    hard = rng.normal(size=60)
    a, b = frame(hard + 0.1 + rng.normal(scale=0.05, size=60)), frame(hard)
    pair, none = pair_of([a], [b]), pair_of([a], [frame([1.0], ["other"])])
    ends = interval_of(pair.clusters, pair.difference)
    assert ends == pytest.approx(pair.difference.interval(), abs=0.003)
    assert all(map(math.isnan, interval_of(none.clusters, none.difference)))

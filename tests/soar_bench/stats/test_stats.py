"""Statistics against known answers: hand computation, scipy, simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from stats_of_frames import bootstrap_interval, pair_of, sign_flip_p

from soar_bench.stats import (
    effect_size,
    estimate,
    holm,
    images_needed,
    interval_of,
    over_seeds,
    prompts_needed,
    sign_flip,
)
from soar_bench.stats.bootstrap import resampled
from soar_bench.stats.frames import table_of


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


@pytest.mark.parametrize("aggregate", ["mean", "task_mean"])
def test_no_samples_at_all_have_no_value_and_no_difference(aggregate):
    empty = frame([])
    assert math.isnan(estimate(empty, aggregate).value)
    pair = pair_of([empty], [empty], aggregate)
    assert (pair.difference.scored, pair.wins) == (0, (0, 0, 0))
    assert math.isnan(pair.p_value)


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
    found = pair_of([frame(a)], [frame(b)]).difference
    assert found.value == pytest.approx((a - b).mean())
    assert found.p_value() == pytest.approx(scipy_stats.ttest_rel(a, b).pvalue)
    apart = math.hypot(estimate(frame(a)).standard_error, estimate(frame(b)).standard_error)
    assert found.standard_error < apart / 5, "what both share has cancelled"


def test_only_samples_that_both_scored_are_paired():
    a = frame([1.0, 0.0, math.nan, 1.0])
    b = frame([0.0, 0.0, 1.0])
    found = pair_of([a], [b]).difference
    assert found.scored == 2
    assert found.value == 0.5
    assert found.unscored == 2


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
    found = over_seeds([a, b])
    assert found.value == pytest.approx(0.4)
    assert found.seed_deviation == pytest.approx(math.sqrt(0.08))
    prompts = scipy_stats.sem([0.2, 0.6])
    assert found.standard_error == pytest.approx(math.sqrt(prompts**2 + 0.04))
    assert found.seeds == 2
    assert repr(over_seeds([a])) == repr(estimate(a))  # with NaN, which Python 3.13 finds unequal


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
    found = pair_of(a, b).difference
    assert found.value == pytest.approx(0.2)
    assert found.standard_error == pytest.approx(math.sqrt(0.1**2 + 0.08 / 2))
    assert found.scored == 2


def test_clustered_error_of_unequal_clusters_is_that_of_statsmodels():
    """Constants: statsmodels 0.14, OLS on a constant, cov_type="cluster", and by hand below."""
    values, prompts = [1.0, 0.0, 1.0, 1.0, 0.0, 0.5], list("aabccc")
    found = estimate(frame(values, prompts, index=[0, 1, 0, 0, 1, 2]))
    mean = 3.5 / 6
    residuals = (1 - 2 * mean, 1 - mean, 1.5 - 3 * mean)
    by_hand = math.sqrt(3 / 2 * sum(r**2 for r in residuals)) / 6
    assert found.standard_error == pytest.approx(by_hand)
    models = pytest.importorskip("statsmodels.api")
    fitted = models.OLS(values, np.ones(6)).fit(
        cov_type="cluster", cov_kwds={"groups": pd.factorize(np.array(prompts))[0]}
    )
    assert found.standard_error == pytest.approx(fitted.bse[0])


def test_an_infinite_score_is_no_score():
    found = estimate(frame([1.0, math.inf, 0.0]))
    assert (found.value, found.scored, found.unscored) == (0.5, 2, 1)


@pytest.mark.parametrize("value", [1.0, 0.1, 22.3])
def test_constant_scores_have_no_interval_that_would_pass_for_certainty(value):
    found = estimate(frame([value] * 12, [f"p{i // 3}" for i in range(12)]))
    assert found.value == pytest.approx(value)
    assert found.standard_error == 0
    assert all(map(math.isnan, found.interval()))
    assert math.isnan(found.p_value())
    assert all(map(math.isnan, bootstrap_interval(frame([value] * 12))))


def test_an_equal_difference_everywhere_has_no_interval_and_no_t():
    base = np.linspace(20.0, 23.0, 7)
    found = pair_of([frame(base + 0.1)], [frame(base)]).difference
    assert found.value == pytest.approx(0.1)
    assert found.standard_error == 0
    assert math.isnan(found.p_value())
    assert math.isnan(effect_size(found))
    assert sign_flip_p([frame(base + 0.1)], [frame(base)]) == pytest.approx(2 / 2**7)


def test_rounding_is_no_difference():
    a, b = frame([0.1 + 0.2, 0.7]), frame([0.3, 0.7])
    assert pair_of([a], [b]).difference.value == 0
    assert pair_of([a], [b]).wins == (0, 2, 0)
    assert sign_flip_p([a], [b]) == 1


# Sign flips and McNemar


def flipped_by_hand(a, b, aggregate):
    """All 2^n flips of whole prompts, with the metric computed anew for each."""
    both = a.merge(b, on=["prompt_id", "task", "index"], suffixes=("_a", "_b")).dropna()
    both["difference"] = both["value_a"] - both["value_b"]
    names = sorted(set(both["prompt_id"]))

    def metric(signs):
        flipped = both["difference"] * both["prompt_id"].map(dict(zip(names, signs, strict=True)))
        if aggregate == "mean":
            return flipped.mean()
        return flipped.groupby(both["task"]).mean().mean()

    observed = abs(metric([1] * len(names)))
    all_flips = [abs(metric(s)) for s in itertools.product((1, -1), repeat=len(names))]
    return np.mean([one >= observed - 1e-12 for one in all_flips])


@pytest.mark.parametrize("aggregate", ["mean", "task_mean"])
@pytest.mark.parametrize("kind", ["binary", "any"])
@pytest.mark.parametrize("seed", range(3))
def test_sign_flips_are_exact_on_small_cases(aggregate, kind, seed):
    """Eight prompts in three tasks, one to three images each, one of them unscored."""
    rng = np.random.default_rng(seed)
    images = rng.integers(1, 4, size=8)
    prompts = np.repeat(np.arange(8), images)
    tasks = np.array(["x", "y", "z"])[prompts % 3]
    index = np.concatenate([np.arange(n) for n in images])
    sides = []
    for chance in (0.8, 0.3):
        drawn = rng.random(len(prompts))
        values = (drawn < chance).astype(float) if kind == "binary" else drawn + chance
        sides.append(frame(values, prompts, tasks, index))
    sides[0].loc[2, "value"] = math.nan
    found, exact = sign_flip(pair_of([sides[0]], [sides[1]], aggregate).clusters)
    assert exact
    assert found == pytest.approx(flipped_by_hand(*sides, aggregate))


def test_sign_flips_are_those_of_scipy():
    rng = np.random.default_rng(8)
    a, b = rng.normal(0.5, size=12), rng.normal(size=12)
    expected = scipy_stats.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=10_000
    )
    assert sign_flip_p([frame(a)], [frame(b)]) == pytest.approx(expected.pvalue)


def test_mcnemar_is_the_binomial_test_of_discordant_prompts():
    """Ten prompts only a has right, two only b, five both: P(X <= 2 or X >= 10 of 12)."""
    a = frame([1.0] * 10 + [0.0] * 2 + [1.0] * 5)
    b = frame([0.0] * 10 + [1.0] * 2 + [1.0] * 5)
    by_hand = 2 * (1 + 12 + 66) / 2**12
    assert sign_flip_p([a], [b]) == pytest.approx(by_hand)
    assert pair_of([a], [b]).odds == 5
    assert pair_of([a], [b]).wins == (10, 5, 2)
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    assert tables.mcnemar([[5, 10], [2, 0]], exact=True).pvalue == pytest.approx(by_hand)


def test_mcnemar_is_for_one_image_a_prompt_that_is_right_or_wrong():
    several = frame([1.0, 0.0, 1.0], ["a", "a", "b"], index=[0, 1, 0])
    for pair, binary, single in (
        (pair_of([several], [several]), True, False),
        (pair_of([frame([0.5, 0.2])], [frame([0.1, 0.2])]), False, True),
        (pair_of([frame([1.0, 0.0])], [frame([0.0, 0.0])]), True, True),
    ):
        assert (pair.binary, pair.single_image) == (binary, single)


def test_one_prompt_is_no_test():
    a, b = frame([1.0, 1.0], ["a", "a"], index=[0, 1]), frame([0.0, 0.0], ["a", "a"], index=[0, 1])
    assert math.isnan(sign_flip_p([a], [b]))
    assert math.isnan(sign_flip_p([a.head(1)], [b.head(1)]))
    assert math.isnan(sign_flip_p([a], [frame([1.0], ["other"])]))


def geneval_like(rng, lift=0.0, lost=0):
    """GenEval's six tasks, four images a prompt, as two sides of equal or shifted difficulty."""
    sizes = [80, 99, 80, 94, 100, 100]
    prompts = np.repeat(np.arange(553), 4)
    tasks = np.repeat(np.repeat(list("abcdef"), sizes), 4)
    index = np.tile(np.arange(4), 553)
    chance = np.repeat(rng.beta(1.5, 1.0, size=553), 4)
    sides = []
    for add in (lift, 0.0):
        values = (rng.random(len(prompts)) < chance + add).astype(float)
        values[rng.choice(len(values), lost, replace=False)] = math.nan
        sides.append(frame(values, prompts, tasks, index))
    return sides


@pytest.mark.parametrize("lost", [0, 25])
@pytest.mark.parametrize("aggregate", ["mean", "task_mean"])
def test_sign_flips_of_a_whole_geneval_are_exact_and_quick(aggregate, lost):
    sides = geneval_like(np.random.default_rng(9), lift=0.02, lost=lost)
    pair = pair_of([sides[0]], [sides[1]], aggregate)
    found, exact = sign_flip(pair.clusters)
    assert exact
    drawn = sums_drawn(pair, 20_000)
    assert found == pytest.approx(drawn, abs=4 * math.sqrt(drawn / 20_000))


def sums_drawn(pair, draws):
    """The p-value from random flips of each prompt's part of the metric."""
    found = pair.clusters
    tasks = pd.factorize(found.strata)[0]
    images = np.bincount(tasks, weights=found.counts)
    parts = found.sums / images[tasks] / len(images)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(draws, len(parts)))
    return np.mean(np.abs(signs @ parts) >= abs(parts.sum()) - 1e-12)


def test_many_prompts_with_any_scores_are_drawn_the_same_way_each_time():
    rng = np.random.default_rng(10)
    a, b = frame(rng.normal(0.2, size=100)), frame(rng.normal(size=100))
    first, exact = sign_flip(pair_of([a], [b]).clusters, draws=9_999)
    assert not exact
    assert first == sign_flip_p([a], [b], draws=9_999)
    assert first == pytest.approx(pair_of([a], [b]).difference.p_value(), abs=0.02)
    values = np.arange(1.5, 101.5)
    values[0] = -0.1
    sure = sign_flip_p([frame(values)], [frame(np.zeros(100))], draws=999)
    assert sure == 1 / 1000, "never 0: nothing drawn was as extreme, and one is added"


def test_differences_of_one_sign_are_exact_however_many_there_are():
    """Only flipping none or all of the prompts is as extreme: 2 of 2^100, ties aside."""
    rising = [frame(np.arange(1.5, 101.5))], [frame(np.zeros(100))]
    assert sign_flip(pair_of(*rising).clusters) == (2**-99, True)
    with_ties = [frame([0.3, 0.0, 0.7, 0.0, 0.1])], [frame(np.zeros(5))]
    assert sign_flip(pair_of(*with_ties).clusters) == (2 / 2**3, True)


def test_several_seeds_are_told_where_flips_and_resamples_would_pass_over_them():
    runs = [frame([0.0, 1.0, 1.0]), frame([1.0, 1.0, 0.0])]
    assert pair_of(runs, [runs[0]]).over_seeds
    assert not pair_of([runs[1]], [runs[0]]).over_seeds


# Holm


def test_holm_by_hand():
    """Smallest times 4, next times 3, next times 2 (0.06), and none below the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([]) == []


def test_what_was_not_tested_is_not_corrected_for():
    found = holm([0.01, math.nan, 0.02])
    assert found[0] == 0.02
    assert math.isnan(found[1])
    assert found[2] == 0.02


def test_holm_is_that_of_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p_values = np.random.default_rng(11).random(9) ** 3
    expected = multitest.multipletests(p_values, method="holm")[1]
    assert holm(list(p_values)) == pytest.approx(expected)


# Effect size and power


def test_effect_size_is_mean_over_deviation_of_prompt_differences():
    rng = np.random.default_rng(12)
    a, b = rng.normal(0.3, size=(40, 4)), rng.normal(size=(40, 4))
    prompts, index = np.repeat(np.arange(40), 4), np.tile(np.arange(4), 40)
    sides = [frame(side.ravel(), prompts, index=index) for side in (a, b)]
    by_prompt = (a - b).mean(1)
    found = effect_size(pair_of([sides[0]], [sides[1]]).difference)
    assert found == pytest.approx(by_prompt.mean() / by_prompt.std(ddof=1))


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
    found = pair_of(*sides).difference
    assert prompts_needed(found, 0.05) == math.inf
    assert 2 <= prompts_needed(found, 5.0) < 300


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
        found = table_of([[sides[0]]], aggregate).clusters(0)
        means = pd.Series(found.sums / found.counts).groupby(found.strata)
        expected = math.sqrt(sum(means.var(ddof=0) / means.size())) / means.ngroups
        drawn = resampled(found, draws=20_000)
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

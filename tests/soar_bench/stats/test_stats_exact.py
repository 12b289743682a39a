"""Sign flips, McNemar's test and Holm's correction against known answers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from frames_by_hand import frame, geneval_like
from scipy import stats as scipy_stats
from stats_of_frames import pair_of, sign_flip_p

from soar_bench.stats import (
    holm,
    sign_flip,
)


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
    return np.mean([value >= observed - 1e-12 for value in all_flips])


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
    p_value, exact = sign_flip(pair_of([sides[0]], [sides[1]], aggregate).clusters)
    assert exact
    assert p_value == pytest.approx(flipped_by_hand(*sides, aggregate))


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


@pytest.mark.parametrize("lost", [0, 25])
@pytest.mark.parametrize("aggregate", ["mean", "task_mean"])
def test_sign_flips_of_a_whole_geneval_are_exact_and_quick(aggregate, lost):
    sides = geneval_like(np.random.default_rng(9), lift=0.02, lost=lost)
    pair = pair_of([sides[0]], [sides[1]], aggregate)
    p_value, exact = sign_flip(pair.clusters)
    assert exact
    drawn = sums_drawn(pair, 20_000)
    assert p_value == pytest.approx(drawn, abs=4 * math.sqrt(drawn / 20_000))


def sums_drawn(pair, draws):
    """The p-value from random flips of each prompt's part of the metric."""
    clusters = pair.clusters
    tasks = pd.factorize(clusters.strata)[0]
    images = np.bincount(tasks, weights=clusters.counts)
    parts = clusters.sums / images[tasks] / len(images)
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
    corrected = holm([0.01, math.nan, 0.02])
    assert corrected[0] == 0.02
    assert math.isnan(corrected[1])
    assert corrected[2] == 0.02


def test_holm_is_that_of_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p_values = np.random.default_rng(11).random(9) ** 3
    expected = multitest.multipletests(p_values, method="holm")[1]
    assert holm(list(p_values)) == pytest.approx(expected)

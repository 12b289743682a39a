"""Tests, intervals and verdicts of `soar-bench compare`."""

from __future__ import annotations

import math

import numpy as np
import pytest
from compared import NAN, printed, story, table_of
from records_by_hand import declared
from scipy import stats as scipy_stats


def test_scores_on_a_scale_are_compared_by_the_paired_t_test(place):
    rng = np.random.default_rng(0)
    a = rng.normal(22, 1, size=30)
    b = a + rng.normal(0.3, 0.4, size=30)
    place("a", {"pick": a})
    place("b", {"pick": b})
    row = place.rows()["pick", "b"]
    assert row.test == "t"
    assert row.p_value == pytest.approx(scipy_stats.ttest_rel(b, a).pvalue)
    assert row.difference.value == pytest.approx((b - a).mean())
    assert (row.wins, row.losses) == ((b > a).sum(), (b < a).sum())
    assert row.effect == pytest.approx((b - a).mean() / (b - a).std(ddof=1))
    assert row.verdict == "better"


def test_right_and_wrong_are_compared_by_the_paired_t_test_too(place):
    a = [0] * 10 + [1] * 2 + [1] * 8
    b = [1] * 10 + [0] * 2 + [1] * 8
    place("a", {"right": a})
    place("b", {"right": b})
    row = place.rows()["right", "b"]
    assert row.test == "t"
    assert row.p_value == pytest.approx(scipy_stats.ttest_rel(b, a).pvalue)
    assert "paired t-test on prompt means" in " ".join(printed(place.results).split())
    exact = " ".join(printed(place.results, "--test", "exact").split())
    assert "McNemar's exact test" in exact


def test_right_and_wrong_with_one_image_are_compared_exactly_by_mcnemar(place):
    place("a", {"right": [0] * 10 + [1] * 2 + [1] * 8})
    place("b", {"right": [1] * 10 + [0] * 2 + [1] * 8})
    row = place.rows(test="exact")["right", "b"]
    assert row.test == "McNemar"
    assert row.p_value == pytest.approx(scipy_stats.binomtest(10, 12).pvalue)
    assert (row.wins, row.ties, row.losses) == (10, 8, 2)
    assert row.odds == 5


def test_right_and_wrong_with_several_images_are_compared_by_sign_flips_of_whole_prompts(place):
    """Four prompts, all better: 2 of 2^4 flips are as extreme, however many images there are."""
    place("a", {"right": np.zeros((4, 8))}, images=8)
    place("b", {"right": [[1] * 8, [1] * 4 + [0] * 4, [1] * 2 + [0] * 6, [1] + [0] * 7]}, images=8)
    row = place.rows(test="exact")["right", "b"]
    assert row.test == "sign-flip"
    assert row.p_value == pytest.approx(2 / 16)
    assert row.verdict == "no evidence of a difference at this size"


def test_a_mean_of_task_means_weighs_tasks_in_its_test(place):
    """One prompt of task x weighs as much as four of y: only flips that keep it count, and half of
    those of y that sum to 0 or more.
    """
    tasks = ["x", "y", "y", "y", "y"]
    declare = {"right": declared(aggregate="task_mean")}
    place("a", {"right": [0, 0, 0, 1, 1]}, declare, tasks)
    place("b", {"right": [1, 1, 1, 0, 0]}, declare, tasks)
    row = place.rows(test="exact")["right", "b"]
    assert row.difference.value == pytest.approx((1 + 0) / 2)
    # |x + y| >= 1, x = +-1, y in (-4, -2, 0, 2, 4) / 4 with 1, 4, 6, 4, 1 of 16: x and y alike,
    # or y = 0.
    assert row.p_value == pytest.approx((6 + 4 + 1) / 16)
    assert row.test == "sign-flip"


def test_several_seeds_are_compared_by_t_with_their_spread(place):
    place("base", {"right": [0, 1, 0, 1, 1, 0]})
    for seed, values in enumerate(([1, 1, 0, 1, 1, 1], [0, 1, 1, 1, 1, 1])):
        place(f"sft{seed}", {"right": values}, story=story("sft", seed))
    row = place.rows()["right", "sft"]
    assert row.test == "t"
    prompt_differences = np.array([0.5, 0, 0.5, 0, 0, 1])
    seeds = np.var([5 / 6, 5 / 6], ddof=1) / 2
    error = math.sqrt(scipy_stats.sem(prompt_differences) ** 2 + seeds)
    assert row.difference.standard_error == pytest.approx(error)
    assert row.p_value == pytest.approx(row.difference.p_value())


def test_p_values_are_corrected_over_the_metrics_of_a_pair(place):
    rng = np.random.default_rng(1)
    shifts = {"one": 0.2, "two": 0.5, "three": 1.0}
    base = {name: rng.normal(size=20) for name in shifts}
    other = {name: base[name] + rng.normal(shift, 1, 20) for name, shift in shifts.items()}
    place("a", base)
    place("b", other)
    rows = place.rows()
    raw = {m: scipy_stats.ttest_rel(other[m], base[m]).pvalue for m in shifts}
    smallest, middle, largest = sorted(raw, key=raw.get)
    assert rows[smallest, "b"].p_corrected == pytest.approx(3 * raw[smallest])
    expected = max(3 * raw[smallest], min(2 * raw[middle], 1))
    assert rows[middle, "b"].p_corrected == pytest.approx(expected)
    assert rows[largest, "b"].p_corrected == pytest.approx(max(raw[largest], expected))
    assert {row.tests for row in rows.values() if row.difference} == {3}
    assert printed(place.results, "--metric", smallest).count("Holm") == 2, "still for all three"


def test_the_verdict_follows_the_corrected_p_and_says_where_the_interval_does_not(place):
    """p = 0.03 alone is below 5%; among two metrics, the other of which says nothing, it is not."""
    rng = np.random.default_rng(2)
    d = rng.normal(size=20)
    d = (d - d.mean()) / d.std(ddof=1)
    wanted = scipy_stats.t.isf(0.03 / 2, 19) / math.sqrt(20)
    place("a", {"first": np.zeros(20), "second": np.zeros(20)})
    place("b", {"first": d + wanted, "second": d})
    row = place.rows()["first", "b"]
    assert row.p_value == pytest.approx(0.03)
    assert row.p_corrected == pytest.approx(0.06)
    assert row.interval[0] > 0
    assert row.verdict == "no evidence of a difference at this size"
    text = printed(place.results)
    assert "no evidence of a difference at this size †" in text
    assert "† The interval alone would say otherwise" in text
    assert place.rows(level=0.9)["first", "b"].verdict == "better"


def test_less_is_better_turns_verdict_and_wins_but_not_the_difference(place):
    declare = {"error": declared(higher_is_better=False)}
    place("a", {"error": [5.0, 6.0, 7.0, 8.0, 5.5, 9.0]}, declare)
    place("b", {"error": [4.0, 4.8, 6.1, 6.9, 6.0, 7.5]}, declare)
    row = place.rows()["error", "b"]
    assert row.difference.value < 0
    assert row.verdict == "better"
    assert (row.wins, row.losses) == (5, 1)
    assert "error ↓" in printed(place.results)


def test_each_is_compared_with_the_first_that_was_named(place):
    first = place("sft0", {"m": [3.0, 4.0, 5.0, 6.0]}, story=story("sft", 0))
    second = place("base", {"m": [1.0, 2.1, 2.9, 4.0]})
    rows = table_of(first, second)
    assert [row["checkpoint"] for row in rows] == ["sft0", "base"]
    assert float(rows[1]["difference"]) == pytest.approx(-2.0)
    rows = table_of(place.results)
    assert [row["checkpoint"] for row in rows] == ["base", "sft0"], "in a folder, the untrained"


def test_runs_are_named_by_folder_id_or_label(place):
    first = place("alpha", {"m": [3.0, 4.0, 5.5]})
    place("beta", {"m": [1.0, 2.0, 2.5]})
    by_folder = printed(place.results, "--format", "csv")
    results = ("--results", place.results, "--format", "csv")
    assert printed(first.rpartition("-")[2], "beta", *results) == by_folder


# How many prompts


def test_prompts_needed_for_what_was_seen_and_for_what_is_asked(place):
    """d_z = 0.5 takes 34 prompts and 0.2 takes 199, in any table."""
    d = np.random.default_rng(3).normal(size=30)
    d = (d - d.mean()) / d.std(ddof=1)
    place("a", {"m": np.zeros(30)})
    place("b", {"m": d + 0.5})
    row = place.rows(detect=0.2)["m", "b"]
    assert (row.needed, row.detect_prompts) == (34, 199)
    assert math.isnan(row.needed_images), "one image a prompt does not tell what more would do"
    text = " ".join(printed(place.results, "--detect", "0.2").split())
    assert "seeing this takes 34 prompts" in text
    assert "seeing 0.2 takes 199 prompts" in text
    text = " ".join(printed(place.results, "--detect", "2").split())
    assert "30 prompts are enough to see 2" in text


# Intervals


def test_the_bootstrap_is_for_single_seeds_and_says_where_it_is_not_used(place):
    rng = np.random.default_rng(4)
    place("base", {"m": rng.normal(size=25)})
    place("one", {"m": rng.normal(size=25)}, story=story("one", 0))
    for seed in range(2):
        place(f"two{seed}", {"m": rng.normal(size=25)}, story=story("two", seed))
    rows = place.rows(interval="bootstrap")
    plain = place.rows()
    assert rows["m", "one"].interval_by == rows["m", "base"].value_interval_by == "bootstrap"
    assert rows["m", "one"].interval != plain["m", "one"].interval
    assert rows["m", "one"].interval == pytest.approx(plain["m", "one"].interval, abs=0.15)
    assert rows["m", "two"].interval_by == "analytic"
    assert rows["m", "two"].interval == plain["m", "two"].interval
    text = " ".join(printed(place.results, "--interval", "bootstrap").split())
    assert "by the cluster bootstrap (by t where there are several training seeds)" in text
    assert "One training seed only: one." in text


@pytest.mark.parametrize(
    ("a", "b", "words", "difference"),
    [
        ([1.0], [2.0], "too few prompts or seeds to tell", 1.0),
        ([[1, 1, 0, 0]], [[1, 1, 1, 1]], "too few prompts or seeds to tell", 0.5),
        ([NAN, NAN], [1.0, 2.0], "nothing in common to compare", None),
        ([NAN, NAN], [NAN, NAN], "nothing in common to compare", None),
        ([1.0, NAN], [NAN, 1.0], "nothing in common to compare", None),
        ([1.0, 2.0, NAN], [1.0, 2.0, 3.0], "equal on every prompt", 0.0),
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], "equal on every prompt", 0.0),
        ([0.1, 0.2, 0.3], [0.6, 0.7, 0.8], "no evidence of a difference at this size", 0.5),
        ([0.0] * 10, [0.5] * 10, "better", 0.5),
    ],
    ids=[
        "one prompt", "one prompt of several images", "one side unscored", "nothing scored",
        "no prompt that both scored", "equal, one unscored", "constant", "a constant difference",
        "a constant difference of ten",
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_said_in_words_without_a_misleading_number(
    place, a, b, words, difference
):
    images = np.ndim(a) and np.shape(a)[-1] if np.ndim(a) == 2 else 1
    place("a", {"m": a}, images=images)
    place("b", {"m": b}, images=images)
    row = place.rows()["m", "b"]
    assert row.verdict == words
    assert all(map(math.isnan, row.interval))
    text = printed(place.results)
    assert words in text
    for number in ("nan", "inf", "± 0.000", "[+"):
        assert number not in text.lower()
    (_, data) = table_of(place.results)
    written = data["difference"]
    assert written == "" if difference is None else float(written) == pytest.approx(difference)
    assert (data["difference_low"], data["difference_high"]) == ("", "")
    assert "NaN" not in printed(place.results, "--format", "json")


def test_unscored_is_counted_beside_the_mean(place):
    place("a", {"m": [1.0, NAN, 3.0, 2.0]})
    place("b", {"m": [1.5, 2.0, 3.1, NAN]})
    row = place.rows()["m", "b"]
    assert row.value.unscored == 1
    assert row.difference.prompts == 2
    assert "n 3 (+1 unscored)" in printed(place.results)


@pytest.mark.parametrize(
    ("b", "words"),
    [
        ([1, 0, 1, 0], "equal on every prompt"),
        ([1, 1, 1, 0], "too few prompts or seeds to tell: a task has one prompt only"),
    ],
)
def test_a_task_with_one_prompt_is_not_called_too_few_prompts(place, b, words):
    """Tasks of 2, 1 and 1 prompts have no standard error; that nothing differs is seen anyway."""
    declare, tasks = {"m": declared(aggregate="task_mean")}, ["x", "x", "y", "z"]
    place("a", {"m": [1, 0, 1, 0]}, declare, tasks)
    place("b", {"m": b}, declare, tasks)
    row = place.rows()["m", "b"]
    assert row.verdict == words
    assert all(map(math.isnan, (*row.interval, row.p_value)))

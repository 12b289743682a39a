"""Figures and ranks of a whole board against one pair at a time and scipy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from stats_of_frames import pair_of

from soar_bench.stats import (
    Layout,
    ScoreTable,
    over_seeds,
    rank_ranges,
)


def grid(values, seed=0, tasks=1, images=2):
    """A frame of one metric: prompts of each task in turn, ``images`` of each."""
    prompts = len(values) // images
    return pd.DataFrame(
        {
            "prompt_id": np.repeat([f"p{i:03d}" for i in range(prompts)], images),
            "index": np.tile(np.arange(images), prompts),
            "task": np.repeat([f"t{i % tasks}" for i in range(prompts)], images),
            "metric": "m",
            "value": values,
        }
    )


def column_of(sides, aggregate):
    """The leaderboard's column of entrants, each a list of its seeds' frames."""
    frames = [frame for side in sides for frame in side]
    order = frames[0].sort_values(["task", "prompt_id", "index"]).index
    tasks, prompts = (pd.factorize(frames[0].loc[order, c])[0] for c in ("task", "prompt_id"))
    owner = np.repeat(np.arange(len(sides)), [len(side) for side in sides])
    values = np.array([frame.loc[order, "value"] for frame in frames])
    return ScoreTable(Layout.of(tasks, prompts, aggregate == "task_mean"), values, owner)


@pytest.mark.parametrize("aggregate", ["mean", "task_mean"])
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_a_whole_board_has_the_figures_of_one_pair_at_a_time(aggregate, missing):
    rng = np.random.default_rng(7)
    hard = np.repeat(rng.random(40), 2)

    def run(skill):
        values = (rng.random(80) < hard * skill).astype(float)
        return grid(np.where(rng.random(80) < missing, np.nan, values), tasks=3)

    sides = [[run(0.5)], [run(0.9) for _ in range(3)], [run(0.6) for _ in range(2)], [run(1.0)]]
    column = column_of(sides, aggregate)
    own = column.own
    for i, side in enumerate(sides):
        expected = over_seeds(side, aggregate)
        assert own.value[i] == pytest.approx(expected.value)
        assert own.standard_error[i] == pytest.approx(expected.standard_error)
        assert (own.interval()[0][i], own.interval()[1][i]) == pytest.approx(expected.interval())
        assert (own.scored[i], column.unscored[i]) == (expected.scored, expected.unscored)
    for base, others, differences in column.pairs(range(4)):
        p_values = column.p_values(base, others, differences)
        for j, other in enumerate(others):
            expected = pair_of(sides[other], sides[base], aggregate).difference
            assert differences.value[j] == pytest.approx(expected.value)
            assert p_values[j] == pytest.approx(expected.p_value())
            assert differences.scored[j] == expected.scored
            assert column.unpaired(base, others)[j] == expected.unscored


def test_ranks_are_those_of_every_paired_t_test_with_holms_correction():
    """Against scipy's paired t-test and Holm's steps by hand."""
    rng = np.random.default_rng(8)
    hard = rng.normal(size=60)
    means = [0.0, 0.02, 0.25, 0.3, 0.8]
    values = [mean + hard + rng.normal(scale=0.4, size=60) for mean in means]
    ranges = rank_ranges(column_of([[grid(v, images=1)] for v in values], "mean"), True)
    pairs = [(i, j) for i in range(5) for j in range(i)]
    p = {pair: scipy_stats.ttest_rel(values[pair[0]], values[pair[1]]).pvalue for pair in pairs}
    significant = []
    for step, pair in enumerate(sorted(pairs, key=p.get)):
        if p[pair] > 0.05 / (len(pairs) - step):
            break
        significant.append(pair)
    assert 2 < len(significant) < len(pairs), "a case in which some ranks are open"
    for i in range(5):
        beaten_by = beats = 0
        for a, b in significant:
            winner = a if values[a].mean() > values[b].mean() else b
            beats += winner == i
            beaten_by += i in (a, b) and winner != i
        assert ranges[i] == (1 + beaten_by, 5 - beats)


def test_lower_is_better_turns_ranks_around():
    rng = np.random.default_rng(1)
    good, bad = rng.normal(size=50), rng.normal(size=50) + 3
    column = column_of([[grid(good, images=1)], [grid(bad, images=1)]], "mean")
    assert rank_ranges(column, False) == {0: (1, 1), 1: (2, 2)}
    assert rank_ranges(column, True) == {0: (2, 2), 1: (1, 1)}


def test_a_difference_that_never_varies_is_tested_by_its_signs():
    """All of six prompts differ by 1: two of 64 sign patterns are as far from 0; of ten, 2/1024."""
    for prompts, p in ((6, 2 / 64), (10, 2 / 1024)):
        sides = [[grid(np.full(prompts, v), images=1)] for v in (0.0, 1.0)]
        table = column_of(sides, "mean")
        (base, others, differences), *_ = table.pairs([0, 1])
        assert table.p_values(base, others, differences).tolist() == [p]
        assert all(np.isnan(end).all() for end in differences.interval())

"""Intervals cover and tests err as often as they say, on simulated boards of right and wrong images
whose prompts are easy or hard for all.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.stats import skew as special_skew
from scipy.stats import t as student
from stats_of_frames import bootstrap_interval, pair_of, sign_flip_p

from soar_bench.stats import (
    Layout,
    ScoreTable,
    estimate,
    interval_of,
    sign_flip,
)

#: prompts of each task and the share of images that are right
PLAIN = ([60], [0.6])
TASKS = ([18, 40, 40, 40, 40, 40], [0.97, 0.8, 0.45, 0.9, 0.25, 0.3])


class Boards:
    """Draws the scores of a board again and again."""

    def __init__(self, board, images, seed):
        sizes, self.means = board
        self.rng = np.random.default_rng(seed)
        self.truth = float(np.mean(self.means))
        self.shares = np.repeat(self.means, sizes)
        self.images = images
        count = sum(sizes)
        self.prompts = np.repeat(np.arange(count), images)
        self.tasks = np.repeat(np.repeat(np.arange(len(sizes)), sizes), images)
        self.index = np.tile(np.arange(images), count)

    def difficulty(self):
        """How likely each prompt's images are right: beta with the task's mean."""
        return self.rng.beta(3 * self.shares, 3 * (1 - self.shares))

    def run(self, chances):
        values = self.rng.random(len(self.prompts)) < np.repeat(chances, self.images)
        return pd.DataFrame(
            {
                "prompt_id": self.prompts,
                "task": self.tasks,
                "index": self.index,
                "value": values.astype(float),
            }
        )


BOARDS = pytest.mark.parametrize(
    ("board", "aggregate"), [(PLAIN, "mean"), (TASKS, "task_mean")], ids=["mean", "task_mean"]
)
IMAGES = pytest.mark.parametrize("images", [1, 4])


@BOARDS
@IMAGES
def test_intervals_cover_as_often_as_they_say(board, aggregate, images):
    boards = Boards(board, images, seed=20)
    hits = {"t": 0, "bootstrap": 0}
    for _ in range(1500):
        scores = boards.run(boards.difficulty())
        for kind, (low, high) in (
            ("t", estimate(scores, aggregate).interval()),
            ("bootstrap", bootstrap_interval(scores, aggregate, draws=1000)),
        ):
            hits[kind] += low <= boards.truth <= high
    for kind, count in hits.items():
        assert 0.93 <= count / 1500 <= 0.97, kind


@BOARDS
@IMAGES
def test_paired_intervals_cover_and_paired_tests_err_as_often_as_they_say(board, aggregate, images):
    """Two checkpoints that are alike: they share the prompts' difficulty and nothing else."""
    boards = Boards(board, images, seed=21)
    covered = {"t": 0, "bootstrap": 0}
    positive = {"t": 0, "sign-flip": 0}
    for _ in range(800):
        difficulty = boards.difficulty()
        sides = [[boards.run(difficulty)] for _ in range(2)]
        pair = pair_of(*sides, aggregate)
        difference = pair.difference
        for kind, (low, high) in (
            ("t", difference.interval()),
            ("bootstrap", interval_of(pair.clusters, difference, draws=1000)),
        ):
            covered[kind] += low <= 0 <= high
        positive["t"] += difference.p_value() < 0.05
        positive["sign-flip"] += sign_flip(pair.clusters)[0] < 0.05
    for kind, count in covered.items():
        assert 0.93 <= count / 800 <= 0.97, kind
    assert 0.03 <= positive["t"] / 800 <= 0.07
    # An exact test of whole numbers keeps below the level: its p-values are a few values only.
    assert positive["sign-flip"] / 800 <= 0.065


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize("spread", [0.0, 0.05])
def test_with_several_training_seeds_the_paired_test_errs_at_most_as_often_as_it_says(
    seeds, spread
):
    """Seeds shift all prompts of a run by a normal of deviation ``spread``."""
    boards = Boards(([80], [0.6]), 2, seed=22)
    positive = covered = 0
    for _ in range(300):
        difficulty = np.clip(boards.difficulty(), 0.15, 0.85)
        sides = [
            [
                boards.run(np.clip(difficulty + boards.rng.normal(scale=spread), 0, 1))
                for _ in range(seeds)
            ]
            for _ in range(2)
        ]
        difference = pair_of(*sides).difference
        low, high = difference.interval()
        covered += low <= 0 <= high
        positive += difference.p_value() < 0.05
    assert positive / 300 <= 0.075
    assert covered / 300 >= 0.925


def test_flipping_prompts_alone_would_find_seeds_that_differ_by_chance():
    """Why several seeds are tested by t: the same data, each side's seeds averaged, and the flips
    take luck with the seeds for a difference.
    """
    boards = Boards(([80], [0.6]), 2, seed=23)
    wrong = right = 0
    for _ in range(150):
        difficulty = np.clip(boards.difficulty(), 0.2, 0.8)
        sides = [
            [boards.run(np.clip(difficulty + boards.rng.normal(scale=0.1), 0, 1)) for _ in range(3)]
            for _ in range(2)
        ]
        averaged = [
            [runs[0].assign(value=np.mean([run["value"] for run in runs], axis=0))]
            for runs in sides
        ]
        wrong += sign_flip_p(*averaged, draws=999) < 0.05
        right += pair_of(*sides).difference.p_value() < 0.05
    assert wrong / 150 > 0.2
    assert right / 150 <= 0.09


def test_intervals_of_skewed_scores_cover_where_t_covers_too_little():
    """Exponential values, 20 prompts: t holds the mean in 92%."""
    values = np.random.default_rng(25).exponential(size=(1500, 20))
    layout = Layout.of(np.zeros(20, int), np.arange(20), False)
    owner = np.arange(1500)
    shares = []
    for skewed in (False, True):
        low, high = ScoreTable(layout, values, owner, skewed=skewed).own.interval()
        shares.append(((low <= 1) & (high >= 1)).mean())
    assert shares[0] < 0.925 and 0.925 <= shares[1] <= 0.97


def test_the_correction_for_skewness_is_halls_and_none_where_there_is_none():
    """Solved for t instead of by the formula's inverse; one row and many have the same."""
    values = np.array([0.1, 0.2, 0.2, 0.4, 0.5, 3.0])
    frame = pd.DataFrame({"task": "", "prompt_id": list("abcdef"), "index": 0, "value": values})
    skewed, plain = estimate(frame, skewed=True), estimate(frame)
    a = special_skew(values) / np.sqrt(6)
    q = student.ppf(0.975, 5)

    def of(t, quantile):
        return t + a / 6 + a * t**2 / 3 + a**2 * t**3 / 27 - quantile

    low, high = (brentq(of, -50, 50, (quantile,)) for quantile in (-q, q))
    ends = values.mean() - skewed.standard_error * np.array([high, low])
    assert skewed.interval() == pytest.approx(ends)
    assert skewed.interval()[1] > plain.interval()[1]
    layout = Layout.of(np.zeros(6, int), np.arange(6), False)
    rows = ScoreTable(layout, np.stack([values, values[::-1]]), np.arange(2), skewed=True).own
    assert np.ravel(rows.interval()) == pytest.approx(np.repeat(ends, 2))
    even = frame.assign(value=[1.0, 2, 3, 4, 5, 6])
    same = estimate(even, skewed=True).interval()
    assert same == pytest.approx(estimate(even).interval(), rel=1e-5)
    assert np.isnan(estimate(frame.assign(value=1.5), skewed=True).interval()).all()

"""How often 95% intervals of set-level metrics hold the truth: a table of docs/statistics.md.

    python benchmarks/coverage_sets.py

KID: prompts of two images that share a part of their features, against 150 reference rows; the
truth from the features' moments. Diversity: prompts of four images that scatter by a factor of
their own.
The t interval is written here once more; the other is that of soar_bench.stats.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from scipy import stats

from evaluators.sets.figures import cubic, unbiased_mmd
from soar_bench.core.markdown import table
from soar_bench.stats import estimate

#: name, prompts, features, shift of the run's mean, whether negative features are cut to 0
KIDS = (
    ("KID, 4 normal features, far", 50, 4, 0.4, False),
    ("KID, 4 normal features, far", 200, 4, 0.4, False),
    ("KID, 64 normal features, far", 50, 64, 0.4, False),
    ("KID, 64 features cut at 0, far", 50, 64, 0.4, True),
    ("KID, 64 features cut at 0, near", 50, 64, 0.1, True),
    ("KID, 64 features cut at 0, near", 200, 64, 0.1, True),
)
#: prompts of the mean pairwise distance
DISTANCES = (20, 30, 50, 100)


def images(generator, prompts, features, shift, cut):
    """Features of two images per prompt, [2 prompts, features]."""
    shared = np.repeat(generator.normal(shift, 0.7, (prompts, features)), 2, axis=0)
    rows = shared + generator.normal(0, 0.7, shared.shape)
    return np.maximum(rows, 0) if cut else rows


def moments(shift, cut):
    """First three moments of a feature, and of its product in two images of a prompt, [3] each."""
    grid = np.linspace(-8, 8, 3001)
    weights = stats.norm.pdf(grid) / stats.norm.pdf(grid).sum()
    values = shift + 0.7 * (grid[:, None] + grid)  # what the prompt's images share, their own part
    values = np.maximum(values, 0) if cut else values
    given = np.array([values**k @ weights for k in (1, 2, 3)])
    return given @ weights, given**2 @ weights


def mean_of_cube(first, second, third, features):
    """Mean of KID's kernel, whose sum has independent terms of these moments, [..., features]."""
    mean = 1 + first.sum(-1) / features
    variance = (second - first**2).sum(-1) / features**2
    cube = (third - 3 * first * second + 2 * first**3).sum(-1) / features**3
    return mean**3 + 3 * mean * variance + cube


def kid_boards(generator, boards, prompts, features, shift, cut):
    """Yield the rows of boards with what their mean is of, exactly."""
    reference = generator.normal(size=(150, features))
    reference = np.maximum(reference, 0) if cut else reference
    feature, product = moments(shift, cut)
    alike = np.ones(features)
    apart = mean_of_cube(*(moment**2 * alike for moment in feature), features)
    within = mean_of_cube(*(moment * alike for moment in product), features)
    powers = (moment * reference**k for k, moment in enumerate(feature, start=1))
    cross = mean_of_cube(*powers, features).mean()
    kernel = cubic(reference, reference)
    own = (kernel.sum() - np.trace(kernel)) / (150 * 149)
    inside = ((2 * prompts - 2) * apart + within) / (2 * prompts - 1)
    truth = inside + own - 2 * cross
    for _ in range(boards):
        run = images(generator, prompts, features, shift, cut)
        yield unbiased_mmd(run, reference, cubic).reshape(prompts, 2), truth


def distance_boards(generator, boards, prompts):
    """Yield values of prompts whose four images scatter by a factor with mean 1."""
    for _ in range(boards):
        spreads = generator.gamma(4, 1 / 4, prompts)
        yield np.tile(generator.chisquare(18, prompts) / 3 * spreads, (4, 1)).T, 6.0


def row_of(name, prompts, boards):
    """Return the shares of the boards whose intervals hold the truth, by t and by ours."""
    held = []
    index = {"task": "", "prompt_id": np.arange(prompts).astype(str)}
    for values, truth in boards:
        means = values.mean(1)
        half = stats.t.ppf(0.975, prompts - 1) * stats.sem(means)
        frame = pd.DataFrame({**index, "index": 0, "value": means})
        low, high = estimate(frame, skewed=True).interval()
        held.append((abs(means.mean() - truth) <= half, low <= truth <= high))
    shares = 100 * np.mean(held, axis=0)
    return [name, str(prompts), *(f"{share:.1f}" for share in shares)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boards", type=int, default=2000)
    boards = parser.parse_args().boards
    generator = np.random.default_rng(7)
    rows = [
        row_of(name, prompts, kid_boards(generator, boards, prompts, *settings))
        for name, prompts, *settings in KIDS
    ]
    rows += [
        row_of("mean pairwise distance", prompts, distance_boards(generator, boards, prompts))
        for prompts in DISTANCES
    ]
    print(table(["figure", "prompts", "t", "corrected for skewness"], rows, right=range(1, 4)))


if __name__ == "__main__":
    main()

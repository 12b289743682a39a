"""How often 95% intervals hold the truth, by how they are made: the table of docs/statistics.md.

    python benchmarks/coverage.py

Boards of right and wrong images are drawn whose prompts are easy or hard (beta by task). The
formulas are written here once more, for many boards at once and apart from soar_bench.stats.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy import stats

from soar_bench.core.markdown import table

GENEVAL = ([80, 99, 80, 94, 100, 100], [0.98, 0.8, 0.45, 0.85, 0.25, 0.3])
SHAPES = ([18, 40, 40, 40, 40, 40], [0.97, 0.8, 0.45, 0.9, 0.25, 0.3])
#: name, prompts of each task, share of images that are right in each, whether it is a difference
BOARDS = (
    ("mean of 30 prompts, 60% right", [30], [0.6], False),
    ("mean of 60 prompts, 60% right", [60], [0.6], False),
    ("mean of 60 prompts, 90% right", [60], [0.9], False),
    ("mean of 218 prompts, 60% right", [218], [0.6], False),
    ("task mean, 6 tasks of 10 prompts", [10] * 6, GENEVAL[1], False),
    ("task mean, the embedded world", *SHAPES, False),
    ("task mean, GenEval", *GENEVAL, False),
    ("paired difference of means, 30 prompts", [30], [0.6], True),
    ("paired difference of task means, the embedded world", *SHAPES, True),
)


def prompt_means(generator, prompts, share, images, boards, paired):
    """Of one task, what the figure is a mean of, [boards, prompts]."""
    difficulty = generator.beta(3 * share, 3 * (1 - share), size=(boards, prompts))
    right = generator.binomial(images, difficulty)
    if paired:
        right = right - generator.binomial(images, difficulty)
    return right / images


def intervals(tasks, generator, draws):
    """(low, high) of every board, [boards] each, by kind; and whether a board varies at all."""
    sizes = [task.shape[1] for task in tasks]
    variances = [task.var(axis=1, ddof=1) / n for task, n in zip(tasks, sizes, strict=True)]
    value = np.mean([task.mean(axis=1) for task in tasks], axis=0)
    error = np.sqrt(sum(variances)) / len(tasks)
    varies = error > 0
    below = sum(v**2 / (n - 1) for v, n in zip(variances, sizes, strict=True))
    freedom = np.where(varies, sum(variances) ** 2 / np.where(varies, below, 1), 1)
    t = stats.t.ppf(0.975, freedom)

    resamples = np.zeros((draws, len(value)))
    for task, n in zip(tasks, sizes, strict=True):
        resamples += generator.multinomial(n, np.full(n, 1 / n), size=draws) / n @ task.T
    resamples = np.sort(resamples / len(tasks), axis=0)
    inside = np.sqrt(sum(v * (n - 1) / n for v, n in zip(variances, sizes, strict=True)))
    stretch = t * error / np.where(varies, inside / len(tasks), 1)

    share = (resamples < value - 1e-12).mean(axis=0)
    share += (np.abs(resamples - value) <= 1e-12).mean(axis=0) / 2
    shift = stats.norm.ppf(np.clip(share, 1 / draws, 1 - 1 / draws))
    parts = [(task - task.mean(axis=1, keepdims=True)) / task.shape[1] for task in tasks]
    cubes, squares = (sum((part**k).sum(axis=1) for part in parts) for k in (3, 2))
    bend = cubes / (6 * np.where(varies, squares, 1) ** 1.5)

    def quantile(share):
        place = np.clip(share * (draws + 1) - 1, 0, draws - 1)
        return resamples[np.round(place).astype(int), np.arange(len(value))]

    def bca(z):
        return quantile(stats.norm.cdf(shift + (shift + z) / (1 - bend * (shift + z))))

    z = stats.norm.ppf(0.975)
    return {
        "t": (value - t * error, value + t * error),
        "percentile": (quantile(np.full(len(value), 0.025)), quantile(np.full(len(value), 0.975))),
        "expanded": (quantile(stats.norm.cdf(-stretch)), quantile(stats.norm.cdf(stretch))),
        "BCa": (bca(-z), bca(z)),
    }, varies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boards", type=int, default=4000)
    parser.add_argument("--draws", type=int, default=2000)
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    kinds = ("t", "percentile", "expanded", "BCa")
    rows = []
    for images in (1, 4):
        for name, sizes, shares, paired in BOARDS:
            truth = 0.0 if paired else float(np.mean(shares))
            tasks = [
                prompt_means(generator, n, share, images, options.boards, paired)
                for n, share in zip(sizes, shares, strict=True)
            ]
            found, varies = intervals(tasks, generator, options.draws)
            cells = []
            for kind in kinds:
                low, high = found[kind]
                held = (low - 1e-12 <= truth) & (truth <= high + 1e-12)
                cells.append(f"{100 * held[varies].mean():.1f}")
            rows.append([name, str(images), *cells])
    print(table(["figure", "images per prompt", *kinds], rows, right=range(1, 6)))


if __name__ == "__main__":
    main()

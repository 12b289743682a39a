"""How often 95% intervals of shares hold the truth: the second table of docs/statistics.md.

    python benchmarks/coverage_shares.py

Boards of right and wrong images are drawn, four of each prompt. ``correlation`` is that of two
images of a prompt: prompts are easy or hard by a beta distribution, or, ``copied``, some images are
right exactly where their prompt is. The intervals are those of every page.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from scipy import special

from soar_bench.core.markdown import table
from soar_bench.stats import Layout, ScoreTable

IMAGES = 4
#: prompts of each task
GENEVAL = (80, 99, 80, 94, 100, 100)
SIZES: tuple[Sequence[int], ...] = ((20,), (80,), (100,), (553,), GENEVAL)
SHARES = (0.5, 0.9, 0.97, 0.99)
CORRELATIONS = (0.0, 0.3, 0.7)


def drawn(
    generator: np.random.Generator,
    boards: int,
    prompts: int,
    share: float,
    correlation: float,
    copied: bool = False,
) -> np.ndarray:
    """Return right (1) and wrong (0) images, [boards, prompts * IMAGES]."""
    shape = (boards, prompts, 1)
    if copied:
        own = generator.random((boards, prompts, IMAGES)) < share
        copies = generator.random(own.shape) < correlation**0.5
        right = np.where(copies, generator.random(shape) < share, own)
    else:
        size = 1 / correlation - 1 if correlation else np.inf
        chance = (
            generator.beta(share * size, (1 - share) * size, shape)
            if correlation
            else np.full(shape, share)
        )
        right = generator.random((boards, prompts, IMAGES)) < chance
    return right.reshape(boards, -1).astype(float)


def coverage(
    generator: np.random.Generator,
    boards: int,
    sizes: Sequence[int],
    shares: Sequence[float],
    correlation: float,
    copied: bool = False,
) -> tuple[float, float]:
    """Return the shares of boards whose t and Wilson interval of the mean of the tasks' means hold
    the truth, from prompts and true share of each task.
    """
    parts = [
        drawn(generator, boards, prompts, share, correlation, copied)
        for prompts, share in zip(sizes, shares, strict=True)
    ]
    tasks = np.repeat(np.arange(len(sizes)), np.array(sizes) * IMAGES)
    layout = Layout.of(tasks, np.arange(len(tasks)) // IMAGES, True)
    own = ScoreTable(layout, np.concatenate(parts, axis=1), np.arange(boards)).own
    half = special.stdtrit(own.freedom, 0.975) * own.standard_error
    truth = float(np.mean(shares))
    held = []
    for low, high in ((own.value - half, own.value + half), own.interval()):
        held.append(float(((low - 1e-12 <= truth) & (truth <= high + 1e-12)).mean()))
    return held[0], held[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boards", type=int, default=4000)
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    rows = []
    for sizes in SIZES:
        name = "GenEval's six tasks" if sizes is GENEVAL else f"{sizes[0]} prompts"
        for correlation in CORRELATIONS:
            cells = []
            for share in SHARES:
                t, wilson = coverage(
                    generator, options.boards, sizes, [share] * len(sizes), correlation
                )
                cells.append(f"{100 * t:.1f} / {100 * wilson:.1f}")
            rows.append([name, f"{correlation:g}", *cells])
    header = ["four images each", "correlation", *(f"{100 * s:g}% right" for s in SHARES)]
    print(table(header, rows, right=range(1, 6)))


if __name__ == "__main__":
    main()

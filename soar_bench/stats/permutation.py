"""Exact tests of paired scores: sign flips by prompt, and McNemar's test.

If both checkpoints are alike, each prompt's difference is as likely as its negative. p is the share
of all 2^n flips of n prompts' differences in which the metric differs at least as much, in either
direction (Fisher 1935; Good, Permutation, Parametric and Bootstrap Tests of Hypotheses, 3rd ed.,
section 3.2). Prompts are flipped whole; in a mean of task means each has its task's weight.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from soar_bench.stats.layout import Clusters

DRAWS = 99_999
#: As many sums are held in memory at most for an exact test.
_MOST = 1 << 21
#: Sums that differ by less of the greatest possible one are equal.
_TIE = 1e-12
_CHUNK = 4_096


def sign_flip(
    differences: Clusters | None, draws: int = DRAWS, seed: int = 0
) -> tuple[float, bool]:
    """Return the two-sided p-value of the sign-flip test and whether it is exact.

    Exact for whole-number scores such as right and wrong, for differences of one sign, and for any
    scores on a few prompts; otherwise from ``draws`` random flips, (as extreme + 1) / (draws + 1),
    which is never too small (Phipson and Smyth 2010, doi 10.2202/1544-6115.1585). NaN for less than
    two prompts. With one image per prompt, right and wrong, and one stratum this is McNemar's exact
    test (McNemar 1947, Psychometrika 12:153).
    """
    if differences is None or len(differences.sums) < 2:
        return math.nan, True
    sums, weight = differences.sums, differences.weight
    images = (differences.by_stratum(differences.counts) / weight)[differences.strata]
    weighted = sums / images / weight.sum()  # what each prompt adds to the metric
    moved = weighted[weighted != 0]
    if len(moved) and ((moved > 0).all() or (moved < 0).all()):
        return 2.0 ** (1 - len(moved)), True  # only flipping none or all is as extreme
    bound = abs(float(weighted.sum())) - _TIE * float(np.abs(weighted).sum())
    if bound <= 0:
        return 1.0, True
    exact = _exact(sums, images, bound * float(weight.sum()))
    if exact is not None:
        return min(exact, 1.0), True
    return _drawn(weighted, bound, draws, seed), False


def _exact(sums: np.ndarray, images: np.ndarray, bound: float) -> float | None:
    """Return the share of all flips of ``sums``, [prompts], for which the sum of sums / images is
    ``bound`` or more away from 0; None where there are too many.

    The distribution is computed apart for prompts whose tasks have equally many images, by adding
    prompt after prompt; then all combinations of two halves of these parts are counted.
    """
    parts = []
    for count in np.unique(images[sums != 0]):
        of_count = sums[(images == count) & (sums != 0)]
        part = _of_whole_numbers(of_count) if (of_count % 1 == 0).all() else _of_any(of_count)
        if part is None:
            return None
        parts.append((part[0] / count, part[1]))
    # Halves of about the same size, greatest parts first.
    halves: list[tuple[np.ndarray, np.ndarray]] = [(np.zeros(1), np.ones(1)) for _ in range(2)]
    for part in sorted(parts, key=lambda part: -len(part[0])):
        halves.sort(key=lambda half: len(half[0]))
        if len(halves[0][0]) * len(part[0]) > _MOST:
            return None
        (sums, shares), (values, weights) = halves[0], part
        halves[0] = (sums[:, None] + values).ravel(), (shares[:, None] * weights).ravel()
    (small, small_shares), (large, large_shares) = halves
    order = np.argsort(large)
    above = np.concatenate([np.cumsum(large_shares[order][::-1])[::-1], [0.0]])
    upper = above[np.searchsorted(large[order], bound - small)]
    return float(2 * (small_shares * upper).sum())  # the distribution is symmetric


def _of_whole_numbers(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the totals of all flips of ``sums``, whole numbers other than 0, and their shares: one
    convolution per prompt.
    """
    sizes = np.abs(sums).astype(np.int64)
    most = int(sizes.sum())
    if most > _MOST or most * len(sizes) > 100 * _MOST:
        return None
    shares = np.zeros(most + 1)  # of the sum of those that are positive
    shares[0] = 1
    reached = 0
    for size in sizes:
        reached += size
        moved = np.zeros(reached + 1)
        moved[: reached - size + 1] = shares[: reached - size + 1] / 2
        moved[size:] += shares[: reached - size + 1] / 2
        shares[: reached + 1] = moved
    possible = np.flatnonzero(shares)
    return (2.0 * possible - most), shares[possible]


def _of_any(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the same for any numbers, by listing all flips."""
    if 2 ** len(sums) > _MOST // 16:
        return None
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(sums))))
    return signs @ sums, np.full(len(signs), 1 / len(signs))


def _drawn(weighted: np.ndarray, bound: float, draws: int, seed: int) -> float:
    """Return the p-value from random flips."""
    generator = np.random.default_rng(seed)
    weighted = weighted[weighted != 0]
    extreme = 0
    for start in range(0, draws, _CHUNK):
        size = (min(_CHUNK, draws - start), len(weighted))
        signs = 2.0 * generator.integers(0, 2, size, dtype=np.int8) - 1
        extreme += int((np.abs(signs @ weighted) >= bound).sum())
    return (extreme + 1) / (draws + 1)

"""Figures of a run against a reference set, from two arrays of features. Pure NumPy.

Each function returns one number per row of the run, [N], whose mean is the figure: the figure plus
the row's influence on it. The influences add up to 0, and their spread is the jackknife's, so the
standard error of the mean is that of the figure (Efron and Stein, Annals of Statistics 9:586,
1981). The reference set is taken as it is: its own sampling error is not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

#: Numbers of a kernel or of distances that are computed at once: 32 MB of float64.
_AT_ONCE = 2**22
#: Kernel of two arrays of rows, [A, D] and [B, D], as [A, B].
Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]

#: Neighbour whose distance is a ball's radius (Naeem et al., arXiv 2002.09797).
NEIGHBOUR = 5


def frechet(run: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the Frechet distance of two Gaussians (FID: Heusel et al., arXiv 1706.08500).

    ``|m - r|^2 + tr(S + R - 2 (S R)^(1/2))`` of means m, r and covariances S, R with divisor N - 1.
    The square root is that of ``A S A`` with ``A = R^(1/2)``, which has the same eigenvalues.
    """
    return _frechet(run.astype(np.float64), *_mean_and_root(reference))


def frechet_infinity(run: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the Frechet distance of a run of any number of rows like these (FID-infinity: Chong
    and Forsyth, arXiv 1911.07023): the straight line through the distances of N rows over 1 / N, at
    1 / N = 0.

    The numbers of rows are N / 2, 2N / 3, 3N / 4 and N. A distance of fewer rows is the mean over
    leaving out each half, third or quarter in turn, so that all rows have the same part in it and
    the influences are those of the distance of all. A fixed seed draws the parts, whatever the
    order of the rows.
    """
    x, (mean, root) = run.astype(np.float64), _mean_and_root(reference)
    rows = _frechet(x, mean, root)
    by_content = np.lexsort(x.T)
    drawn = x[by_content[np.random.default_rng(0).permutation(len(x))]]
    sizes, distances = [float(len(x))], [rows.mean()]
    for parts in (2, 3, 4):
        part = np.arange(len(x)) * parts // len(x)
        left = [drawn[part != i] for i in range(parts)]
        sizes.append(len(x) * (1 - 1 / parts))
        distances.append(np.mean([_frechet(rest, mean, root).mean() for rest in left]))
    _, at_zero = np.polyfit(1 / np.array(sizes), distances, 1)
    return rows - distances[0] + at_zero


def _mean_and_root(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of rows and the square root of their covariance."""
    x = rows.astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(x, rowvar=False))
    return x.mean(0), (vectors * np.sqrt(values.clip(0))) @ vectors.T


def _frechet(x: np.ndarray, reference_mean: np.ndarray, root: np.ndarray) -> np.ndarray:
    mean = x.mean(0)
    s, r = np.cov(x, rowvar=False), np.square(root).sum()
    shift, deviations = mean - reference_mean, x - mean
    values, vectors = np.linalg.eigh(root @ s @ root)
    values = values.clip(0)
    figure = shift @ shift + np.trace(s) + r - 2 * np.sqrt(values).sum()
    # d tr (A S A)^(1/2) = tr(T dS) / 2 with T = A (A S A)^(-1/2) A, where the root has a slope
    kept = values > values.max(initial=0.0) * 1e-10
    slope = root @ vectors[:, kept]
    t = (slope / np.sqrt(values[kept])) @ slope.T
    squares = (deviations**2).sum(1) - np.einsum("nd,nd->n", deviations @ t, deviations)
    change = squares * len(x) / (len(x) - 1) - (np.trace(s) - np.sum(t * s))
    return figure + 2 * deviations @ shift + change


def cubic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return KID's kernel ``(x y / D + 1)^3`` (Binkowski et al., arXiv 1801.01401)."""
    kernel: np.ndarray = (x @ y.T / x.shape[1] + 1) ** 3
    return kernel


def gaussian(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return CMMD's kernel ``exp(-|x - y|^2 / (2 * 10^2))`` (Jayasumana et al., 2401.09603)."""
    return np.exp(-squared_distances(x, y) / 200)


def unbiased_mmd(run: np.ndarray, reference: np.ndarray, kernel: Kernel) -> np.ndarray:
    """Return the squared maximum mean discrepancy without bias, as the jackknife's pseudo-values,
    of three rows or more.
    """
    x, y = run.astype(np.float64), reference.astype(np.float64)
    n, m = len(x), len(y)
    own, cross = _row_sums(x, x, kernel, without_self=True), _row_sums(x, y, kernel)
    total = own.sum()
    inside = total / (n - 1) - (total - 2 * own) / (n - 2)
    reference_part = _row_sums(y, y, kernel, without_self=True).sum() / (m * (m - 1))
    return inside + reference_part - 2 * cross / m


def biased_mmd(run: np.ndarray, reference: np.ndarray, kernel: Kernel) -> np.ndarray:
    """Return the squared maximum mean discrepancy with each row's kernel to itself in it."""
    x, y = run.astype(np.float64), reference.astype(np.float64)
    own, cross = _row_sums(x, x, kernel) / len(x), _row_sums(x, y, kernel) / len(y)
    figure = own.mean() + _row_sums(y, y, kernel).mean() / len(y) - 2 * cross.mean()
    witness = own - cross
    return figure + 2 * (witness - witness.mean())


def _row_sums(
    x: np.ndarray, y: np.ndarray, kernel: Kernel, without_self: bool = False
) -> np.ndarray:
    parts = []
    for rows in _blocks(x, y):
        block = kernel(x[rows], y)
        parts.append(block.sum(1) - (block[np.arange(len(rows)), rows] if without_self else 0))
    return np.concatenate(parts)


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the squared Euclidean distances, [A, B]."""
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T
    return squares.clip(0)


def manifold(
    run: np.ndarray, reference: np.ndarray, neighbour: int = NEIGHBOUR
) -> dict[str, np.ndarray]:
    """Return precision, recall, density and coverage (arXiv 1904.06991; 2002.09797).

    Balls reach to the ``neighbour``-th nearest row of the same set, itself not counted. Precision
    is the share of the run inside a reference ball, density the mean number of them over
    ``neighbour``; recall is the share of the reference inside a ball of the run, coverage the share
    of reference balls that hold a row of the run. The last two change with each row that is left
    out; they are the figure plus the jackknife's deviations.
    """
    x, y = run.astype(np.float64), reference.astype(np.float64)
    n, m, k = len(x), len(y), neighbour
    balls = _radii(y, k)[:, k]
    radii = _radii(x, k + 1)
    inside = np.zeros(n)
    sole = np.zeros(n)
    covered = recalled = 0.0
    lost = np.zeros(n)
    neighbours = _neighbours(x, k)
    for block, rows in _distances(y, x):
        hits = block < balls[rows, None]
        inside += hits.sum(0)
        count = hits.sum(1)
        covered += (count > 0).sum()
        sole += hits[count == 1].sum(0)
        # recall: with the k-th neighbour, and with the (k+1)-th where one of the k is left out
        by_k, by_next = block < radii[:, k], block < radii[:, k + 1]
        holding = by_k.sum(1)
        recalled += (holding > 0).sum()
        left = holding[:, None] - by_k.astype(np.int32)
        place, grown = np.nonzero(by_next & ~by_k)
        np.add.at(left, (place[:, None], neighbours[grown]), 1)
        lost += ((holding > 0)[:, None] & (left == 0)).sum(0)
        lost -= ((holding == 0)[:, None] & (left > 0)).sum(0)
    return {
        "precision": (inside > 0).astype(float),
        "recall": _jackknifed(recalled / m, lost / m),
        "density": inside / k,
        "coverage": _jackknifed(covered / m, sole / m),
    }


def _jackknifed(figure: float, lost: np.ndarray) -> np.ndarray:
    """Return the figure plus N - 1 times what each row adds to it, less their mean."""
    return figure + (len(lost) - 1) * (lost - lost.mean())


def _blocks(x: np.ndarray, y: np.ndarray) -> Iterator[np.ndarray]:
    """Yield places of rows of x, so few that a block of them and all of y is bounded."""
    most = max(_AT_ONCE // len(y), 1)
    for start in range(0, len(x), most):
        yield np.arange(start, min(start + most, len(x)))


def _distances(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield distances of some rows of x to all of y, and the places of the rows."""
    for rows in _blocks(x, y):
        yield np.sqrt(squared_distances(x[rows], y)), rows


def _radii(x: np.ndarray, most: int) -> np.ndarray:
    """Return the distance of each row to its 0th to ``most``-th nearest row, itself the 0th."""
    parts = []
    for block, rows in _distances(x, x):
        block[np.arange(len(rows)), rows] = 0.0  # not the rounding of a difference with itself
        nearest = np.partition(block, range(most + 1), axis=1)[:, : most + 1]
        parts.append(nearest.copy())  # a view keeps the block
    return np.concatenate(parts)


def _neighbours(x: np.ndarray, most: int) -> np.ndarray:
    """Return the places of the ``most`` rows that are nearest to each, [N, most], in no order."""
    parts = []
    for block, rows in _distances(x, x):
        block[np.arange(len(rows)), rows] = np.inf
        parts.append(np.argpartition(block, most - 1, axis=1)[:, :most].copy())
    return np.concatenate(parts)

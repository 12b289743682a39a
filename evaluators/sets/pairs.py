"""Figures of a set from its rows or the distances of its pairs. Pure NumPy."""

from __future__ import annotations

import numpy as np

from evaluators.types import Score


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Return rows [N, D] divided by their lengths, float64."""
    rows = np.asarray(rows, np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def cosine_distances(rows: np.ndarray) -> np.ndarray:
    """Return 1 - cosine of each pair of rows [N, D]: [N, N], from 0 to 2."""
    unit = unit_rows(rows)
    return np.clip(1 - unit @ unit.T, 0, 2)


def vendi(rows: np.ndarray) -> float:
    """Return the Vendi score of rows [N, D] under the cosine kernel: from 1 to N.

    The exponential of the entropy of the eigenvalues of K / N (Friedman and Dieng, arXiv
    2210.02410): how many rows that have nothing in common would be as diverse.
    """
    unit = unit_rows(rows)
    eigenvalues = np.linalg.eigvalsh(unit @ unit.T / len(unit))
    positive = eigenvalues[eigenvalues > 0]
    return float(np.clip(np.exp(-(positive * np.log(positive)).sum()), 1, len(unit)))


def scores_of_pairs(name: str, pairs: np.ndarray) -> list[dict[str, Score]]:
    """Return the mean of a symmetric figure of pairs [N, N] over all pairs, as each row's score.

    ``from_the_others``, a row's own mean, explains it. The diagonal is left out.
    """
    own = (pairs.sum(1) - np.diag(pairs)) / (len(pairs) - 1)
    value = float(own.mean())
    return [{name: Score(value, details={"from_the_others": float(row)})} for row in own]

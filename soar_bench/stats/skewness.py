"""Intervals of means whose prompts lie to one side, as distances and discrepancies do.

The t statistic of a skewed sample is skewed the other way, so that the t interval misses the truth
mostly on one side and too often. Hall's monotone cubic takes the skewness out of it: with n prompts
of skewness g and a = g / sqrt(n),

    h(t) = t + a/6 + a t^2 / 3 + a^2 t^3 / 27

has quantiles close to Student's (Hall 1992, JRSS B 54:221, equation 2.3). Coverage:
docs/statistics.md.
"""

from __future__ import annotations

import numpy as np


def skewness(residuals: np.ndarray, prompts: np.ndarray) -> np.ndarray:
    """Return the skewness of each row's summed residuals by prompt, [rows, prompts]; NaN where they
    do not vary. ``prompts`` [rows] have a score; the residuals of others are 0.
    """
    cubes, squares = (np.array([np.sum(row**k) for row in residuals]) for k in (3, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: np.ndarray = cubes / prompts / (squares / prompts) ** 1.5
    return ratio


def quantiles(
    skew: np.ndarray, prompts: np.ndarray, quantile: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return t at which h(t) is minus and plus Student's ``quantile``, all [rows]."""
    a = np.where(np.abs(skew) < 1e-6, np.copysign(1e-6, skew), skew) / np.sqrt(prompts)
    low, high = ((np.cbrt(1 + a * (q - a / 6)) - 1) * 3 / a for q in (-quantile, quantile))
    return low, high

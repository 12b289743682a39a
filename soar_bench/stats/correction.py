"""Several tests at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float] | np.ndarray) -> list[float]:
    """Return p-values corrected so that the chance of any false positive among them is bounded.

    Holm's step-down method, for tests of any dependence: the k-th smallest of m is multiplied by
    m - k + 1, none is smaller than the one before it, none exceeds 1 (Holm 1979, Scandinavian
    Journal of Statistics 6:65). NaN is no test: it stays and does not count.
    """
    return list(map(float, holm_array(np.asarray(p_values, dtype=float))))


def holm_array(p_values: np.ndarray) -> np.ndarray:
    """Return :func:`holm`'s correction of p-values [tests] as an array."""
    tests = np.flatnonzero(~np.isnan(p_values))
    order = tests[np.argsort(p_values[tests], kind="stable")]
    steps = p_values[order] * np.arange(len(order), 0, -1)
    corrected = np.full(len(p_values), np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected

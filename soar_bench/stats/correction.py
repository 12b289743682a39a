"""Several tests at once."""

from __future__ import annotations

import math
from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected so that the chance of any false positive among them is bounded.

    Holm's step-down method: the k-th smallest of m is multiplied by m - k + 1, none may be smaller
    than the one before it, none exceeds 1 (Holm 1979, Scandinavian Journal of Statistics 6:65). It
    holds whatever the dependence between the tests. NaN is no test: it stays and does not count.
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    corrected = [math.nan] * len(p_values)
    least = 0.0
    for rank, (p, i) in enumerate(known):
        least = max(least, min((len(known) - rank) * p, 1.0))
        corrected[i] = least
    return corrected

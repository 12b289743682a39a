"""Intervals of shares: means of scores that are right or wrong, 1 or 0.

The t interval covers too little near 0 and 1: of 80 prompts with four images, 97% right, in 90 of
100 cases. Wilson's holds there: all shares from which the one that was seen is not significantly
away, each with its own variance pq / n (Wilson 1927, JASA 22:209). n is the effective number of
images, pq / V with the clustered variance V of the share, and Student's quantile stands for the
normal one (Korn and Graubard 1998, Survey Methodology 24:193; Dean and Pagano 2015, Journal of
Survey Statistics and Methodology 3:484).

With a few wrong images V says little of how alike the images of a prompt are, and with none it is
0. So both pq and V are those of prompts of which half a one more is wrong as a whole: with nothing
wrong n is then the number of prompts. Coverage: docs/statistics.md.
"""

from __future__ import annotations

import numpy as np

#: Prompts in addition that are wrong as a whole.
_MORE = 0.5
#: With fewer prompts that all agree an interval would say next to nothing: there is none.
_FEWEST = 10


def wilson(
    share: np.ndarray, variance: np.ndarray, prompts: np.ndarray, quantile: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return both ends, from 0 to 1, of the intervals of shares with their variances, numbers of
    prompts and Student's quantiles, all [rows]; NaN where they cannot be known.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = share * (1 - share)
        images = (spread + _MORE / prompts) / (variance + _MORE / prompts**2.0)
        ratio = quantile**2 / images
        centre = (share + ratio / 2) / (1 + ratio)
        half = np.sqrt(ratio * spread + ratio**2 / 4) / (1 + ratio)
        known = (quantile > 0) & ((variance > 0) | (prompts >= _FEWEST))
    low, high = np.minimum(centre - half, share), np.maximum(centre + half, share)  # but rounding
    low, high = np.clip(low, 0, 1), np.clip(high, 0, 1)
    return np.where(known, low, np.nan), np.where(known, high, np.nan)

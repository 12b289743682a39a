"""Numbers of prompts, or of images of each, that it takes to see a difference.

The power of a two-sided t-test whose true difference is d: t has then a noncentral t distribution
with noncentrality d / s.e. (Cohen, Statistical Power Analysis, 2nd ed., chapter 2; Miller, arXiv
2411.00640, section 5, is the same for large numbers). Variances are those that were estimated.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable

import numpy as np
from scipy import special

from soar_bench.stats.estimates import Estimate, welch

#: More prompts than this are no number of prompts.
_MOST = 10**12


def prompts_needed(
    difference: Estimate, d: float, power: float = 0.8, level: float = 0.95
) -> float:
    """Return the smallest number of prompts at which a true difference ``d``, in the metric's unit,
    is seen with probability ``power`` by a test at 1 - ``level``, with the images per prompt, the
    mixture of tasks and the training seeds of ``difference``.

    Infinite where no number is enough, because ``d`` is 0 or because of how the training seeds
    differ; NaN where the error is not known.
    """
    if not difference.prompt_error > 0 or math.isnan(d):
        return math.nan
    lost = difference.prompts - _prompt_freedom(difference)

    def seen(prompts: int) -> float:
        variance = difference.prompt_error**2 * difference.prompts / prompts
        return _power(difference, d, variance, max(prompts - lost, 1.0), level)

    return _smallest(seen, 2, power)


def images_needed(difference: Estimate, d: float, power: float = 0.8, level: float = 0.95) -> float:
    """Return the same as images of each prompt, with the same prompts: more images lower only the
    error that comes from which images were drawn. NaN where each prompt has one image.
    """
    if not difference.prompt_error > 0 or math.isnan(difference.image_error) or math.isnan(d):
        return math.nan
    images = difference.scored / difference.prompts
    from_images = min(difference.image_error, difference.prompt_error) ** 2
    from_prompts = difference.prompt_error**2 - from_images

    def seen(each: int) -> float:
        variance = from_prompts + from_images * images / each
        return _power(difference, d, variance, _prompt_freedom(difference), level)

    return _smallest(seen, 1, power)


def _prompt_freedom(difference: Estimate) -> float:
    """Return the degrees of freedom of the error that comes from prompts."""
    return difference.freedom if difference.seed_error == 0 else difference.prompts - 1.0


def _power(difference: Estimate, d: float, variance: float, freedom: float, level: float) -> float:
    """Return the probability that the test sees ``d``; ``variance`` is that from prompts."""
    seeds = difference.seed_error**2
    if seeds:
        freedoms = np.array([freedom, difference.seed_freedom])
        freedom = float(welch(np.array([variance, seeds]), freedoms))
    if not variance + seeds > 0:
        return float(d != 0)
    shift = abs(d) / math.sqrt(variance + seeds)
    bound = float(special.stdtrit(freedom, (1 + level) / 2))
    if shift > bound + 10:  # far beyond where the noncentral t can be computed, and sure to be seen
        return 1.0
    from scipy import stats  # half a second, which commands without power do not wait for

    return float(stats.nct.sf(bound, freedom, shift) + stats.nct.cdf(-bound, freedom, shift))


def _smallest(seen: Callable[[int], float], least: int, power: float) -> float:
    """Return the smallest whole number from ``least`` on with the power; infinite if none has."""
    high = least
    while seen(high) < power:
        if high >= _MOST:
            return math.inf
        least, high = high + 1, min(high * 2, _MOST)
    return float(least + bisect_left(range(least, high), True, key=lambda n: seen(n) >= power))

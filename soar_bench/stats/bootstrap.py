"""Intervals by resampling whole prompts, within tasks where the figure is a mean of task means.

The cluster bootstrap: a resample draws as many prompts as there are, with replacement, each with
all its images (Davison and Hinkley, Bootstrap Methods and their Application, 1997, sections 3.2 and
3.8). Plain percentiles are too narrow (variance times (n-1)/n, no t distribution), so they are
taken further out, at

    Phi(-t s / s*)  instead of  alpha/2,

where t is Student's quantile, s the clustered standard error and s* the resamples' (the expanded
percentile interval: Hesterberg, "What Teachers Should Know about the Bootstrap", The American
Statistician 69:371, 2015; for one task s/s* = sqrt(n/(n-1))). Coverage: docs/statistics.md.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy import special

from soar_bench.stats.estimates import CONFIDENCE, Estimate
from soar_bench.stats.layout import Clusters

DRAWS = 10_000
_CHUNK = 1_000


def interval_of(
    clusters: Clusters | None,
    estimate: Estimate,
    level: float = CONFIDENCE,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the expanded percentile interval of an estimate from its scores by prompt.

    The same ``seed`` gives the same interval. NaN where there is no standard error: nothing scored,
    a task of a single prompt, or prompts that all agree.
    """
    if clusters is None or not estimate.standard_error > 0:
        return (math.nan, math.nan)
    tail = _tail(clusters, estimate, level)
    low, high = np.quantile(resampled(clusters, draws, seed), [tail, 1 - tail])
    return float(low), float(high)


def _tail(clusters: Clusters, estimate: Estimate, level: float) -> float:
    """Return the share of the resamples beyond each end of the interval."""
    images, weight = clusters.by_stratum(clusters.counts), clusters.weight
    means = (clusters.by_stratum(clusters.sums) / images)[clusters.strata]
    residuals = clusters.sums - means * clusters.counts
    variances = clusters.by_stratum(residuals**2) / images**2
    resamples = math.sqrt((weight**2 * variances).sum()) / weight.sum()
    t = special.stdtrit(estimate.freedom, (1 + level) / 2)
    return float(special.ndtr(-t * estimate.standard_error / resamples))


def resampled(clusters: Clusters, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Return the value of each resample of the prompts, [draws]."""
    total = np.zeros(draws)
    weight = clusters.weight
    for stratum, prompts in enumerate(clusters.by_stratum()):
        inside = clusters.strata == stratum
        both = np.stack([clusters.sums[inside], clusters.counts[inside]], axis=1)  # [prompts, 2]
        weights = _weights(int(prompts), draws, (seed, stratum))
        for start in range(0, draws, _CHUNK):
            sums = weights[start : start + _CHUNK] @ both
            total[start : start + _CHUNK] += weight[stratum] * (sums[:, 0] / sums[:, 1])
    return total / weight.sum()


@lru_cache(maxsize=8)
def _weights(prompts: int, draws: int, seed: tuple[int, int]) -> np.ndarray:
    """Return how often each resample has each prompt: multinomial, [draws, prompts]."""
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(prompts, np.full(prompts, 1 / prompts), size=draws)
    return weights.astype(np.uint16)

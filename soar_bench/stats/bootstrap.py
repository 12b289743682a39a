"""Intervals by resampling whole prompts, within tasks where the figure is a mean of task means.

The cluster bootstrap: a resample draws as many prompts as there are, with replacement, each with
all its images (Davison and Hinkley, Bootstrap Methods and their Application, 1997, sections 3.2 and
3.8). Plain percentiles of the resampled figures give intervals that are too narrow: they hold the
variance (n-1)/n of the right one and know no t distribution. They are taken further out, at

    Phi(-t s / s*)  instead of  alpha/2,

where t is Student's quantile, s the clustered standard error and s* the resamples' (the expanded
percentile interval: Hesterberg, "What Teachers Should Know about the Bootstrap", The American
Statistician 69:371, 2015; for one task s/s* = sqrt(n/(n-1))). docs/statistics.md has the coverage
of this, of plain percentiles, of BCa and of the analytic interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import stats as distributions

from soar_bench.stats.estimates import Clusters, Estimate, clusters_of, estimate_of
from soar_bench.stats.pairs import Pairs

DRAWS = 10_000
_CHUNK = 1_000


def bootstrap_interval(
    scores: pd.DataFrame,
    aggregate: str = "mean",
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float]:
    """The interval of :func:`~soar_bench.stats.estimate`'s value by the cluster bootstrap.

    The same ``seed`` gives the same interval. NaN where there is no standard error: nothing scored,
    a task of a single prompt, or prompts that all agree.
    """
    found, _ = clusters_of(scores, aggregate)
    return interval_of(found, level, draws, seed)


def paired_bootstrap(
    a: Sequence[pd.DataFrame],
    b: Sequence[pd.DataFrame],
    aggregate: str = "mean",
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float]:
    """The interval of :func:`~soar_bench.stats.paired_difference`'s value by the cluster bootstrap.

    ValueError if a side has several training seeds: resamples of a handful of seeds are too alike
    (of three, they hold two thirds of the variance), and resampling prompts alone would pass over
    them.
    """
    pairs = Pairs.of(a, b, aggregate)
    if pairs.over_seeds:
        raise ValueError("the bootstrap is of prompts; with several training seeds use the t test")
    return interval_of(pairs.differences, level, draws, seed)


def interval_of(
    found: Clusters | None, level: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """The expanded percentile interval of the mean of the strata's means."""
    if found is None:
        return (math.nan, math.nan)
    known = estimate_of(found)
    if not known.standard_error > 0:
        return (math.nan, math.nan)
    tail = _tail(found, known, level)
    low, high = np.quantile(resampled(found, draws, seed), [tail, 1 - tail])
    return float(low), float(high)


def _tail(found: Clusters, known: Estimate, level: float) -> float:
    """At which share of the resamples the interval ends, on either side."""
    prompts, images = found.by_stratum(), found.by_stratum(found.counts)
    residuals = found.sums - (found.by_stratum(found.sums) / images)[found.strata] * found.counts
    resamples = math.sqrt((found.by_stratum(residuals**2) / images**2).sum()) / len(prompts)
    t = distributions.t.ppf((1 + level) / 2, known.freedom)
    return float(distributions.norm.cdf(-t * known.standard_error / resamples))


def resampled(found: Clusters, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """The figure of each resample of the prompts, [draws]."""
    total = np.zeros(draws)
    strata = found.by_stratum()
    for stratum, prompts in enumerate(strata):
        inside = found.strata == stratum
        both = np.stack([found.sums[inside], found.counts[inside]], axis=1)  # [prompts, 2]
        weights = _weights(int(prompts), draws, (seed, stratum))
        for start in range(0, draws, _CHUNK):
            sums = weights[start : start + _CHUNK] @ both
            total[start : start + _CHUNK] += sums[:, 0] / sums[:, 1]
    return total / len(strata)


@lru_cache(maxsize=8)
def _weights(prompts: int, draws: int, seed: tuple[int, int]) -> np.ndarray:
    """How often each resample has each prompt: multinomial, [draws, prompts]."""
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(prompts, np.full(prompts, 1 / prompts), size=draws)
    return weights.astype(np.uint16)

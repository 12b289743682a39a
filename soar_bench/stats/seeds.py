"""Training seeds: a second level of variance above prompts."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from soar_bench.stats.estimates import welch


@dataclass(frozen=True)
class Spread:
    """Variation that training seeds add to values of groups of runs. Every array is [groups]."""

    #: runs with a value
    seeds: np.ndarray
    #: of the runs' values
    mean: np.ndarray
    #: their standard deviation; NaN for one run
    deviation: np.ndarray
    #: of the mean, with its degrees of freedom; 0 for one run
    variance: np.ndarray
    freedom: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, group: np.ndarray, groups: int) -> Spread:
        """Return the spread of values, NaN where a run has none, by each run's group: [runs]."""
        scored = ~np.isnan(values)
        seeds = np.bincount(group, scored, groups)
        sums = np.bincount(group, np.where(scored, values, 0.0), groups)
        several = seeds > 1
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = sums / seeds
            squares = np.bincount(group, np.where(scored, values - mean[group], 0.0) ** 2, groups)
            deviation = np.where(several, np.sqrt(squares / (seeds - 1)), np.nan)
            variance = np.where(several, deviation**2 / seeds, 0.0)
        return cls(seeds.astype(int), mean, deviation, variance, np.where(several, seeds - 1, 0.0))

    def difference(self, other: Spread) -> Spread:
        """Return what both add to the differences of the groups; the smaller number of seeds."""
        variances = np.array([self.variance, other.variance])
        freedom = welch(variances, np.array([self.freedom, other.freedom]))
        seeds, unknown = np.minimum(self.seeds, other.seeds), np.full(len(self.seeds), np.nan)
        return Spread(seeds, self.mean - other.mean, unknown, variances.sum(0), freedom)

    def only(self, groups: np.ndarray) -> Spread:
        """Return the same of some groups, given by their numbers."""
        return Spread(*(getattr(self, field.name)[groups] for field in fields(self)))

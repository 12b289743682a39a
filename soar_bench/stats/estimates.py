"""Values with their uncertainty: one, or an array of many."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from soar_bench.stats.shares import wilson
from soar_bench.stats.skewness import quantiles

#: Confidence level of intervals; its complement is the error rate of tests.
CONFIDENCE = 0.95
#: Differences below this share of the largest score are rounding.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A mean with its uncertainty. ``standard_error`` is NaN where it cannot be known, and 0 where
    all prompts agree, which says nothing of other prompts: neither has an interval, but for shares
    (:mod:`soar_bench.stats.shares`), of ten prompts or more.
    """

    value: float
    standard_error: float
    #: degrees of freedom of the t distribution that the interval comes from
    freedom: float
    #: samples that have a value
    scored: int
    #: samples that have none; they are in no mean
    unscored: int
    prompts: int
    #: trainings that differ by seed alone, over which the value is a mean
    seeds: int = 1
    #: standard deviation over those seeds; NaN for one
    seed_deviation: float = math.nan
    #: the part of ``standard_error`` that comes from training seeds: more prompts do not lower it.
    #: The squares of the parts add up
    seed_error: float = 0.0
    #: degrees of freedom of ``seed_error``
    seed_freedom: float = math.nan
    #: the part that comes from the images drawn of a prompt; NaN where each prompt has one
    image_error: float = math.nan
    #: whether the scores are right or wrong, so that the mean is a share
    binary: bool = False
    #: skewness of the prompts, of which the interval is then corrected; NaN if it is not to be
    skewness: float = math.nan

    def interval(self, level: float = CONFIDENCE) -> tuple[float, float]:
        """Return the two-sided confidence interval, Wilson's for shares, Hall's for skewed scores;
        NaN where it cannot be known.
        """
        row = (self.value, self.standard_error**2, self.freedom, self.scored, self.prompts)
        arrays = (np.array([number]) for number in (*row, self.binary, self.skewness))
        low, high = Estimates(*arrays).interval(level)
        return float(low[0]), float(high[0])

    def p_value(self, of: float = 0.0) -> float:
        """Return the two-sided p of the t-test that the true value is ``of``; NaN if unknowable."""
        return float(_t_test(self.value - of, self.standard_error, self.freedom))

    @property
    def prompt_error(self) -> float:
        """The part of ``standard_error`` that comes from prompts and their images."""
        return math.sqrt(max(self.standard_error**2 - self.seed_error**2, 0.0))


@dataclass(frozen=True)
class Estimates:
    """Values of many rows with their uncertainty. Every array is [rows]."""

    value: np.ndarray
    #: variance of the value; NaN where it cannot be known
    variance: np.ndarray
    #: degrees of freedom of its t distribution
    freedom: np.ndarray
    #: samples with a value
    scored: np.ndarray
    #: prompts with a value
    prompts: np.ndarray
    #: whether a row's scores are right or wrong, so that its mean is a share; None if no row's are
    binary: np.ndarray | None = None
    #: skewness of each row's prompts, of which intervals are corrected; None if of none
    skewness: np.ndarray | None = None

    @property
    def standard_error(self) -> np.ndarray:
        """The square root of the variance."""
        return np.sqrt(self.variance)

    def interval(self, level: float = CONFIDENCE) -> tuple[np.ndarray, np.ndarray]:
        """Return both ends of the two-sided intervals, Wilson's for shares, Hall's for skewed
        scores; NaN if unknowable.
        """
        half = _half_width(self.standard_error, self.freedom, level)
        low, high = self.value - half, self.value + half
        if self.skewness is not None:
            quantile = special.stdtrit(self.freedom, (1 + level) / 2)
            below, above = quantiles(self.skewness, self.prompts, quantile)
            skewed = np.isfinite(half) & np.isfinite(self.skewness)
            low = np.where(skewed, self.value - self.standard_error * above, low)
            high = np.where(skewed, self.value - self.standard_error * below, high)
        if self.binary is not None:
            quantile = special.stdtrit(self.freedom, (1 + level) / 2)
            ends = wilson(self.value, self.variance, self.prompts, quantile)
            low, high = np.where(self.binary, ends[0], low), np.where(self.binary, ends[1], high)
        return low, high

    def p_values(self) -> np.ndarray:
        """Return two-sided p of the t-tests that the true values are 0; NaN if unknowable."""
        return _t_test(self.value, self.standard_error, self.freedom)

    def rounded(self, scale: float) -> Estimates:
        """Return the same with 0 for values and variances that are rounding of such scores."""
        with np.errstate(invalid="ignore"):
            variance = np.where(self.variance <= (ROUNDING * scale) ** 2, 0.0, self.variance)
            value = np.where(np.abs(self.value) <= ROUNDING * scale, 0.0, self.value)
        return replace(self, value=value, variance=variance)


def _half_width(error: float | np.ndarray, freedom: float | np.ndarray, level: float) -> np.ndarray:
    """Return Student's quantile times the standard error; NaN where it cannot be known."""
    with np.errstate(invalid="ignore"):
        half = special.stdtrit(freedom, (1 + level) / 2) * error
    return np.where(np.greater(freedom, 0) & np.greater(error, 0), half, np.nan)


def _t_test(
    value: float | np.ndarray, error: float | np.ndarray, freedom: float | np.ndarray
) -> np.ndarray:
    """Return the two-sided p-value that the true value is 0; NaN where it cannot be known."""
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * special.stdtr(freedom, -np.abs(np.divide(value, error)))
    return np.where(np.greater(freedom, 0) & np.greater(error, 0), p, np.nan)


def welch(variances: np.ndarray, freedoms: np.ndarray) -> np.ndarray:
    """Return Welch-Satterthwaite degrees of freedom of sums of independent variances (Welch 1947,
    Biometrika 34:28; Satterthwaite 1946).

    Both arrays are [parts, ...]; a part that is absent is 0 in both.
    """
    total = variances.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        below = np.where(variances > 0, variances**2 / freedoms, 0.0).sum(0)
        freedom = total**2 / below
    freedom = np.where(below > 0, freedom, freedoms.sum(0))
    return np.where(np.isnan(total), np.nan, freedom)

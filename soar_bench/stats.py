"""Standard errors and differences that can be believed.

Images of one prompt are not independent, so prompts are the clusters of every standard error
(cluster-robust variance of a mean: Cameron and Miller, "A Practitioner's Guide to Cluster-Robust
Inference", 2015, eq. 6 and 12; for evaluations: Miller, arXiv 2411.00640). GenEval's overall is an
unweighted mean of task means; its variance is that of a mean of independent strata.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats as distributions


@dataclass(frozen=True)
class Estimate:
    """A mean with its uncertainty. ``standard_error`` is NaN where it cannot be known."""

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

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The two-sided confidence interval of ``level``; NaN where it cannot be known."""
        if not self.freedom > 0:
            return (math.nan, math.nan)
        half = float(distributions.t.ppf((1 + level) / 2, self.freedom)) * self.standard_error
        return (self.value - half, self.value + half)

    def p_value(self) -> float:
        """Two-sided p-value of the t-test that the true value is 0; NaN where unknowable."""
        if not self.freedom > 0 or not self.standard_error > 0:
            return math.nan
        t = abs(self.value) / self.standard_error
        return float(2 * distributions.t.sf(t, self.freedom))


def _clustered_mean(values: np.ndarray, clusters: np.ndarray) -> tuple[float, float, int]:
    """Mean, its cluster-robust variance (NaN for a single cluster) and the number of clusters."""
    mean = float(values.mean())
    _, codes = np.unique(clusters, return_inverse=True)
    count = int(codes.max()) + 1
    if count < 2:
        return mean, math.nan, count
    residuals = np.bincount(codes, weights=values - mean)  # summed by cluster
    variance = count / (count - 1) * float((residuals**2).sum()) / len(values) ** 2
    return mean, variance, count


def estimate(scores: pd.DataFrame, aggregate: str = "mean") -> Estimate:
    """The metric's value over one run's samples.

    ``scores`` has the columns prompt_id, task and value (missing where unscored). ``aggregate`` is
    ``mean`` or ``task_mean``, the unweighted mean of the tasks' means.
    """
    known = scores.dropna(subset=["value"])
    unscored = len(scores) - len(known)
    if known.empty:
        return Estimate(math.nan, math.nan, math.nan, 0, unscored, 0)
    strata = [group for _, group in known.groupby("task")] if aggregate == "task_mean" else [known]
    parts = [
        _clustered_mean(stratum["value"].to_numpy(float), stratum["prompt_id"].to_numpy())
        for stratum in strata
    ]
    return Estimate(
        value=float(np.mean([mean for mean, _, _ in parts])),
        standard_error=math.sqrt(sum(variance for _, variance, _ in parts)) / len(parts),
        freedom=_welch([(variance, count - 1) for _, variance, count in parts]),
        scored=len(known),
        unscored=unscored,
        prompts=sum(count for _, _, count in parts),
    )


def _welch(parts: Sequence[tuple[float, float]]) -> float:
    """Welch-Satterthwaite degrees of freedom of a sum of independent variances."""
    total = sum(variance for variance, _ in parts)
    below = sum(variance**2 / freedom for variance, freedom in parts if variance > 0)
    if math.isnan(total):
        return math.nan
    return total**2 / below if below > 0 else float(sum(freedom for _, freedom in parts))


_SAMPLE = ["prompt_id", "task", "index"]


def _averaged(runs: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Each sample's mean over the runs that scored it."""
    return pd.concat(runs).groupby(_SAMPLE)[["value"]].mean().reset_index()


def over_seeds(runs: Sequence[pd.DataFrame], aggregate: str = "mean") -> Estimate:
    """The value over several trainings that differ by seed alone, on the same prompts and noise.

    The mean over seeds of the runs' values. Its variance has two parts that add: which prompts and
    noise were drawn (clustered, on the mean over seeds of each sample) and which training seeds
    (their variance over their number). The second also holds some of the first, so the interval
    errs on the wide side.
    """
    scored = [run for run in runs if run["value"].notna().any()]
    if len(scored) < 2:
        return estimate((scored or runs)[0], aggregate)
    values = [estimate(run, aggregate).value for run in scored]
    every = pd.concat(runs)
    averaged = _averaged(runs)
    prompts = estimate(averaged, aggregate)
    deviation = float(np.std(values, ddof=1))
    seed_variance = deviation**2 / len(scored)
    return Estimate(
        value=float(np.mean(values)),
        standard_error=math.sqrt(prompts.standard_error**2 + seed_variance),
        freedom=_welch(
            [(prompts.standard_error**2, prompts.freedom), (seed_variance, len(scored) - 1)]
        ),
        scored=int(every["value"].notna().sum()),
        unscored=int(every["value"].isna().sum()),
        prompts=prompts.prompts,
        seeds=len(scored),
        seed_deviation=deviation,
    )


def paired_difference(
    a: Sequence[pd.DataFrame], b: Sequence[pd.DataFrame], aggregate: str = "mean"
) -> Estimate:
    """How much higher ``a`` is than ``b``, sample by sample on the same prompts and noise.

    ``a`` and ``b`` are the runs of one or more training seeds each. Only samples that both sides
    scored count. What the two share, above all how hard a prompt is, cancels; what remains is the
    clustered error of the differences and, with several seeds, both sides' seed variance.
    """
    means = [_averaged(runs).dropna() for runs in (a, b)]
    joined = means[0].merge(means[1], on=_SAMPLE, suffixes=("_a", "_b"), validate="one_to_one")
    joined["value"] = joined["value_a"] - joined["value_b"]
    difference = estimate(joined, aggregate)
    variances = [(difference.standard_error**2, difference.freedom)]
    for runs in (a, b):
        if len(runs) > 1:
            values = [estimate(run, aggregate).value for run in runs]
            variances.append((float(np.var(values, ddof=1)) / len(runs), len(runs) - 1))
    return Estimate(
        value=difference.value,
        standard_error=math.sqrt(sum(variance for variance, _ in variances)),
        freedom=_welch(variances),
        scored=difference.scored,
        unscored=len(means[0]) + len(means[1]) - 2 * len(joined),
        prompts=difference.prompts,
        seeds=min(len(a), len(b)),
    )

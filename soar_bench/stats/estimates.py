"""Means and standard errors: prompts are clusters, training seeds a second level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats as distributions

#: Differences below this share of the largest score are rounding.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A mean with its uncertainty. ``standard_error`` is NaN where it cannot be known, and 0 where
    all prompts agree, which says nothing of prompts that were not asked: neither has an interval.
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

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The two-sided confidence interval of ``level``; NaN where it cannot be known."""
        if not self.freedom > 0 or not self.standard_error > 0:
            return (math.nan, math.nan)
        half = float(distributions.t.ppf((1 + level) / 2, self.freedom)) * self.standard_error
        return (self.value - half, self.value + half)

    def p_value(self) -> float:
        """Two-sided p-value of the t-test that the true value is 0; NaN where unknowable."""
        if not self.freedom > 0 or not self.standard_error > 0:
            return math.nan
        t = abs(self.value) / self.standard_error
        return float(2 * distributions.t.sf(t, self.freedom))

    @property
    def prompt_error(self) -> float:
        """The part of ``standard_error`` that comes from prompts and their images."""
        return math.sqrt(max(self.standard_error**2 - self.seed_error**2, 0.0))


@dataclass(frozen=True)
class Clusters:
    """Scores summed by prompt: all that a mean, its error and its resampling need.

    The arrays have one element a prompt, [P].
    """

    sums: np.ndarray
    #: images that have a score, at least 1
    counts: np.ndarray
    #: squared deviations from the prompt's mean, summed
    squares: np.ndarray
    #: the task in whose mean the prompt counts, from 0; all 0 for a plain mean
    strata: np.ndarray
    #: largest absolute score
    scale: float

    @property
    def means(self) -> np.ndarray:
        """Each prompt's mean, [P]."""
        return self.sums / self.counts

    def by_stratum(self, values: np.ndarray | None = None) -> np.ndarray:
        """``values`` (default: how many prompts) summed by stratum, [K]."""
        return np.bincount(self.strata, weights=values)


def clusters(
    values: np.ndarray, prompts: np.ndarray, tasks: np.ndarray, aggregate: str, scale: float = 0.0
) -> Clusters:
    """Scores, none of them missing, as clusters; all arguments are [N]. A prompt that stands in
    two tasks is a cluster in each. ``scale`` is the largest score behind ``values``, if greater.
    """
    task_codes, task_names = pd.factorize(tasks, sort=True)
    if aggregate != "task_mean":
        task_codes, task_names = np.zeros_like(task_codes), task_names[:1]
    prompt_codes, _ = pd.factorize(prompts)
    codes, pairs = pd.factorize(prompt_codes * len(task_names) + task_codes)
    sums = np.bincount(codes, weights=values)
    counts = np.bincount(codes)
    deviations = values - (sums / counts)[codes]
    return Clusters(
        sums=sums,
        counts=counts,
        squares=np.bincount(codes, weights=deviations**2),
        strata=pairs % len(task_names),
        scale=max(scale, float(np.abs(values).max())),
    )


def mean_of(sums: np.ndarray, counts: np.ndarray) -> float:
    """The mean of the strata's means, from sums and counts by stratum, [K]."""
    return float((sums / counts).mean())


def estimate_of(found: Clusters, unscored: int = 0) -> Estimate:
    """The mean of the strata's means with its cluster-robust error.

    Of each stratum the variance is G/(G-1) sum(r_g^2)/N^2 over its G prompts, where r_g is the sum
    of the prompt's residuals and N the number of images; strata are independent.
    """
    size, images = found.by_stratum(), found.by_stratum(found.counts)
    means = found.by_stratum(found.sums) / images
    residuals = found.sums - means[found.strata] * found.counts
    residuals[np.abs(residuals) <= ROUNDING * found.scale * found.counts] = 0
    with np.errstate(divide="ignore", invalid="ignore"):
        variances = size / (size - 1) * found.by_stratum(residuals**2) / images**2
        within = found.by_stratum(found.squares) / (images - size) / images
    variances[size < 2] = math.nan
    return Estimate(
        value=float(means.mean()),
        standard_error=math.sqrt(variances.sum()) / len(size),
        freedom=welch(list(zip(variances.tolist(), (size - 1).tolist(), strict=True))),
        scored=int(images.sum()),
        unscored=unscored,
        prompts=len(found.sums),
        image_error=math.sqrt(within.sum()) / len(size) if (images > size).all() else math.nan,
    )


def welch(parts: Sequence[tuple[float, float]]) -> float:
    """Welch-Satterthwaite degrees of freedom of a sum of independent variances, each given with
    its own degrees of freedom (Welch 1947, Biometrika 34:28; Satterthwaite 1946).
    """
    total = sum(variance for variance, _ in parts)
    below = sum(variance**2 / freedom for variance, freedom in parts if variance > 0)
    if math.isnan(total):
        return math.nan
    return total**2 / below if below > 0 else float(sum(freedom for _, freedom in parts))


def estimate(scores: pd.DataFrame, aggregate: str = "mean") -> Estimate:
    """The metric's value over one run's samples.

    ``scores`` has the columns prompt_id, task and value (missing where unscored; a value that is
    not finite counts as missing). ``aggregate`` is ``mean`` or ``task_mean``, the unweighted mean
    of the tasks' means.
    """
    found, unscored = clusters_of(scores, aggregate)
    if found is None:
        return Estimate(math.nan, math.nan, math.nan, 0, unscored, 0)
    return estimate_of(found, unscored)


def clusters_of(scores: pd.DataFrame, aggregate: str) -> tuple[Clusters | None, int]:
    """The scores as clusters, None if there are none, and how many are missing."""
    values = scores["value"].to_numpy(float)
    known = np.isfinite(values)
    unscored = len(values) - int(known.sum())
    if not known.any():
        return None, unscored
    prompts, tasks = scores["prompt_id"].to_numpy()[known], scores["task"].to_numpy()[known]
    return clusters(values[known], prompts, tasks, aggregate), unscored


def over_seeds(runs: Sequence[pd.DataFrame], aggregate: str = "mean") -> Estimate:
    """The value over several trainings that differ by seed alone, on the same prompts and noise.

    The mean over seeds of the runs' values. Its variance has two parts that add: which prompts and
    noise were drawn (clustered, on the mean over seeds of each sample) and which training seeds
    (their variance over their number). The second also holds some of the first, so the interval
    errs on the wide side.
    """
    singles = [estimate(run, aggregate) for run in runs]
    scored = [single for single in singles if single.scored]
    if len(scored) < 2:
        return next(iter(scored or singles))
    values = [single.value for single in scored]
    prompts = estimate(averaged(runs), aggregate)
    deviation = float(np.std(values, ddof=1))
    prompt_part = (prompts.standard_error**2, prompts.freedom)
    seed_part = (deviation**2 / len(scored), len(scored) - 1.0)
    return Estimate(
        value=float(np.mean(values)),
        standard_error=math.sqrt(prompt_part[0] + seed_part[0]),
        freedom=welch([prompt_part, seed_part]),
        scored=sum(single.scored for single in singles),
        unscored=sum(single.unscored for single in singles),
        prompts=prompts.prompts,
        seeds=len(scored),
        seed_deviation=deviation,
        seed_error=math.sqrt(seed_part[0]),
        seed_freedom=seed_part[1],
        image_error=prompts.image_error,
    )


def averaged(runs: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Each sample's mean over the runs that scored it."""
    every = Samples.of(runs)
    return pd.DataFrame(
        {
            "prompt_id": every.prompts,
            "task": every.tasks,
            "value": every.mean(slice(None)),
        }
    )


@dataclass(frozen=True)
class Samples:
    """The scores of R runs on the S samples that any of them has."""

    #: of each sample, [S]
    prompts: np.ndarray
    tasks: np.ndarray
    #: NaN where unscored, [R, S]
    values: np.ndarray

    @classmethod
    def of(cls, runs: Sequence[pd.DataFrame]) -> Samples:
        """Samples are the same that have one prompt id, task and index."""
        columns = {
            name: np.concatenate([run[name].to_numpy() for run in runs])
            for name in ("prompt_id", "task", "index")
        }
        values = np.concatenate([run["value"].to_numpy(float) for run in runs])
        of_run = np.repeat(np.arange(len(runs)), [len(run) for run in runs])
        codes = np.zeros(len(values), dtype=np.int64)
        for column in columns.values():
            inner, names = pd.factorize(column)
            codes, _ = pd.factorize(codes * max(len(names), 1) + inner)
        _, first = np.unique(codes, return_index=True)
        known = np.isfinite(values)
        shape = len(runs), len(first)
        cells = (of_run * len(first) + codes)[known]
        sums = np.bincount(cells, weights=values[known], minlength=math.prod(shape))
        counts = np.bincount(cells, minlength=math.prod(shape))
        return cls(
            prompts=columns["prompt_id"][first],
            tasks=columns["task"][first],
            values=_ratio(sums, counts).reshape(shape),
        )

    def mean(self, runs: slice) -> np.ndarray:
        """Over those of ``runs`` that scored it, each sample's value; NaN where none did, [S]."""
        values = self.values[runs]
        known = np.isfinite(values)
        return _ratio(np.where(known, values, 0).sum(0), known.sum(0))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below; NaN where ``below`` is 0."""
    return np.divide(above, below, out=np.full(len(above), math.nan), where=below > 0)

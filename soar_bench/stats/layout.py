"""Samples grouped by prompt, and the cluster-robust estimates of many rows of scores over them.

Prompts are the clusters, tasks the strata of a mean of task means: see :mod:`soar_bench.stats`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from soar_bench.stats.estimates import ROUNDING, Estimates, welch


@dataclass(frozen=True)
class Clusters:
    """Scores of one row summed by prompt. Every array is [prompts]; prompts without a score are
    left out.
    """

    sums: np.ndarray
    #: images that have a score, at least 1
    counts: np.ndarray
    #: squared deviations from the prompt's mean, summed
    squares: np.ndarray
    #: stratum of each prompt, numbered from 0; all 0 for a plain mean
    strata: np.ndarray
    #: whether strata have equal weight, or that of their images
    equal: bool = True

    @property
    def weight(self) -> np.ndarray:
        """Weight of each stratum in the mean, up to a common factor, [strata]."""
        return np.ones(self.strata.max() + 1) if self.equal else self.by_stratum(self.counts)

    def by_stratum(self, values: np.ndarray | None = None) -> np.ndarray:
        """Return ``values`` (default: the number of prompts) summed by stratum, [strata]."""
        return np.bincount(self.strata, weights=values)

    @property
    def image_error(self) -> float:
        """Standard error that comes from the images drawn of a prompt; NaN where prompts have one
        image each.
        """
        prompts, images = self.by_stratum(), self.by_stratum(self.counts)
        if not (images > prompts).all():
            return math.nan
        within = self.by_stratum(self.squares) / (images - prompts) / images
        return math.sqrt((self.weight**2 * within).sum()) / float(self.weight.sum())


@dataclass(frozen=True)
class Layout:
    """Samples that lie together by prompt, and where each prompt begins."""

    #: number of samples
    samples: int
    #: first sample of each prompt, ascending: [prompts]
    prompts: np.ndarray
    #: prompts of each stratum
    strata: tuple[slice, ...]
    #: whether strata have equal weight, or that of their images
    equal: bool = True
    #: whether samples are parts of images, so that how images differ cannot be seen
    parts: bool = False

    @classmethod
    def of(
        cls, tasks: np.ndarray, prompts: np.ndarray, stratified: bool, equal: bool = True
    ) -> Layout:
        """Return the layout of samples with these integer codes, equal ones adjacent: [samples].

        ``stratified`` makes a stratum of each task, whose samples are adjacent too, and a cluster
        of each prompt in each task; otherwise there is one stratum. Strata are not ``equal`` where
        each weighs as much as it has images; then there is one where a task has a single prompt,
        which shows no variance.
        """
        change = np.diff(prompts) != 0
        if stratified:
            change |= np.diff(tasks) != 0
        starts = np.flatnonzero(np.concatenate([np.ones(min(len(tasks), 1), bool), change]))
        if not stratified:
            return cls(len(tasks), starts, (slice(0, len(starts)),))
        first = np.flatnonzero(np.concatenate([[True], np.diff(tasks[starts]) != 0]))
        ends = [*first[1:], len(starts)]
        if not equal and (np.subtract(ends, first) < 2).any():
            return cls(len(tasks), starts, (slice(0, len(starts)),))
        return cls(len(tasks), starts, tuple(map(slice, first.tolist(), map(int, ends))), equal)

    def sums(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return sums and counts by prompt of values [rows, samples], NaN where there is none."""
        scored = ~np.isnan(values)
        shape = len(values), len(self.prompts)
        cells = np.arange(len(values))[:, None] * shape[1] + self.prompt_of_sample()
        sums = np.bincount(cells.ravel(), np.where(scored, values, 0.0).ravel(), math.prod(shape))
        counts = np.add.reduceat(scored, self.prompts, axis=1, dtype=np.int64)
        return sums.reshape(shape), counts

    def prompt_of_sample(self) -> np.ndarray:
        """Return the number of each sample's prompt, [samples]."""
        images = np.diff([*self.prompts, self.samples])
        return np.repeat(np.arange(len(self.prompts)), images)

    def residuals(self, sums: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the means of each row's strata, [strata, rows], and each prompt's summed residual,
        [rows, prompts], from sums and counts [rows, prompts].
        """
        means = np.empty((len(self.strata), len(sums)))
        residuals = np.empty(sums.shape)
        for mean, stratum in zip(means, self.strata, strict=True):
            total, count = sums[:, stratum], counts[:, stratum]
            with np.errstate(divide="ignore", invalid="ignore"):
                mean[:] = _in_order(total) / count.sum(1)
                residuals[:, stratum] = total - count * mean[:, None]
        return means, residuals

    def combine(self, means: np.ndarray, residuals: np.ndarray, counts: np.ndarray) -> Estimates:
        """Return the estimates of rows from their :meth:`residuals` and counts [rows, prompts]; the
        counts are [1, prompts] where all rows have the same.

        The variance of a stratum's mean is ``G/(G-1) sum(r**2) / n**2`` over its G prompts, where
        ``r`` is a prompt's summed residual and ``n`` the number of images. Strata in which a row
        has nothing are left out of its mean.
        """
        variances, freedoms = np.empty(means.shape), np.empty(means.shape)
        images, prompts = self._by_stratum(counts), self._by_stratum(counts > 0)
        for k, stratum in enumerate(self.strata):
            n, clusters = images[k], prompts[k]
            squares = _in_order(residuals[:, stratum] ** 2)
            with np.errstate(divide="ignore", invalid="ignore"):
                variance = clusters / (clusters - 1) * squares / n**2.0
            variances[k] = np.where(n > 0, np.where(clusters > 1, variance, np.nan), 0.0)
            freedoms[k] = np.where(n > 0, clusters - 1.0, 0.0)
        scored = ~np.isnan(means)
        weights = np.where(scored, 1.0 if self.equal else images, 0.0)
        total = weights.sum(0)
        variances = weights**2 * variances
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.where(scored, weights * means, 0.0).sum(0) / total
            error = np.sqrt(variances.sum(0)) / total
            variance = np.where(total > 0, error**2, np.nan)
        freedom = np.where(total > 0, welch(variances, freedoms), np.nan)
        ones = np.ones(len(residuals), dtype=int)
        return Estimates(value, variance, freedom, images.sum(0) * ones, prompts.sum(0) * ones)

    def _by_stratum(self, counts: np.ndarray) -> np.ndarray:
        """Return counts [rows, prompts] summed by stratum, [strata, rows]."""
        if not counts.shape[1]:
            return np.zeros((len(self.strata), len(counts)), dtype=int)
        starts = [stratum.start for stratum in self.strata]
        sums: np.ndarray = np.add.reduceat(counts, starts, axis=1, dtype=np.int64)
        return sums.T

    def estimate(self, values: np.ndarray) -> Estimates:
        """Return the estimates of values [rows, samples], NaN where there is none."""
        sums, counts = self.sums(values)
        return self.combine(*self.residuals(sums, counts), counts)

    def clusters(self, values: np.ndarray, scale: float) -> Clusters | None:
        """Return one row of values, [samples], summed by prompt; None if it has none.

        Sums that are rounding of scores up to ``scale`` are exactly 0.
        """
        (sums,), (counts,) = self.sums(values[None])
        if not counts.any():
            return None
        sums = np.where(np.abs(sums) <= ROUNDING * scale * counts, 0.0, sums)
        scored = ~np.isnan(values)
        prompts = self.prompt_of_sample()[scored]
        deviations = values[scored] - (sums / np.maximum(counts, 1))[prompts]
        squares = np.bincount(prompts, deviations**2, len(counts))
        if self.parts:
            squares[:] = math.nan
        strata = np.repeat(np.arange(len(self.strata)), [s.stop - s.start for s in self.strata])
        kept = counts > 0
        _, strata = np.unique(strata[kept], return_inverse=True)
        return Clusters(sums[kept], counts[kept], squares[kept], strata, self.equal)


def _in_order(values: np.ndarray) -> np.ndarray:
    """Return the sums of rows [rows, prompts], added prompt by prompt: numpy adds a single row in
    blocks, and a run has the same sums to the last bit alone and among others.
    """
    if len(values) > 1:
        sums: np.ndarray = np.ascontiguousarray(values.T).sum(0)
        return sums
    return np.bincount(np.zeros(values.shape[1], dtype=int), values[0], 1)

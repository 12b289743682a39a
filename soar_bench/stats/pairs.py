"""Two entrants on the same prompts and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

from soar_bench.stats.estimates import Estimate
from soar_bench.stats.layout import Clusters


@dataclass(frozen=True)
class Pair:
    """Two entrants on the samples that both have scored."""

    #: how much higher the first is than the second
    difference: Estimate
    #: of the paired t-test, or of sign flips where differences do not vary; NaN where unknowable
    p_value: float
    #: which of the two: ``t`` or ``sign-flip``; empty where p is NaN
    test: str
    #: the differences by prompt; None if no sample is scored on both sides
    clusters: Clusters | None
    #: whether a side is a mean over several training seeds
    over_seeds: bool
    #: whether each side is one run, and all its scores are 0 or 1
    binary: bool
    #: images that only the first has right, and that only the second has; 0 unless binary
    only_first: int
    only_second: int

    @property
    def single_image(self) -> bool:
        """Whether no prompt has more than one image."""
        return self.clusters is None or bool((self.clusters.counts == 1).all())

    @property
    def plain(self) -> bool:
        """Whether every image has the same weight: a plain mean, or a single task."""
        clusters = self.clusters
        return clusters is None or not (clusters.equal and clusters.strata.any())

    @property
    def equal(self) -> bool:
        """Whether both have the same mean on every prompt."""
        return self.clusters is not None and not self.clusters.sums.any()

    @property
    def lone_prompt(self) -> bool:
        """Whether a task has one prompt only: nothing says how prompts of it vary."""
        clusters = self.clusters
        return clusters is not None and not self.plain and bool((clusters.by_stratum() == 1).any())

    @property
    def wins(self) -> tuple[int, int, int]:
        """Prompts whose mean is higher for the first, equal, and higher for the second."""
        if self.clusters is None:
            return 0, 0, 0
        sums = self.clusters.sums
        return int((sums > 0).sum()), int((sums == 0).sum()), int((sums < 0).sum())

    @property
    def odds(self) -> float:
        """Images that only the first has right for each that only the second has right: the
        conditional odds ratio of matched pairs (Agresti, Categorical Data Analysis, section on
        matched pairs). NaN unless all scores are 0 or 1 and the second has such images.
        """
        return self.only_first / self.only_second if self.only_second else math.nan


def effect_size(difference: Estimate) -> float:
    """Return Cohen's d_z: the difference in standard deviations of the prompts' differences.

    d_z = t / sqrt(n) with n prompts (Lakens 2013, Frontiers in Psychology 4:863), with the t of
    prompts alone, stratified for a mean of task means. NaN where the differences do not vary.
    """
    error = difference.prompt_error
    return difference.value / error / math.sqrt(difference.prompts) if error > 0 else math.nan

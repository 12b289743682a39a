"""Two checkpoints on the same prompts and noise: their paired difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from soar_bench.stats.estimates import (
    ROUNDING,
    Clusters,
    Estimate,
    Samples,
    clusters,
    estimate_of,
    mean_of,
    welch,
)


@dataclass(frozen=True)
class Pairs:
    """The scores of two sides on the samples that both have, each a mean over the side's seeds."""

    #: a - b by prompt; None if the sides have no scored sample in common
    differences: Clusters | None
    #: samples that one side alone has scored
    unscored: int
    #: the value of each training seed that has one, by side
    seed_values: tuple[list[float], list[float]]
    #: whether each side is one run, and all its scores are 0 or 1
    binary: bool
    #: whether no prompt has more than one image
    single_image: bool
    #: images that only a has right, and that only b has; 0 unless binary
    only_a: int
    only_b: int

    @classmethod
    def of(
        cls, a: Sequence[pd.DataFrame], b: Sequence[pd.DataFrame], aggregate: str = "mean"
    ) -> Pairs:
        """Pairs samples by prompt id, task and index; unscored ones drop out."""
        every = Samples.of([*a, *b])
        sides = (slice(0, len(a)), slice(len(a), None))
        left, right = (every.mean(side) for side in sides)
        both = np.isfinite(left) & np.isfinite(right)
        unscored = int((np.isfinite(left) ^ np.isfinite(right)).sum())
        if not both.any():
            return cls(None, unscored, ([], []), False, False, 0, 0)
        left, right = left[both], right[both]
        scale = float(max(np.abs(left).max(), np.abs(right).max()))
        difference = left - right
        difference[np.abs(difference) <= ROUNDING * scale] = 0
        prompts, tasks = every.prompts[both], every.tasks[both]
        found = clusters(difference, prompts, tasks, aggregate, scale)
        single = len(a) == len(b) == 1
        binary = single and bool(np.isin(left, (0, 1)).all() and np.isin(right, (0, 1)).all())
        strata = pd.factorize(tasks)[0] if aggregate == "task_mean" else np.zeros(len(tasks), int)
        return cls(
            differences=found,
            unscored=unscored,
            seed_values=(
                _values(every.values[sides[0]][:, both], strata),
                _values(every.values[sides[1]][:, both], strata),
            ),
            binary=binary,
            single_image=bool((found.counts == 1).all()),
            only_a=int((difference > 0).sum()) if binary else 0,
            only_b=int((difference < 0).sum()) if binary else 0,
        )

    @property
    def seeds(self) -> int:
        """The number of training seeds of the side that has fewer."""
        return max(min(map(len, self.seed_values)), 1)

    @property
    def over_seeds(self) -> bool:
        """Whether a side is a mean over several training seeds."""
        return any(len(values) > 1 for values in self.seed_values)

    @property
    def one_stratum(self) -> bool:
        """Whether every prompt has the same weight: a plain mean, or a single task."""
        return self.differences is None or not self.differences.strata.any()

    def sums(self) -> np.ndarray:
        """Each prompt's summed difference, exactly 0 where it is but rounding, [P]."""
        found = self.differences
        if found is None:
            return np.zeros(0)
        return np.where(
            np.abs(found.sums) <= ROUNDING * found.scale * found.counts, 0.0, found.sums
        )

    def difference(self) -> Estimate:
        """How much higher a is than b; see :func:`paired_difference`."""
        if self.differences is None:
            return Estimate(math.nan, math.nan, math.nan, 0, self.unscored, 0)
        found = estimate_of(self.differences, self.unscored)
        seeds = [
            (float(np.var(values, ddof=1)) / len(values), len(values) - 1.0)
            for values in self.seed_values
            if len(values) > 1
        ]
        if not seeds:
            return found
        seed_variance = sum(variance for variance, _ in seeds)
        return replace(
            found,
            standard_error=math.sqrt(found.standard_error**2 + seed_variance),
            freedom=welch([(found.standard_error**2, found.freedom), *seeds]),
            seeds=self.seeds,
            seed_error=math.sqrt(seed_variance),
            seed_freedom=welch(seeds),
        )


def _values(values: np.ndarray, strata: np.ndarray) -> list[float]:
    """The value of each run, [R, S], that has one, over these samples."""
    found = []
    for run in values:
        known = np.isfinite(run)
        if known.any():
            _, codes = np.unique(strata[known], return_inverse=True)
            found.append(mean_of(np.bincount(codes, weights=run[known]), np.bincount(codes)))
    return found


def paired_difference(
    a: Sequence[pd.DataFrame], b: Sequence[pd.DataFrame], aggregate: str = "mean"
) -> Estimate:
    """How much higher ``a`` is than ``b``, sample by sample on the same prompts and noise.

    ``a`` and ``b`` are the runs of one or more training seeds each. Only samples that both sides
    scored count. What the two share, above all how hard a prompt is, cancels; what remains is the
    clustered error of the differences and, with several seeds, both sides' seed variance. With one
    run a side and one image a prompt, ``p_value`` is that of the paired t-test.
    """
    return Pairs.of(a, b, aggregate).difference()


def wins(a: Sequence[pd.DataFrame], b: Sequence[pd.DataFrame]) -> tuple[int, int, int]:
    """Prompts whose mean over common samples is higher for ``a``, equal, and higher for ``b``."""
    return wins_of(Pairs.of(a, b))


def wins_of(pairs: Pairs) -> tuple[int, int, int]:
    """(wins, ties, losses) of a by prompt."""
    sums = pairs.sums()
    return int((sums > 0).sum()), int((sums == 0).sum()), int((sums < 0).sum())


def effect_size(difference: Estimate) -> float:
    """Cohen's d_z: the difference in standard deviations of the prompts' differences.

    d_z = t / sqrt(n) with n prompts (Lakens 2013, Frontiers in Psychology 4:863): the mean over the
    standard deviation where every prompt has as many images. For a mean of task means, t is the
    stratified one. Training seeds have no part in it. NaN where the differences do not vary.
    """
    error = difference.prompt_error
    if not error > 0 or not difference.prompts:
        return math.nan
    return difference.value / error / math.sqrt(difference.prompts)


def odds(pairs: Pairs) -> float:
    """Images that only a has right for each that only b has right: the conditional odds ratio of
    matched pairs (Agresti, Categorical Data Analysis, section on matched pairs). NaN unless all
    scores are 0 or 1 and b has such images.
    """
    return pairs.only_a / pairs.only_b if pairs.binary and pairs.only_b else math.nan

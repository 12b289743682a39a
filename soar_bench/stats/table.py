"""One metric of many entrants on the same samples: every value, difference and p-value of a board.

A board of n entrants has n(n-1)/2 pairs, so everything is computed for many rows at once.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from soar_bench.stats.estimates import Estimate, Estimates, welch
from soar_bench.stats.layout import Clusters, Layout
from soar_bench.stats.pairs import Pair
from soar_bench.stats.permutation import sign_flip
from soar_bench.stats.scores import Aligned, Scores
from soar_bench.stats.seeds import Spread
from soar_bench.stats.skewness import skewness


class ScoreTable:
    """Scores of a metric: one row per run, one column per sample; runs are grouped by entrant."""

    def __init__(
        self,
        layout: Layout,
        values: np.ndarray,
        owner: np.ndarray,
        binary: np.ndarray | None = None,
        skewed: bool = False,
        of_run: bool = False,
    ) -> None:
        """``values`` [runs, samples] are NaN where unscored; ``owner`` [runs] is the number of the
        entrant that each run is a seed of, ascending from 0. ``binary`` says of each entrant
        whether its scores are right or wrong; by default all are that are 0 or 1. Intervals of
        single runs of ``skewed`` scores are corrected for it where the layout is a plain mean.
        Scores ``of_run`` are of the run as a whole, so that equal ones are not evidence by prompt.
        """
        self.layout = layout
        self._of_run = of_run
        self.owner = owner
        self._skewed = skewed and len(layout.strata) == 1
        #: names of tasks and prompts; None for a table of bare arrays
        self.aligned: Aligned | None = None
        self.run_values = values
        runs = layout.estimate(values)
        rows = np.flatnonzero(np.concatenate([[True], np.diff(owner) != 0]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a sample that no seed has
            #: mean over an entrant's seeds, [entrants, samples]
            self.values = np.array([np.nanmean(part, 0) for part in np.split(values, rows[1:])])
        sums, self._counts = layout.sums(self.values)
        self._means, self._residuals = layout.residuals(sums, self._counts)
        self._scale = float(np.abs(values[~np.isnan(values)]).max(initial=0.0))
        self._scored = ~np.isnan(self.values)
        self._complete = self._scored.all(1)
        self.spread = Spread.of(runs.value, owner, len(rows))
        if binary is None:
            other = (~np.isnan(values) & (values != 0) & (values != 1)).any(1)
            binary = np.bincount(owner, other, len(rows)) == 0
        self._binary = binary
        self.scored = np.bincount(owner, runs.scored, len(rows)).astype(int)
        self.unscored = np.bincount(owner, minlength=len(rows)) * layout.samples - self.scored

    @classmethod
    def of(
        cls,
        entrants: Sequence[Sequence[Scores | None]],
        aggregate: str,
        shares: bool = True,
        skewed: bool = False,
        of_run: bool = False,
    ) -> ScoreTable:
        """Return the table of entrants, each a sequence of its seeds' scores. Without ``shares``
        scores of 0 and 1 are not right or wrong, but on a wider scale. ``skewed`` ones lie to one
        side; those ``of_run`` are of each run as a whole.
        """
        aligned = Aligned.of([run for seeds in entrants for run in seeds], aggregate)
        owner = np.repeat(np.arange(len(entrants)), [len(seeds) for seeds in entrants])
        binary = None if shares else np.zeros(len(entrants), dtype=bool)
        table = cls(aligned.layout, aligned.values, owner, binary, skewed, of_run)
        table.aligned = aligned
        return table

    @cached_property
    def own(self) -> Estimates:
        """Each entrant's value over its seeds, [entrants].

        The variance of a mean over seeds has two parts that add: which prompts and noise were drawn
        (clustered, on the mean over seeds of each sample) and which training seeds (their variance
        over their number). The second also holds some of the first, so intervals err on the wide
        side.
        """
        prompts = self.layout.combine(self._means, self._residuals, self._counts)
        seeds = self.spread
        variances = np.array([prompts.variance, seeds.variance])
        freedom = welch(variances, np.array([prompts.freedom, seeds.freedom]))
        skew = None
        if self._skewed:
            skew = skewness(self._residuals, prompts.prompts)
            skew = np.where(seeds.seeds > 1, np.nan, skew)
        return Estimates(
            seeds.mean, variances.sum(0), freedom, self.scored, prompts.prompts, self._binary, skew
        ).rounded(self._scale)

    def value(self, entrant: int) -> Estimate:
        """Return one entrant's value with its parts of error and counts."""
        clusters = self.clusters(entrant)
        return _estimate(self.own, entrant, self.spread, self.unscored, clusters)

    def clusters(self, entrant: int) -> Clusters | None:
        """Return an entrant's scores by prompt; None if it has none."""
        return self.layout.clusters(self.values[entrant], self._scale)

    def only(self, chosen: np.ndarray) -> ScoreTable:
        """Return the table of the chosen samples alone (a mask [samples]), as a plain mean."""
        starts = np.zeros(self.layout.samples, dtype=bool)
        starts[self.layout.prompts] = True
        prompts = np.cumsum(starts)[chosen]
        layout = Layout.of(np.zeros(len(prompts), dtype=int), prompts, False)
        layout = replace(layout, parts=self.layout.parts)
        return ScoreTable(
            layout, self.run_values[:, chosen], self.owner, self._binary, self._skewed, self._of_run
        )

    @property
    def task_order(self) -> tuple[str, ...]:
        """Names of the tasks in the order in which the runs have them."""
        return () if self.aligned is None else self.aligned.task_order

    def by_task(self) -> dict[str, ScoreTable]:
        """Return the table of each task, as a plain mean, in the order of :attr:`task_order`."""
        if self.aligned is None:
            return {}
        names = self.aligned.task_names
        return {n: self.only(self.aligned.tasks == names.index(n)) for n in self.task_order}

    def of_prompts(self, ids: Collection[str]) -> ScoreTable:
        """Return the table of these prompts' samples, as a plain mean."""
        names: Collection[object] = () if self.aligned is None else self.aligned.prompt_ids
        chosen = np.array([str(name) in ids for name in names], dtype=bool)
        return self.only(chosen[self.layout.prompt_of_sample()])

    def prompt_means(self) -> np.ndarray:
        """Return each entrant's mean over each prompt's images, NaN where it has none:
        [entrants, prompts].
        """
        sums, counts = self.layout.sums(self.values)
        return np.divide(sums, counts, out=np.full(sums.shape, math.nan), where=counts > 0)

    def differences(self, base: int, others: np.ndarray) -> Estimates:
        """Return how much higher each of ``others`` is than entrant ``base`` on the samples that
        both have, [others]: the clustered error of the differences and both sides' seed variance.
        """
        return self._differences(base, others)[0]

    def _differences(self, base: int, others: np.ndarray) -> tuple[Estimates, list[Spread]]:
        """Return the differences and what the seeds of either side add to them."""
        if self._complete[base] and self._complete[others].all():
            # Means and residuals of a difference are differences of means and residuals.
            prompts = self.layout.combine(
                self._means[:, others] - self._means[:, base : base + 1],
                self._residuals[others] - self._residuals[base],
                self._counts[base : base + 1],
            )
            spreads = [self.spread.only(np.full(len(others), base)), self.spread.only(others)]
        else:
            prompts = self.layout.estimate(self.values[others] - self.values[base])
            spreads = self._common_spreads(base, others)
        variances = np.array([prompts.variance, *(seeds.variance for seeds in spreads)])
        freedoms = np.array([prompts.freedom, *(seeds.freedom for seeds in spreads)])
        total = replace(
            prompts, variance=variances.sum(0), freedom=welch(variances, freedoms)
        ).rounded(self._scale)
        # Where neither prompts nor seeds vary, a test of prompts alone would forget the seeds.
        several = (self.spread.seeds[base] > 1) | (self.spread.seeds[others] > 1)
        unknown = several & (total.variance == 0)
        return replace(total, freedom=np.where(unknown, np.nan, total.freedom)), spreads

    def _common_spreads(self, base: int, others: np.ndarray) -> list[Spread]:
        """Return what the seeds of ``base`` and of ``others`` add on the samples that both have."""
        base_runs = self.run_values[self.owner == base]
        masked = np.where(self._scored[others][:, None], base_runs, np.nan)
        values = self.layout.estimate(masked.reshape(-1, self.layout.samples)).value
        groups = np.repeat(np.arange(len(others)), len(base_runs))
        base_spread = Spread.of(values, groups, len(others))
        place = np.full(len(self.values), -1)
        place[others] = np.arange(len(others))
        rows = np.flatnonzero(place[self.owner] >= 0)
        masked = np.where(self._scored[base], self.run_values[rows], np.nan)
        values = self.layout.estimate(masked).value
        return [base_spread, Spread.of(values, place[self.owner[rows]], len(others))]

    def unpaired(self, base: int, others: np.ndarray) -> np.ndarray:
        """Return how many samples only one of the two has scored, for each of ``others``."""
        counts: np.ndarray = (self._scored[others] != self._scored[base]).sum(1)
        return counts

    def p_values(self, base: int, others: np.ndarray, differences: Estimates) -> np.ndarray:
        """Return the p-value of each of the :meth:`differences`, [others]; NaN where unknowable.

        The paired t-test. It has no scale where the differences do not vary; that all of them have
        one sign is still evidence, so p is then that of the exact sign-flip test; but not where
        they are one figure of each run.
        """
        p = differences.p_values()
        if self._of_run:
            return p
        for i in np.flatnonzero((differences.variance == 0) & (differences.freedom > 0)):
            p[i] = 1.0
            if differences.value[i] != 0:
                difference = self.values[others[i]] - self.values[base]
                p[i] = sign_flip(self.layout.clusters(difference, self._scale))[0]
        return p

    def pair(self, entrant: int, base: int) -> Pair:
        """Return everything about how ``entrant`` differs from ``base``."""
        others = np.array([entrant])
        differences, spreads = self._differences(base, others)
        sides = self.values[[entrant, base]]
        clusters = self.layout.clusters(sides[0] - sides[1], self._scale)
        left, right = sides[:, ~np.isnan(sides).any(0)]
        single = np.isin(self.owner, (entrant, base)).sum() == 2 and not self._of_run
        binary = bool(left.size and single and np.isin([left, right], (0, 1)).all())
        seeds, unscored = spreads[0].difference(spreads[1]), self.unpaired(base, others)
        difference = _estimate(differences, 0, seeds, unscored, clusters)
        p_value = _float(self.p_values(base, others, differences)[0])
        name = "t" if difference.standard_error > 0 else "sign-flip"
        return Pair(
            difference, p_value, "" if math.isnan(p_value) else name, clusters,
            over_seeds=any(spread.seeds[0] > 1 for spread in spreads), binary=binary,
            only_first=int((left > right).sum()) if binary else 0,
            only_second=int((left < right).sum()) if binary else 0,
        )  # fmt: skip

    def pairs(
        self, chosen: Sequence[int] | np.ndarray
    ) -> Iterator[tuple[int, np.ndarray, Estimates]]:
        """Yield every pair of the chosen entrants once: a base, several others, and how much higher
        the others are.
        """
        entrants = np.array(chosen, dtype=int)
        for position, base in enumerate(entrants[:-1]):
            others = entrants[position + 1 :]
            yield int(base), others, self.differences(int(base), others)


def _estimate(
    rows: Estimates, row: int, spread: Spread, unscored: np.ndarray, clusters: Clusters | None
) -> Estimate:
    """Return one row with the figures that are computed for single rows only."""
    seed_freedom = float(spread.freedom[row])
    return Estimate(
        value=_float(rows.value[row]), standard_error=_float(np.sqrt(rows.variance[row])),
        freedom=_float(rows.freedom[row]), scored=int(rows.scored[row]),
        unscored=int(unscored[row]), prompts=int(rows.prompts[row]),
        seeds=max(int(spread.seeds[row]), 1), seed_deviation=_float(spread.deviation[row]),
        seed_error=float(np.sqrt(spread.variance[row])),
        seed_freedom=seed_freedom if seed_freedom > 0 else math.nan,
        image_error=math.nan if clusters is None else clusters.image_error,
        binary=rows.binary is not None and bool(rows.binary[row]),
        skewness=math.nan if rows.skewness is None else _float(rows.skewness[row]),
    )  # fmt: skip


def _float(value: float) -> float:
    """Return a float whose NaN is ``math.nan`` itself, so that equal estimates compare equal."""
    return math.nan if math.isnan(value) else float(value)

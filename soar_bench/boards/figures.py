"""The figures of a whole board at once: values, differences and tests over arrays.

The formulas are those of :mod:`soar_bench.stats` (cluster-robust variance by prompt, the unweighted
mean of tasks as independent strata, training seeds as a second level, Welch-Satterthwaite degrees
of freedom), written for many rows, since a board of n checkpoints has n(n-1)/2 pairs.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from scipy import special

#: Of intervals and, as its complement, of the tests behind ranks.
CONFIDENCE = 0.95
#: A standard error below this share of the largest value is rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Figures:
    """A value of each row with what is known of it. Every array is [rows]."""

    value: np.ndarray
    #: variance of the value; NaN where it cannot be known
    variance: np.ndarray
    #: degrees of freedom of its t distribution
    freedom: np.ndarray
    #: samples with a value
    scored: np.ndarray
    #: prompts with a value
    prompts: np.ndarray

    def interval(self, level: float = CONFIDENCE) -> tuple[np.ndarray, np.ndarray]:
        """Both ends of the two-sided interval; NaN where it cannot be known.

        That all prompts agree says nothing of those that were not asked: no interval either.
        """
        with np.errstate(invalid="ignore"):
            width = special.stdtrit(self.freedom, (1 + level) / 2) * np.sqrt(self.variance)
        width = np.where((self.freedom > 0) & (self.variance > 0), width, np.nan)
        return self.value - width, self.value + width

    @property
    def standard_error(self) -> np.ndarray:
        """The square root of the variance."""
        return np.sqrt(self.variance)

    def rounded(self, scale: float) -> Figures:
        """The same with a variance of 0 where it is rounding of values of that size."""
        with np.errstate(invalid="ignore"):
            nothing = self.variance <= (_ROUNDING * scale) ** 2
        return replace(self, variance=np.where(nothing, 0.0, self.variance))

    def p_values(self) -> np.ndarray:
        """Two-sided p-values of the t-test that the true value is 0; NaN where unknowable.

        Where all prompts have the same value, the t-test has no scale. The p-value is then that of
        the exact sign-flip test, ``2 ** (1 - prompts)``, and 1 for a value of 0.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.abs(self.value) / np.sqrt(self.variance)
            p = 2 * special.stdtr(self.freedom, -t)
            alike = np.where(self.value == 0, 1.0, np.exp2(1.0 - self.prompts))
        p = np.where(self.variance == 0, alike, p)
        return np.where(self.freedom > 0, p, np.nan)


def welch(variances: np.ndarray, freedoms: np.ndarray) -> np.ndarray:
    """Welch-Satterthwaite degrees of freedom of sums of independent variances.

    Both arrays are [parts, rows]; a part that a row does not have is 0 in both.
    """
    total = variances.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        below = np.where(variances > 0, variances**2 / freedoms, 0.0).sum(0)
        found = total**2 / below
    found = np.where(below > 0, found, freedoms.sum(0))
    return np.where(np.isnan(total), np.nan, found)


@dataclass(frozen=True)
class Layout:
    """Samples that lie together by prompt, and where each prompt begins."""

    #: number of samples
    samples: int
    #: first sample of each prompt, ascending: [prompts]
    prompts: np.ndarray
    #: prompts of each stratum
    strata: tuple[slice, ...]

    @classmethod
    def of(cls, tasks: np.ndarray, prompts: np.ndarray, stratified: bool) -> Layout:
        """``tasks`` and ``prompts`` are integer codes, equal ones side by side: [samples].

        ``stratified`` makes a stratum of each task, whose samples lie together too; else there is
        one stratum.
        """
        change = np.diff(prompts) != 0
        if stratified:
            change |= np.diff(tasks) != 0
        starts = np.flatnonzero(np.concatenate([[True], change]))
        if not stratified:
            return cls(len(tasks), starts, (slice(0, len(starts)),))
        first = np.flatnonzero(np.concatenate([[True], np.diff(tasks[starts]) != 0]))
        ends = [*first[1:], len(starts)]
        return cls(len(tasks), starts, tuple(map(slice, first.tolist(), map(int, ends))))

    def sums(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sums and counts by prompt of values [rows, samples], NaN where there is none."""
        known = ~np.isnan(values)
        sums = np.add.reduceat(np.where(known, values, 0.0), self.prompts, axis=1)
        return sums, np.add.reduceat(known, self.prompts, axis=1, dtype=np.int64)

    def parts(self, sums: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The means of each row's strata, [strata, rows], and what each prompt's sum has above
        them, [rows, prompts], from sums and counts [rows, prompts].
        """
        means = np.empty((len(self.strata), len(sums)))
        above = np.empty(sums.shape)
        for mean, stratum in zip(means, self.strata, strict=True):
            total, count = sums[:, stratum], counts[:, stratum]
            with np.errstate(divide="ignore", invalid="ignore"):
                mean[:] = total.sum(1) / count.sum(1)
                above[:, stratum] = total - count * mean[:, None]
        return means, above

    def figures(self, means: np.ndarray, above: np.ndarray, counts: np.ndarray) -> Figures:
        """The figures of rows from their :meth:`parts` and counts [rows, prompts]; the counts are
        [1, prompts] where all rows have the same.

        The variance of a stratum's mean is ``K/(K-1) sum(r**2) / n**2`` over its K prompts, where
        ``r`` is a prompt's summed residual (Cameron and Miller 2015, equations 6 and 12). Strata
        in which a row has nothing are left out of its mean.
        """
        variances, freedoms = np.empty(means.shape), np.empty(means.shape)
        for k, stratum in enumerate(self.strata):
            count = counts[:, stratum]
            n, clusters = count.sum(1), (count > 0).sum(1)
            squares = np.einsum("rc,rc->r", above[:, stratum], above[:, stratum])
            with np.errstate(divide="ignore", invalid="ignore"):
                variance = clusters / (clusters - 1) * squares / n**2.0
            variances[k] = np.where(n > 0, np.where(clusters > 1, variance, np.nan), 0.0)
            freedoms[k] = np.where(n > 0, clusters - 1.0, 0.0)
        has = ~np.isnan(means)
        parts = has.sum(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.where(has, means, 0.0).sum(0) / parts
            variance = np.where(parts > 0, variances.sum(0) / parts**2.0, np.nan)
        freedom = np.where(parts > 0, welch(variances, freedoms), np.nan)
        every = np.ones(len(above), dtype=int)
        return Figures(value, variance, freedom, counts.sum(1) * every, (counts > 0).sum(1) * every)

    def estimate(self, values: np.ndarray) -> Figures:
        """The figures of values [rows, samples], NaN where there is none."""
        sums, counts = self.sums(values)
        return self.figures(*self.parts(sums, counts), counts)


@dataclass(frozen=True)
class Spread:
    """What training seeds add to the values of groups of runs. Every array is [groups]."""

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
        """From runs' values, NaN where one has none, and each run's group: [runs]."""
        known = ~np.isnan(values)
        seeds = np.bincount(group, known, groups)
        sums = np.bincount(group, np.where(known, values, 0.0), groups)
        several = seeds > 1
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = sums / seeds
            squares = np.bincount(group, np.where(known, values - mean[group], 0.0) ** 2, groups)
            deviation = np.where(several, np.sqrt(squares / (seeds - 1)), np.nan)
            variance = np.where(several, deviation**2 / seeds, 0.0)
        return cls(seeds.astype(int), mean, deviation, variance, np.where(several, seeds - 1, 0.0))

    def only(self, groups: np.ndarray) -> Spread:
        """The same of some groups, given by their numbers."""
        return Spread(*(getattr(self, field.name)[groups] for field in fields(self)))


class Column:
    """One metric of a board's entrants, all on the same samples."""

    def __init__(self, layout: Layout, values: np.ndarray, owner: np.ndarray) -> None:
        """``values`` are the runs' [runs, samples], NaN where unscored; ``owner`` says which
        entrant each run is a seed of, ascending from 0: [runs].
        """
        self.layout = layout
        self.owner = owner
        self._given = values
        self.runs = layout.estimate(values)
        rows = np.flatnonzero(np.concatenate([[True], np.diff(owner) != 0]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a sample that no seed has
            self.values = np.array([np.nanmean(part, 0) for part in np.split(values, rows[1:])])
        sums, self._counts = layout.sums(self.values)
        self._means, self._above = layout.parts(sums, self._counts)
        known = np.abs(values[~np.isnan(values)])
        self._scale = float(known.max()) if known.size else 0.0
        self._whole = ~np.isnan(self.values).any(1)
        self.spread = Spread.of(self.runs.value, owner, len(rows))
        self.scored = np.bincount(owner, self.runs.scored, len(rows)).astype(int)
        self.unscored = np.bincount(owner, minlength=len(rows)) * layout.samples - self.scored

    def own(self) -> Figures:
        """Each entrant's value over its seeds, [entrants]."""
        found = self.layout.figures(self._means, self._above, self._counts)
        seeds = self.spread
        variances = np.array([found.variance, seeds.variance])
        freedom = welch(variances, np.array([found.freedom, seeds.freedom]))
        return Figures(seeds.mean, variances.sum(0), freedom, self.scored, found.prompts).rounded(
            self._scale
        )

    def only(self, chosen: np.ndarray) -> Column:
        """The same of the chosen samples alone, as a plain mean; ``chosen`` is a mask [samples]."""
        starts = np.zeros(self.layout.samples, dtype=bool)
        starts[self.layout.prompts] = True
        first = np.flatnonzero(starts[chosen])
        layout = Layout(int(chosen.sum()), first, (slice(0, len(first)),))
        return Column(layout, self._given[:, chosen], self.owner)

    def differences(self, one: int, others: np.ndarray) -> Figures:
        """How much higher each of ``others`` is than entrant ``one`` on the samples that both have;
        [others].
        """
        if self._whole[one] and self._whole[others].all():
            # Means and residuals of a difference are differences of means and residuals.
            found = self.layout.figures(
                self._means[:, others] - self._means[:, one : one + 1],
                self._above[others] - self._above[one],
                self._counts[one : one + 1],
            )
            spreads = [self.spread.only(np.full(len(others), one)), self.spread.only(others)]
        else:
            found = self.layout.estimate(self.values[others] - self.values[one])
            spreads = self._common_spreads(one, others)
        variances = np.array([found.variance, *(seeds.variance for seeds in spreads)])
        freedoms = np.array([found.freedom, *(seeds.freedom for seeds in spreads)])
        together = Figures(
            found.value, variances.sum(0), welch(variances, freedoms), found.scored, found.prompts
        ).rounded(self._scale)
        # Where neither prompts nor seeds vary, a test of prompts alone would forget the seeds.
        several = (self.spread.seeds[one] > 1) | (self.spread.seeds[others] > 1)
        unknown = several & (together.variance == 0)
        return replace(together, freedom=np.where(unknown, np.nan, together.freedom))

    def _common_spreads(self, one: int, others: np.ndarray) -> list[Spread]:
        """What the seeds of ``one`` and of each of ``others`` add on the samples that both have."""
        known = ~np.isnan(self.values)
        mine = self._given[self.owner == one]
        masked = np.where(known[others][:, None], mine, np.nan).reshape(-1, self.layout.samples)
        groups = np.repeat(np.arange(len(others)), len(mine))
        ours = Spread.of(self.layout.estimate(masked).value, groups, len(others))
        place = np.full(len(self.values), -1)
        place[others] = np.arange(len(others))
        rows = np.flatnonzero(place[self.owner] >= 0)
        masked = np.where(known[one], self._given[rows], np.nan)
        values = self.layout.estimate(masked).value
        return [ours, Spread.of(values, place[self.owner[rows]], len(others))]

    def lonely(self, one: int, others: np.ndarray) -> np.ndarray:
        """Samples that only one of the two has, for each of ``others``."""
        known = ~np.isnan(self.values)
        found: np.ndarray = (known[others] != known[one]).sum(1)
        return found

    def pairs(self, chosen: Sequence[int]) -> Iterator[tuple[int, np.ndarray, Figures]]:
        """Every pair of the chosen entrants once: one, several others, and how much higher the
        others are.
        """
        every = np.array(chosen, dtype=int)
        for position, one in enumerate(every[:-1]):
            others = every[position + 1 :]
            yield int(one), others, self.differences(int(one), others)


def rejected(p: np.ndarray, level: float = 1 - CONFIDENCE) -> np.ndarray:
    """Which of several tests reject by Holm's method (Scandinavian Journal of Statistics 1979).

    The smallest of m p-values is held against level/m, the next against level/(m-1), and so on; the
    first that does not reject ends it. NaN is no test: it never rejects and is not counted.
    """
    tests = np.flatnonzero(~np.isnan(p))
    order = tests[np.argsort(p[tests], kind="stable")]
    passes = p[order] <= level / np.arange(len(order), 0, -1)
    count = len(order) if passes.all() else int(np.argmin(passes))
    found = np.zeros(len(p), dtype=bool)
    found[order[:count]] = True
    return found


def rank_ranges(column: Column, higher_is_better: bool) -> dict[int, tuple[int, int]]:
    """The best and the worst rank that each entrant with a value could have.

    By paired t-tests of every two with Holm's correction over all of them, an entrant's best rank
    is 1 + the number of those significantly better, its worst n - the number of those significantly
    worse.
    """
    entrants = len(column.spread.seeds)
    ranked = [int(i) for i in np.flatnonzero(column.spread.seeds > 0)]
    pairs: list[tuple[int, np.ndarray]] = []
    p_values, signs = [np.empty(0)], [np.empty(0)]
    for one, others, found in column.pairs(ranked):
        pairs.append((one, others))
        p_values.append(found.p_values())
        signs.append(found.value if higher_is_better else -found.value)
    significant = rejected(np.concatenate(p_values))
    won = significant & (np.concatenate(signs) < 0)
    lost = significant & (np.concatenate(signs) > 0)
    worse, better = np.zeros(entrants, dtype=int), np.zeros(entrants, dtype=int)
    at = 0
    for one, others in pairs:
        part = slice(at, at + len(others))
        worse[one] += won[part].sum()
        better[one] += lost[part].sum()
        better[others] += won[part]
        worse[others] += lost[part]
        at += len(others)
    return {i: (1 + int(better[i]), len(ranked) - int(worse[i])) for i in ranked}

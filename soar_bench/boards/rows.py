"""Rows of a comparison, and the verdict on a pair in plain words."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from soar_bench.stats import CONFIDENCE, Estimate, Pair, sign_flip

#: The kinds of intervals; values of right and wrong have Wilson's, whichever is asked for.
ANALYTIC, BOOTSTRAP, WILSON = "analytic", "bootstrap", "wilson"
#: The test of a pair that every page shows, and the one that ``compare`` has besides.
T_TEST, EXACT = "t", "exact"
BETTER, WORSE = "better", "worse"
NO_EVIDENCE = "no evidence of a difference at this size"
TOO_FEW = "too few prompts or seeds to tell"
#: Ends the verdict where the two sides were not measured alike.
NOT_ALIKE = " (not measured alike)"
#: Meaning of the names of tests.
TESTS = {
    "t": "paired t-test on prompt means",
    "McNemar": "McNemar's exact test",
    "sign-flip": "exact sign-flip test by prompt",
    "sign-flip, drawn": "sign-flip test by prompt, from random flips",
}
_UNKNOWN = (math.nan, math.nan)


@dataclass(frozen=True)
class Row:
    """One metric of one entrant, and how it differs from the first entrant.

    Numbers are NaN where they cannot be known, and for the first entrant. Differences have the
    metric's sign; wins, losses and odds are in its direction: a win is better.
    """

    metric: str
    entrant: str
    value: Estimate
    #: paired, to the first entrant; None for the first itself
    difference: Estimate | None = None
    verdict: str = ""
    #: whether more of the metric is better
    higher_is_better: bool = True
    unit: str = ""
    #: of the intervals, and 1 - level is the error rate of the verdict
    level: float = CONFIDENCE
    value_interval: tuple[float, float] = _UNKNOWN
    #: the difference's
    interval: tuple[float, float] = _UNKNOWN
    #: which intervals are shown: :data:`ANALYTIC`, :data:`BOOTSTRAP` or, of a value, :data:`WILSON`
    value_interval_by: str = ""
    interval_by: str = ""
    p_value: float = math.nan
    #: by Holm's method over the metrics of this entrant
    p_corrected: float = math.nan
    #: how many tests were corrected for
    tests: int = 0
    #: which test the p-value is from: see :data:`TESTS`; empty where there is none
    test: str = ""
    #: Cohen's d_z
    effect: float = math.nan
    #: for right and wrong: images that only this one has right for each that only the first has
    odds: float = math.nan
    #: prompts
    wins: int = 0
    ties: int = 0
    losses: int = 0
    #: prompts, and images of each prompt, to see the difference that was observed
    needed: float = math.nan
    needed_images: float = math.nan
    #: the same for a difference of ``detect``
    detect: float = math.nan
    detect_prompts: float = math.nan
    detect_images: float = math.nan
    #: of the prompts, where the row is one of a breakdown; empty where it is of all
    category: str = ""
    #: False if the two sides were not measured alike
    alike: bool = True
    #: the differences by prompt behind the row; None for the first entrant
    pair: Pair | None = field(default=None, repr=False, compare=False)

    @property
    def disagrees(self) -> bool:
        """Whether the verdict contradicts the interval, which is not corrected."""
        low, high = self.interval
        unlike = low > 0 or high < 0
        return not math.isnan(low) and unlike != self.verdict.startswith((BETTER, WORSE))

    def p_against(self, threshold: float) -> float:
        """Return the two-sided p-value of the t-test that the true difference is ``threshold``; the
        exact one of signs where differences do not vary, NaN where it cannot be known.
        """
        if self.difference is None or self.pair is None or self.pair.clusters is None:
            return math.nan
        if not self.pair.test:
            return math.nan
        if not self.difference.freedom > 0 or self.difference.standard_error > 0:
            return self.difference.p_value(threshold)
        clusters = self.pair.clusters
        return sign_flip(replace(clusters, sums=clusters.sums - threshold * clusters.counts))[0]


def verdict(
    difference: Estimate | None,
    higher_is_better: bool,
    p_value: float | None = None,
    level: float = CONFIDENCE,
    pair: Pair | None = None,
) -> str:
    """Return the difference in plain words; "better" and "worse" only for p up to 1 - level.

    ``p_value`` is the corrected one; without it, that of the t-test: it agrees with the interval.
    ``pair`` has the differences by prompt, which say more where there is no standard error.
    """
    if difference is None:
        return ""
    if not difference.scored:
        return "nothing in common to compare"
    several, error = difference.prompts > 1, difference.standard_error
    equal = difference.value == 0 and error == 0
    if several and (equal or (math.isnan(error) and pair is not None and pair.equal)):
        return "equal on every prompt"
    p_value = difference.p_value() if p_value is None else p_value
    if math.isnan(p_value) and difference.freedom > 0 and difference.standard_error == 0:
        return "one figure of each run, whose error is not known"
    if math.isnan(p_value):
        alone = several and pair is not None and pair.lone_prompt
        return TOO_FEW + (": a task has one prompt only" if alone else "")
    if p_value > 1 - level:
        return NO_EVIDENCE
    return BETTER if (difference.value > 0) == higher_is_better else WORSE

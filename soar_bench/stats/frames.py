"""The statistics on frames of one metric, as ``scores.parquet`` has them.

Frames have the columns prompt_id, task, index and value (missing where unscored); a sequence holds
the training seeds of one side. ``aggregate`` is ``mean``, ``task_mean`` (the mean of task means) or
``stratified_mean`` (the mean where tasks and their numbers of prompts are fixed).
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from soar_bench.stats import bootstrap
from soar_bench.stats.estimates import CONFIDENCE, Estimate
from soar_bench.stats.pairs import Pair
from soar_bench.stats.permutation import DRAWS, sign_flip
from soar_bench.stats.scores import Scores
from soar_bench.stats.table import ScoreTable

_Frames = Sequence[pd.DataFrame]


def table_of(
    sides: Sequence[_Frames], aggregate: str = "mean", shares: bool = True, skewed: bool = False
) -> ScoreTable:
    """Return the table of several entrants, each a sequence of its seeds' frames."""
    runs = [[Scores.of(frame) for frame in side] for side in sides]
    return ScoreTable.of(runs, aggregate, shares, skewed)


def estimate(
    scores: pd.DataFrame, aggregate: str = "mean", shares: bool = True, skewed: bool = False
) -> Estimate:
    """Return the metric's value over one run's samples. A value that is not finite is missing.

    Scores of 0 and 1 are taken for right and wrong, unless not ``shares``. The interval of
    ``skewed`` scores is corrected for it.
    """
    return table_of([[scores]], aggregate, shares, skewed).value(0)


def over_seeds(runs: _Frames, aggregate: str = "mean") -> Estimate:
    """Return the value over trainings that differ by seed alone, on the same prompts and noise."""
    return table_of([runs], aggregate).value(0)


def pair_of(a: _Frames, b: _Frames, aggregate: str = "mean") -> Pair:
    """Return everything about how ``a`` differs from ``b``, paired by task, prompt id and index.

    Only samples that both sides scored count. What the two share, above all how hard a prompt is,
    cancels; what remains is the clustered error of the differences and, with several seeds, both
    sides' seed variance. With one run per side and one image per prompt, ``difference.p_value()``
    is that of the paired t-test.
    """
    return table_of([a, b], aggregate).pair(0, 1)


def bootstrap_interval(
    scores: pd.DataFrame, aggregate: str = "mean", level: float = CONFIDENCE, **draw: int
) -> tuple[float, float]:
    """Return the interval of :func:`estimate`'s value by the cluster bootstrap; ``draws`` and
    ``seed`` as in :func:`~soar_bench.stats.interval_of`.
    """
    table = table_of([[scores]], aggregate)
    return bootstrap.interval_of(table.clusters(0), table.value(0), level, **draw)


def paired_bootstrap(a: _Frames, b: _Frames, aggregate: str = "mean") -> tuple[float, float]:
    """Return the 95% interval of the difference of a :func:`pair_of` by the cluster bootstrap.

    ValueError if a side has several training seeds: resamples of a handful of seeds are too alike
    (of three, they hold two thirds of the variance), and resampling prompts alone would pass over
    them.
    """
    pair = pair_of(a, b, aggregate)
    if pair.over_seeds:
        raise ValueError("the bootstrap is of prompts; with several training seeds use the t test")
    return bootstrap.interval_of(pair.clusters, pair.difference)


def sign_flip_p(a: _Frames, b: _Frames, aggregate: str = "mean", draws: int = DRAWS) -> float:
    """Return the two-sided p-value of the sign-flip test that ``a`` and ``b`` are alike.

    ValueError if a side has several training seeds: no flip of prompts shows how seeds differ.
    """
    pair = pair_of(a, b, aggregate)
    if pair.over_seeds:
        raise ValueError("sign flips are of prompts; with several training seeds use the t test")
    return sign_flip(pair.clusters, draws)[0]


def mcnemar_p(a: _Frames, b: _Frames) -> float:
    """Return the two-sided p-value of McNemar's exact test: of the prompts that only one of both
    has right, as many belong to ``a`` as chance gives it, a half.

    It is :func:`sign_flip_p` for right and wrong with one image per prompt; ValueError otherwise.
    """
    pair = pair_of(a, b)
    if pair.clusters is not None and not (pair.binary and pair.single_image):
        raise ValueError("McNemar's test is of one image a prompt that is right (1) or wrong (0)")
    return sign_flip(pair.clusters)[0]

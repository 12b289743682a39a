"""The statistics on frames of one metric, as ``scores.parquet`` has them.

Frames have the columns prompt_id, task, index and value (missing where unscored); a sequence holds
the training seeds of one side. ``aggregate`` is ``mean``, ``task_mean`` (the mean of task means) or
``stratified_mean`` (the mean where tasks and their numbers of prompts are fixed).
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from soar_bench.stats.estimates import Estimate
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

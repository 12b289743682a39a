"""Ranks that say how sure they are."""

from __future__ import annotations

import numpy as np

from soar_bench.stats.correction import holm_array
from soar_bench.stats.estimates import CONFIDENCE
from soar_bench.stats.table import ScoreTable


def rank_ranges(table: ScoreTable, higher_is_better: bool) -> dict[int, tuple[int, int]]:
    """Return the best and the worst rank that each entrant with a value could have.

    By paired tests of every two with Holm's correction over all of them at 5%, an entrant's best
    rank is 1 + the number of those significantly better, its worst n - the number of those
    significantly worse.
    """
    ranked = np.flatnonzero(table.spread.seeds > 0)
    pairs = list(table.pairs(ranked))
    p_values = np.concatenate([np.empty(0), *(table.p_values(*pair) for pair in pairs)])
    gains = np.concatenate([np.empty(0), *(differences.value for _, _, differences in pairs)])
    signs = np.where(holm_array(p_values) <= 1 - CONFIDENCE, np.sign(gains), 0)
    signs = signs if higher_is_better else -signs
    better, worse = np.zeros((2, len(table.values)), dtype=int)
    start = 0
    for base, others, _ in pairs:
        sign = signs[start : start + len(others)]
        start += len(others)
        better[base] += (sign > 0).sum()
        worse[base] += (sign < 0).sum()
        better[others] += sign < 0
        worse[others] += sign > 0
    return {int(i): (1 + int(better[i]), len(ranked) - int(worse[i])) for i in ranked}

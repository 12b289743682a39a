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
    ranked = [int(i) for i in np.flatnonzero(table.spread.seeds > 0)]
    pairs: list[tuple[int, np.ndarray]] = []
    p_values, signs = [np.empty(0)], [np.empty(0)]
    for base, others, differences in table.pairs(ranked):
        pairs.append((base, others))
        p_values.append(table.p_values(base, others, differences))
        signs.append(differences.value if higher_is_better else -differences.value)
    significant = holm_array(np.concatenate(p_values)) <= 1 - CONFIDENCE
    won = significant & (np.concatenate(signs) < 0)
    lost = significant & (np.concatenate(signs) > 0)
    worse, better = np.zeros((2, len(table.values)), dtype=int)
    at = 0
    for base, others in pairs:
        part = slice(at, at + len(others))
        worse[base] += won[part].sum()
        better[base] += lost[part].sum()
        better[others] += won[part]
        worse[others] += lost[part]
        at += len(others)
    return {i: (1 + int(better[i]), len(ranked) - int(worse[i])) for i in ranked}

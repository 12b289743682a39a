"""Pairs, the bootstrap and the sign-flip test on frames of one metric; sides are lists of seeds."""

from __future__ import annotations

from soar_bench.stats import CONFIDENCE, interval_of, sign_flip
from soar_bench.stats.frames import table_of


def pair_of(a, b, aggregate="mean"):
    return table_of([a, b], aggregate).pair(0, 1)


def bootstrap_interval(scores, aggregate="mean", level=CONFIDENCE, **draw):
    table = table_of([[scores]], aggregate)
    return interval_of(table.clusters(0), table.value(0), level, **draw)


def sign_flip_p(a, b, **draw):
    return sign_flip(pair_of(a, b).clusters, **draw)[0]

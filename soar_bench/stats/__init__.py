"""Standard errors, differences and tests; docs/statistics.md explains them.

Images of one prompt are not independent, so prompts are the clusters of every standard error
(cluster-robust variance of a mean: Cameron and Miller, "A Practitioner's Guide to Cluster-Robust
Inference", 2015, equations 6 and 12; for evaluations: Miller, arXiv 2411.00640). GenEval's overall
is an unweighted mean of task means; its variance is that of a mean of independent strata.

:class:`ScoreTable` computes over arrays, for all entrants of a board at once. The functions of
:mod:`soar_bench.stats.frames` take frames of ``scores.parquet``.
"""

from soar_bench.stats.bootstrap import interval_of
from soar_bench.stats.correction import holm
from soar_bench.stats.estimates import CONFIDENCE, Estimate, Estimates, welch
from soar_bench.stats.frames import estimate, over_seeds
from soar_bench.stats.layout import Layout
from soar_bench.stats.pairs import Pair, effect_size
from soar_bench.stats.permutation import sign_flip
from soar_bench.stats.power import images_needed, prompts_needed
from soar_bench.stats.ranks import rank_ranges
from soar_bench.stats.scores import Scores
from soar_bench.stats.seeds import Spread
from soar_bench.stats.table import ScoreTable

__all__ = [
    "CONFIDENCE", "Estimate", "Estimates", "Layout", "Pair", "ScoreTable", "Scores", "Spread",
    "effect_size", "estimate", "holm", "images_needed", "interval_of", "over_seeds",
    "prompts_needed", "rank_ranges", "sign_flip", "welch",
]  # fmt: skip

"""Standard errors and differences that can be believed; docs/statistics.md explains them.

Images of one prompt are not independent, so prompts are the clusters of every standard error
(cluster-robust variance of a mean: Cameron and Miller, "A Practitioner's Guide to Cluster-Robust
Inference", 2015, eq. 6 and 12; for evaluations: Miller, arXiv 2411.00640). GenEval's overall is an
unweighted mean of task means; its variance is that of a mean of independent strata.

Functions take frames of one metric with the columns prompt_id, task, index and value, as
``scores.parquet`` has them; where they take a sequence, it holds the training seeds of one side.
"""

from soar_bench.stats.bootstrap import bootstrap_interval, paired_bootstrap
from soar_bench.stats.correction import holm
from soar_bench.stats.estimates import Estimate, estimate, over_seeds
from soar_bench.stats.pairs import Pairs, effect_size, odds, paired_difference, wins
from soar_bench.stats.permutation import mcnemar_p, sign_flip_p
from soar_bench.stats.power import images_needed, prompts_needed

__all__ = [
    "Estimate",
    "Pairs",
    "bootstrap_interval",
    "effect_size",
    "estimate",
    "holm",
    "images_needed",
    "mcnemar_p",
    "odds",
    "over_seeds",
    "paired_bootstrap",
    "paired_difference",
    "prompts_needed",
    "sign_flip_p",
    "wins",
]

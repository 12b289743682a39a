"""From samples and evaluators to scores.

- :mod:`soar_bench.scoring.judges`: evaluators, resolved from names or objects
- :mod:`soar_bench.scoring.images`: images from elsewhere; their layouts are read by
  :mod:`soar_bench.scoring.folders`
- :mod:`soar_bench.scoring.scores`: scores that are missing, in batches by position
"""

"""Records of runs: one folder per run, with ``run.json`` and ``scores.parquet``.

- :mod:`~soar_bench.records.model`: the contents of ``run.json``
- :mod:`~soar_bench.records.run`: a run on disk, read and written
- :mod:`~soar_bench.records.folders`: runs by what a person types, and deleted
- :mod:`~soar_bench.records.assembly`, :mod:`~soar_bench.records.provenance`: what eval and score
  write
- :mod:`~soar_bench.records.verify`, :mod:`~soar_bench.records.export`,
  :mod:`~soar_bench.records.imports`: checked, for other programs, from other programs

docs/records.md describes both files.
"""

from soar_bench.records.model import IMAGES, RunDraft, RunRecord
from soar_bench.records.run import (
    COLUMNS,
    RUN_FILE,
    SCORES_FILE,
    Run,
    folder_of,
    metrics_of,
    primary_metric,
    read_run,
    read_runs,
    run_folders,
    score_frame,
    write_run,
)

__all__ = [
    "COLUMNS", "IMAGES", "RUN_FILE", "SCORES_FILE", "Run", "RunDraft", "RunRecord", "folder_of",
    "metrics_of", "primary_metric", "read_run", "read_runs", "run_folders", "score_frame",
    "write_run",
]  # fmt: skip

"""Fixtures: folders of records made by hand."""

from __future__ import annotations

import board_records
import pandas as pd
import pytest
from compared import record, rows_of
from records_by_hand import declared, write_run

from soar_bench.boards import compare
from soar_bench.records import read_runs


@pytest.fixture()
def place(tmp_path):
    """place(label, {metric: values}, ...) writes a record; place.rows() compares all."""

    def write(label, scores, declare=None, tasks=None, texts=None, **keywords):
        metrics = {name: (declare or {}).get(name, declared()) for name in scores}
        rows = [row for name, v in scores.items() for row in rows_of(name, v, tasks, texts)]
        run = write_run(tmp_path / "r", record(label, metrics, **keywords), pd.DataFrame(rows))
        return str(run.folder)

    write.results = tmp_path / "r"
    write.rows = lambda **options: {
        (row.metric, row.entrant): row for row in compare(read_runs(tmp_path / "r"), **options).rows
    }
    return write


@pytest.fixture()
def results(tmp_path):
    """Base, two seeds of SFT and three of SOAR."""
    folder = tmp_path / "results"
    write_run(folder, board_records.record("shapes", "base"), board_records.scores(0.3))
    for name, seeds, probability in (("sft", 2, 0.5), ("soar", 3, 0.9)):
        for seed in range(seeds):
            board_records.write_trained(folder, name, seed, probability)
    return folder

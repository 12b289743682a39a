"""Seconds per image and peak memory of runs."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import soar_bench as sb
from evaluators import Evaluator, Metric, Score
from soar_bench.core import memory
from soar_bench.output import costs
from soar_bench.records.folders import survey


class Constant(Evaluator):
    name = "constant"
    metrics = (Metric("constant", "share", (0.0, 1.0), True, "1", "test", "one half"),)

    def score(self, samples):
        return [{"constant": Score(0.5)} for _ in samples]


def test_a_row_per_stage_with_seconds_of_what_was_done(tmp_path):
    images = list(np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8))
    places = {"results": tmp_path / "results", "cache": tmp_path / "cache"}
    run = sb.score(images, "a", evaluators=[Constant()], label="a\tb", **places)
    generate, constant = costs.rows(survey(tmp_path / "results"))
    assert generate["stage"] == "generate" and generate["images"] == 0
    assert generate["s/image"] is None and constant["peak GiB"] is None
    seconds = run.record.made.seconds["constant"]
    peaks = run.record.made.peaks
    assert list(peaks) == ["constant"] and "gpu" not in peaks["constant"]
    if sys.platform == "linux":
        assert 0.05 < constant["process GiB"] < 20 and generate["process GiB"] is None
    assert constant["images"] == 4 and constant["s/image"] == round(seconds / 4, 4)
    header, *lines = costs.lines(survey(tmp_path / "results"))
    assert header.split("\t") == list(costs.HEADER)
    titles, named, *stages = costs.table(survey(tmp_path / "results")).plain.splitlines()
    assert len(stages) == len(lines) == 2
    assert titles.split()[:2] == ["stage", "images"] and "GiB" in titles
    assert "peak" not in titles, "of a GPU, of which there is nothing"
    assert named.split("  ")[1:] == ["a\\tb", "cpu"] and stages[1].split()[:2] == ["constant", "4"]
    assert max(map(len, (titles, named, *stages))) <= 60
    assert all(len(line.split("\t")) == len(costs.HEADER) for line in lines)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_each_stage_has_its_own_peak():
    """300 MB that are gone when the second watch begins are the first one's alone."""
    first = memory.Watch("cpu")
    np.ones(300_000_000, np.uint8)
    before = first.peaks()["process"]
    after = memory.Watch("cpu").peaks()["process"]
    assert 290e6 < before - after < 400e6


def test_a_gpus_peaks_are_by_stage(monkeypatch):
    resets = []
    monkeypatch.setattr("torch.cuda.reset_peak_memory_stats", resets.append)
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda device: 7 * 2**30)
    assert memory.Watch("cuda:0").peaks()["gpu"] == 7 * 2**30 and resets == ["cuda:0"]
    assert memory.largest_of([{"gpu": 3}, {"gpu": 5, "process": 1}, {}]) == {
        "gpu": 5, "process": 1
    }  # fmt: skip

"""Seconds per image and peak memory of runs."""

from __future__ import annotations

import numpy as np

import soar_bench as sb
from evaluators import Evaluator, Metric, Score
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
    assert constant["images"] == 4 and constant["s/image"] == round(seconds / 4, 4)
    header, *lines = costs.lines(survey(tmp_path / "results"))
    assert header.split("\t") == list(costs.HEADER)
    assert all(len(line.split("\t")) == len(costs.HEADER) for line in lines)

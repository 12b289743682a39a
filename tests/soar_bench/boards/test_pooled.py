"""Metrics that are means over all questions of all prompts, as GenEval 2's skills are."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from records_by_hand import contents, score_row, write_run

from evaluators import Metric, Score, scorer
from evaluators.dpg import DpgBench
from evaluators.geneval2 import GenEval2
from soar_bench.boards import Board, Entrant, compare
from soar_bench.records import read_runs
from soar_bench.records.assembly import summaries
from soar_bench.records.model import EvaluatorRecord, MetricRecord

#: questions of a skill in each prompt
COUNTS = [1, 3, 0, 2, 5, 1, 2, 4]
METRIC = next(metric for metric in GenEval2.metrics if metric.name == "geneval2_object")


def rows_of(probabilities):
    """``probabilities``: those of each prompt's questions of the skill."""
    for number, own in enumerate(probabilities):
        details = {"parts": len(own)} if len(own) else {}
        value = 100 * float(np.mean(own)) if len(own) else None
        yield score_row(
            f"p{number}", 0, value, f"prompt {number}", task=str(3 + number % 2),
            metric=METRIC.name, unscored="" if len(own) else "none", details=json.dumps(details),
        )  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    results, rng = tmp_path_factory.mktemp("pooled"), np.random.default_rng(0)
    declared = MetricRecord.of(METRIC)
    asked = []
    for label in ("base", "tuned"):
        asked.append([rng.random(n) for n in COUNTS])
        frame = pd.DataFrame(rows_of(asked[-1]))
        judge = EvaluatorRecord(given="", version="", identity={}, metrics={METRIC.name: declared})
        suite = {"name": "geneval2", "prompts": len(COUNTS), "images_per_prompt": 1}
        draft = contents(
            label, {METRIC.name: declared},
            digest=label, suite=suite,
        )  # fmt: skip
        draft["metrics"] = {
            name: summary.model_dump(mode="json")
            for name, summary in summaries(frame, {"e": judge}).items()
        }
        write_run(results, draft, frame)
    return read_runs(results), asked


def released(asked):
    """The sums of the released soft_tifa_analysis.py: every question of the skill counts once."""
    total, number = 0.0, 0
    for own in asked:
        for probability in own:
            total, number = total + probability, number + 1
    return 100 * total / number


def test_a_skills_figure_is_the_released_scripts_pooled_one(runs):
    (base, tuned), asked = runs
    for run, own in zip((base, tuned), asked, strict=True):
        assert run.metrics.loc[METRIC.name, "value"] == pytest.approx(released(own), rel=1e-12)
    mean_of_prompts = 100 * np.mean([own.mean() for own in asked[0] if len(own)])
    assert abs(mean_of_prompts - released(asked[0])) > 1


def test_its_error_and_difference_have_prompts_as_clusters(runs):
    """The ratio estimator's linearised variance: residuals by prompt over the questions."""
    (base, tuned), asked = runs
    board = Board.of([Entrant("base", (base,)), Entrant("tuned", (tuned,))])
    counts = np.array(COUNTS)
    sums = [np.array([100 * own.sum() for own in side]) for side in asked]

    def expected(totals):
        value = totals.sum() / counts.sum()
        residuals = (totals - value * counts)[counts > 0]
        prompts = len(residuals)
        return value, math.sqrt(prompts / (prompts - 1) * (residuals**2).sum()) / counts.sum()

    value = board.value(0, METRIC.name)
    assert (value.value, value.standard_error) == pytest.approx(expected(sums[0]))
    assert (value.scored, value.unscored, value.prompts) == (counts.sum(), 1, 7)
    assert math.isnan(value.image_error)
    difference = board.pair(1, 0, METRIC.name).difference
    assert (difference.value, difference.standard_error) == pytest.approx(
        expected(sums[1] - sums[0])
    )
    (row,) = [row for row in compare([base, tuned]).rows if row.entrant == "tuned"]
    assert row.difference.value == pytest.approx(released(asked[1]) - released(asked[0]))


def test_a_part_of_the_prompts_is_pooled_too(runs):
    (base, _), asked = runs
    board = Board.of([Entrant("base", (base,))])
    part = board.part({"p1", "p2", "p4"})
    assert part.value(0, METRIC.name).value == pytest.approx(
        released([asked[0][i] for i in (1, 2, 4)])
    )
    by_task = board.table(METRIC.name).by_task()
    assert by_task["4"].value(0).value == pytest.approx(released(asked[0][1::2]))
    assert base.record.metrics[METRIC.name].tasks["4"] == pytest.approx(released(asked[0][1::2]))


def test_categories_of_dpg_are_pooled():
    kinds = [metric for metric in DpgBench.metrics if metric.name.startswith("dpg_e")]
    assert {metric.aggregate for metric in kinds} == {"pooled"}


def test_a_pooled_score_without_its_number_of_parts_is_refused():
    metric = Metric("m", "share", (0.0, 1.0), True, "1", "s", "d", "pooled")
    for details in ({}, {"parts": 0}, {"parts": "2"}, {"parts": True}):
        with pytest.raises(scorer.BrokenContract, match="'parts' that say how many"):
            scorer._plain(GenEval2(), metric, Score(0.5, details=details))
    assert scorer._plain(GenEval2(), metric, Score(0.5, details={"parts": 2})).value == 0.5

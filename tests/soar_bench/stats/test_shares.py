"""Intervals of shares of right and wrong, and means whose tasks are fixed: known answers and how
often they hold.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from records_by_hand import contents, declared, write_run
from scipy import stats as scipy_stats
from stats_of_frames import pair_of

from benchmarks.coverage_shares import GENEVAL, coverage
from evaluators.geneval.evaluator import geneval, geneval_flow_grpo
from soar_bench.boards import Board, compare, group_seeds
from soar_bench.boards.standings import standings
from soar_bench.records import read_runs
from soar_bench.stats import estimate, interval_of, sign_flip


def frame(values, images=1, tasks=None):
    prompts = len(values) // images
    return pd.DataFrame(
        {
            "prompt_id": np.repeat([f"p{i:04d}" for i in range(prompts)], images),
            "task": np.repeat(tasks if tasks is not None else [""] * prompts, images),
            "index": np.tile(np.arange(images), prompts),
            "value": np.asarray(values, dtype=float),
        }
    )


@pytest.mark.parametrize("copied", [False, True], ids=["beta", "copied"])
@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("prompts", [20, 80, 100, 553])
def test_intervals_of_shares_cover_near_the_ends_too(prompts, correlation, copied):
    generator = np.random.default_rng(24)
    boards = 500 if prompts > 100 else 1000
    for share in (0.5, 0.9, 0.97, 0.99):
        _, held = coverage(generator, boards, [prompts], [share], correlation, copied)
        assert held >= 0.93, share


@pytest.mark.parametrize("share", [0.97, 0.99])
def test_the_overall_of_genevals_tasks_covers_near_one(share):
    generator = np.random.default_rng(25)
    for correlation in (0.0, 0.7):
        _, held = coverage(generator, 500, GENEVAL, [share] * 6, correlation)
        assert held >= 0.925


def test_the_t_interval_would_not_cover():
    held, _ = coverage(np.random.default_rng(26), 1000, [80], [0.99], 0.3)
    assert held < 0.8


@pytest.mark.parametrize("right", [300, 570, 594])
def test_with_one_image_per_prompt_it_is_wilsons(right):
    values = np.repeat([1.0, 0.0], [right, 600 - right])
    expected = scipy_stats.binomtest(right, 600).proportion_ci(0.95, "wilson")
    assert estimate(frame(values)).interval() == pytest.approx(expected, abs=2e-3)


def test_where_all_is_right_every_prompt_counts_once():
    """12 prompts of four images: 12 / (12 + t²), with t of 11 degrees of freedom."""
    t = scipy_stats.t.ppf(0.975, 11)
    assert estimate(frame([1.0] * 48, 4)).interval() == pytest.approx((12 / (12 + t**2), 1.0))
    assert estimate(frame([0.0] * 48, 4)).interval() == pytest.approx((0.0, t**2 / (12 + t**2)))
    assert estimate(frame([1.0] * 48, 4)).standard_error == 0


def test_scores_on_a_scale_keep_their_interval():
    values = np.random.default_rng(0).uniform(0.9, 1, size=40)
    sem = scipy_stats.sem(values)
    expected = scipy_stats.t.interval(0.95, 39, values.mean(), sem)
    assert estimate(frame(values)).interval() == pytest.approx(expected)
    binary = frame([1.0, 0.0] * 20)
    expected = scipy_stats.t.interval(0.95, 39, 0.5, scipy_stats.sem(binary["value"]))
    assert estimate(binary, shares=False).interval() == pytest.approx(expected)


def test_a_difference_of_shares_is_by_t():
    a, b = frame([1.0, 1.0, 1.0, 0.0] * 5), frame([1.0, 0.0, 1.0, 0.0] * 5)
    difference = pair_of([a], [b]).difference
    values = a["value"] - b["value"]
    expected = scipy_stats.t.interval(0.95, 19, values.mean(), scipy_stats.sem(values))
    assert difference.interval() == pytest.approx(expected)


# Pages

SUITE = {"prompts": 40, "images_per_prompt": 4}


def rows(metric, frame):
    return frame.assign(
        metric=metric, prompt=frame["prompt_id"], noise="0", image="0", unscored="", details="{}"
    )


def nearly_all_right(wrong):
    values = np.ones(160)
    values[:wrong] = 0
    return frame(values, 4, ["easy", "hard"] * 20)


def test_every_page_has_one_interval_inside_the_range(tmp_path):
    metrics = {"m": declared(range=[0.0, 1.0], aggregate="task_mean"), "open": declared()}
    for label, wrong in (("a", 0), ("b", 1)):
        both = [rows(name, nearly_all_right(wrong)) for name in metrics]
        draft = contents(label, metrics, suite=SUITE)
        write_run(tmp_path, draft, pd.concat(both, ignore_index=True))
    runs = read_runs(tmp_path)
    (board,) = standings(runs)
    by_page = {
        row.name: (row.cells["m"].value.low, row.cells["m"].value.high) for row in board.rows
    }
    for kind in ("analytic", "bootstrap"):
        table = compare(runs, interval=kind).to_frame().set_index(["metric", "checkpoint"])
        for label, ends in by_page.items():
            line = table.loc["m", label]
            assert (line["value_low"], line["value_high"]) == pytest.approx(ends)
            assert 0 < line["value_low"] < line["value"] <= line["value_high"] <= 1
            assert line["value_interval_by"] == "wilson"
        assert math.isnan(table.loc[("open", "a"), "value_low"]), "a constant on an open scale"
    for row in board.rows:
        for figure in row.parts[0]:
            assert 0 < figure.low < figure.value <= figure.high <= 1


# Tasks that are fixed


def test_fixed_tasks_leave_only_what_varies_inside_them():
    """V = sum of (n_k / n)² V_k over the tasks' prompts, the value is the plain mean."""
    rng = np.random.default_rng(3)
    sizes, shares = [18, 40, 10], [0.95, 0.4, 0.1]
    tasks = np.repeat(["a", "b", "c"], sizes)
    values = rng.random(68) < np.repeat(shares, sizes)
    estimated = estimate(frame(values, tasks=tasks), "stratified_mean")
    expected = sum(
        (n / 68 * scipy_stats.sem(values[tasks == name])) ** 2
        for name, n in zip("abc", sizes, strict=True)
    )
    assert estimated.value == pytest.approx(values.mean())
    assert estimated.standard_error == pytest.approx(math.sqrt(expected))


def test_the_standard_error_of_fixed_tasks_is_how_much_the_mean_varies():
    """GenEval's sizes: over all prompts alike it would be a fifth too wide."""
    rng = np.random.default_rng(4)
    shares = np.repeat([0.98, 0.8, 0.45, 0.85, 0.25, 0.3], GENEVAL)
    tasks = np.repeat([f"t{i}" for i in range(6)], GENEVAL)
    values = rng.random((200, 553)) < shares
    estimates = [estimate(frame(v, tasks=tasks), "stratified_mean") for v in values[:40]]
    errors = np.mean([e.standard_error for e in estimates])
    plain = np.mean([estimate(frame(v, tasks=tasks)).standard_error for v in values[:40]])
    assert errors == pytest.approx(values.mean(1).std(ddof=1), rel=0.15)
    assert plain / errors > 1.15


def test_a_task_of_one_prompt_leaves_the_plain_standard_error():
    scores = frame([1.0, 0.0, 1.0, 1.0, 0.0], tasks=["a", "a", "a", "a", "b"])
    both = estimate(scores, "stratified_mean"), estimate(scores)
    assert both[0].standard_error == pytest.approx(both[1].standard_error)


def test_pairs_flips_and_resamples_of_fixed_tasks_weigh_images_alike():
    rng = np.random.default_rng(5)
    tasks = np.repeat(["a", "b"], [10, 30])
    a, b = (frame(rng.random(40) < share, tasks=tasks) for share in (0.9, 0.4))
    fixed, plain = (pair_of([a], [b], mean) for mean in ("stratified_mean", "mean"))
    assert fixed.difference.value == pytest.approx(plain.difference.value)
    assert sign_flip(fixed.clusters)[0] == pytest.approx(sign_flip(plain.clusters)[0])
    low, high = interval_of(fixed.clusters, fixed.difference)
    assert (low, high) == pytest.approx(fixed.difference.interval(), abs=0.05)


def test_flow_grpos_mean_is_of_fixed_tasks():
    assert all(metric.stratified for metric in geneval_flow_grpo().metrics)
    assert not any(metric.stratified for metric in geneval().metrics)


def test_records_from_before_stand_on_the_board_of_newer_ones(tmp_path):
    for label, more in (("older", {}), ("newer", {"stratified": True})):
        metrics = {"geneval_flow_grpo": declared(range=[0.0, 1.0], **more)}
        scores = rows("geneval_flow_grpo", frame([1.0, 0.0] * 20, tasks=["a", "b"] * 20))
        write_run(tmp_path, contents(label, metrics, suite=SUITE), scores)
    runs = read_runs(tmp_path)
    assert len({run.board for run in runs}) == 1
    board = Board.of(group_seeds(runs))
    errors = [board.value(i, "geneval_flow_grpo").standard_error for i in range(2)]
    assert errors == [0.0, 0.0], "all that varies is the task"

"""Metrics while training in a report."""

from __future__ import annotations

import json
import re

import pytest
from report_by_hand import (
    evaluated,
    hand_run,
    look,
    say,
    story,
    trained,
    values_of,
)
from report_pages import FEW, Page

from soar_bench.records import read_runs
from soar_bench.report import (
    curves,
    evaluations,
    words,
)
from soar_bench.report.sections import sections_of


def drawn(runs):
    """The figures of metrics that a report of the runs has."""
    boards = sections_of(runs)
    logs, _ = curves.trainings(runs)
    return evaluations.figures(logs, curves.series_of(logs, boards), boards)


def shortened(figure):
    """A figure's rows with values alone, without their intervals."""
    return [tuple(re.sub(r" \[.*?\]", "", cell) for cell in row) for row in figure.rows]


def test_the_constants_are_those_of_the_trainer():
    from soar_bench.trainer import watch as train_watch
    from training import run

    assert (curves.METRICS_FILE, curves.CONFIG_FILE) == (run.METRICS_FILE, run.CONFIG_FILE)
    assert run.EVALUATIONS_FILE == evaluations.EVALUATIONS_FILE
    assert (train_watch.RESULTS, train_watch.UNSCORED) == (
        evaluations.RESULTS, evaluations.UNSCORED
    )  # fmt: skip


def test_metrics_are_shown_from_the_base_to_the_judged_checkpoint(tmp_path):
    folder, training = evaluated(tmp_path)
    run = hand_run(tmp_path / "r", None, 2, str(folder), training)
    plots = drawn([run])
    assert [figure.title for figure in plots] == [
        "hand under hand: right while training (share, higher is better)",
        "hand under hand: distance while training (<cm>, lower is better)",
        "hand under hand: read while training (share, higher is better)",
    ]
    right, distance, read = plots
    assert right.header == ("step", "sft")
    assert shortened(right) == [
        (str(step), f"{values_of(number)['right']:.3f}")
        for step, number in ((0, 0), (20, 1), (40, 2))
    ], "not step 60, which comes after the judged checkpoint"
    assert shortened(distance)[1] == ("20", f"{values_of(1)['distance']:.2f} (1 unscored)")
    assert "(10 unscored)" in read.rows[0][1]
    assert "6 prompts, 2 images each" in right.caption
    assert "Step 0 is the base" in right.caption
    assert "unscored" not in right.caption
    assert "Hollow points leave out unscored samples" in distance.caption
    assert "var(--surface)" in distance.svg, "hollow"
    assert "var(--surface)" not in right.svg


def test_metrics_have_the_intervals_of_their_records(tmp_path):
    folder, training = evaluated(tmp_path)
    run = hand_run(tmp_path / "r", None, 2, str(folder), training)
    board = sections_of([run])[0]
    summary = next(line for line in words.table(board) if line.row.metric == "distance")
    distance = drawn([run])[1]
    assert distance.rows[2] == ("40", f"{summary.value} (1 unscored)")
    assert "[" in summary.value
    assert "upright lines are 95% intervals" in distance.caption


@pytest.mark.usefixtures("no_plots")
def test_seeds_of_one_training_have_one_colour_and_their_names(tmp_path):
    runs = [hand_run(tmp_path / "r", None, 0, "base", **FEW)]
    for name, seed, number in (("sft", 0, 1), ("sft", 1, 2), ("soar", 0, 3)):
        folder, training = evaluated(tmp_path, name, seed, number, **FEW)
        runs.append(hand_run(tmp_path / "r", None, number + 1, str(folder), training, **FEW))
    (figure,) = drawn(runs)
    assert figure.header == ("step", "sft, seed 0", "sft, seed 1", "soar")
    assert figure.legend == ((1, "sft"), (2, "soar"))


@pytest.mark.usefixtures("no_plots")
def test_only_what_was_measured_alike_is_in_one_plot(tmp_path):
    runs = []
    for seed, steps in ((0, 20), (1, 20), (2, 10)):
        folder, training = evaluated(tmp_path, "sft", seed, steps=steps, **FEW)
        runs.append(hand_run(tmp_path / "r", None, seed + 1, str(folder), training, **FEW))
    plots = drawn(runs)
    assert [(figure.title.partition(":")[0], figure.header) for figure in plots] == [
        ("hand under hand", ("step", "sft, seed 0", "sft, seed 1")),
        ("hand under hand+steps=10", ("step", "sft")),
    ]


@pytest.mark.usefixtures("no_plots")
def test_metrics_without_their_records_are_shown_as_what_they_are(tmp_path):
    folder, training = trained(tmp_path)
    say(folder, look(0, geneval=0.5), look(20, geneval=0.25, mine=3.0),
        look(40, geneval=float("nan"), mine=True), {"step": True, "figures": {"mine": 1.0}},
        {"step": -20, "figures": {"mine": 1.0}}, {"step": 40, "figures": [1]})  # fmt: skip
    run = hand_run(tmp_path / "r", None, 2, str(folder), training)
    geneval, mine = drawn([run])
    assert (
        geneval.title == "geneval while training (share of images that are right, higher is better)"
    )
    assert geneval.rows == (("0", "0.500"), ("20", "0.250"))
    assert mine.title == "mine while training"
    assert mine.rows == (("0", "–"), ("20", "3.000"))
    assert "Which suite and protocol it is of is not known" in mine.caption
    assert "interval" not in mine.caption


def test_records_that_say_other_values_are_not_taken_for_those_of_the_figures(tmp_path):
    folder, training = evaluated(tmp_path, **FEW)
    say(folder, look(20, right=0.123))
    run = hand_run(tmp_path / "r", None, 2, str(folder), training, **FEW)
    (figure,) = drawn([run])
    assert figure.title == "right while training"
    assert "not known" in figure.caption


def test_a_metric_that_nothing_has_is_told_without_a_plot(tmp_path, write):
    folder, training = trained(tmp_path)
    say(folder, look(0, **{"ocr/unscored": 12}))
    run = hand_run(tmp_path / "r", None, 2, str(folder), training, **FEW)
    (figure,) = drawn([run])
    assert figure.svg == ""
    assert figure.rows == (("0", "– (12 unscored)"),)
    assert "No sample could be scored." in Page((write([run]) / "index.html").read_text()).text


def test_a_board_with_every_checkpoint_shows_the_same_points_once(tmp_path, write):
    folder, _ = evaluated(tmp_path, **FEW)
    runs = read_runs(folder / "results")
    assert drawn(runs) == []
    text = Page((write(runs) / "index.html").read_text()).text
    assert "hand under hand: right by training step" in text
    assert "while training" not in text
    without_step_20 = [run for run in runs if run.label != "c20"]
    assert [row[0] for row in drawn(without_step_20)[0].rows] == ["0", "20", "40", "60"]


def test_metrics_of_a_hostile_training_stay_text(tmp_path, write):
    name = '<img src=x onerror="alert(4)">'
    folder = tmp_path / "t"
    folder.mkdir()
    training = story(name, 0, 40)
    config = {"settings": training["config"], "base": "base", "data": "d"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.jsonl").write_text('{"step": 10, "loss": 1.0}\n')
    say(folder, look(0, **{"<script>m": 1.0}), look(20, **{"<script>m": 2.0}))
    run = hand_run(tmp_path / "r", None, 1, str(folder), training, **FEW)
    page = Page((write([run]) / "index.html").read_text())
    assert "<script>m while training" in page.text
    assert not [a for tag, a in page.elements if tag == "img"]
    assert [a for tag, a in page.elements if tag == "script"] == [
        {"src": "report.js"}, {"src": "data/b1.js"}
    ]  # fmt: skip

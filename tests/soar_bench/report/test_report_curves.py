"""Sweeps, training curves and drift in a report."""

from __future__ import annotations

import csv
import dataclasses
import json
import math

import numpy as np
import pytest
from report_by_hand import (
    hand_run,
    hand_runs,
    story,
    trained,
)
from report_pages import FEW, Page, constant

from soar_bench.core.errors import SoarBenchError
from soar_bench.report import (
    curves,
    drift,
    sweeps,
    words,
)
from soar_bench.report.sections import sections_of


@pytest.mark.usefixtures("no_plots")
def test_a_sweep_joins_boards_that_differ_in_the_steps_alone(tmp_path):
    runs = [run for steps in (10, 20, 40) for run in hand_runs(tmp_path / "r", None, steps=steps)]
    other = hand_run(tmp_path / "r", None, 0, "base", steps=80, resolution=32)
    figures = sweeps.protocol_sweeps(sections_of([*runs, other]))
    assert [figure.header for figure in figures] == [("checkpoint", "10", "20", "40")] * 3
    assert [row[0] for row in figures[0].rows] == ["base", "sft", "<b>soar</b>"]
    assert sweeps.protocol_sweeps(sections_of(runs[:4])) == []


@pytest.mark.usefixtures("no_plots")
def test_guidance_is_swept_too(tmp_path):
    runs = [run for g in (1.0, 4.5) for run in hand_runs(tmp_path / "r", None, guidance=g)]
    figures = sweeps.protocol_sweeps(sections_of(runs))
    assert {figure.header for figure in figures} == {("checkpoint", "1", "4.5")}


@pytest.mark.usefixtures("no_plots")
def test_checkpoints_of_one_training_make_a_curve_from_its_base(tmp_path):
    runs = [hand_run(tmp_path / "r", None, 0, "base")]
    for number, step in ((1, 100), (2, 200)):
        runs.append(hand_run(tmp_path / "r", None, number, f"s{step}", story("sft", 0, step)))
    figures = sweeps.training_sweeps(sections_of(runs))
    assert figures[0].header == ("checkpoint", "0", "100", "200")
    assert [row[0] for row in figures[0].rows] == ["sft"]


def test_checkpoints_of_one_training_stand_in_the_order_of_their_steps(tmp_path):
    runs = [hand_run(tmp_path / "r", None, n, "soar-seed0", story("soar", 0, step))
            for n, step in ((1, 200), (2, 1000), (3, 30))]  # fmt: skip
    other = [hand_run(tmp_path / "r", None, n, "sft-seed0", story("sft", 0, step))
             for n, step in ((4, 60), (5, 50))]  # fmt: skip
    base = hand_run(tmp_path / "r", None, 0, "base")
    (board,) = sections_of([runs[0], other[0], runs[1], base, other[1], runs[2]])
    assert [entrant.name for entrant in board.entrants] == [
        "base", "soar-seed0, step 30", "soar-seed0, step 200", "soar-seed0, step 1000",
        "sft-seed0, step 50", "sft-seed0, step 60",
    ]  # fmt: skip


def test_checkpoints_whose_names_have_commas_are_listed_without(tmp_path):
    runs = [hand_run(tmp_path / "r", None, n, f"c, {n}", story("sft", 0, n) if n else None,
                     value=constant) for n in range(3)]  # fmt: skip
    says = dict(words.findings(sections_of(runs)[0]))["right"]
    assert says.endswith(": c, 1 and c, 2.")


@pytest.mark.parametrize("inside", ["", "checkpoint-000040"])
def test_losses_are_read_up_to_the_checkpoints_step(tmp_path, inside):
    folder, training = trained(tmp_path)
    run = hand_run(tmp_path / "r", None, 1, str(folder / inside), training)
    (log,), without = curves.trainings([run])
    assert log.steps.tolist() == [10, 20, 30, 40]
    assert log.losses["loss"] == pytest.approx([0.1, 0.05, 1 / 30, 0.025])
    assert without == []
    drawing = curves.figure([log], curves.series_of([log], sections_of([run])))
    assert "on the line (base)" in drawing.svg
    assert "off the line" not in drawing.svg, "SFT has no auxiliary loss"


@pytest.mark.usefixtures("no_plots")
def test_another_trainings_losses_are_not_shown(tmp_path, write):
    folder, training = trained(tmp_path, data="other")
    run = hand_run(tmp_path / "r", None, 1, str(folder), training, **FEW)
    assert curves.trainings([run]) == ([], [str(folder)])
    assert "No training log is at hand of" in Page((write([run]) / "index.html").read_text()).text


def test_checkpoints_of_one_training_are_one_line(tmp_path):
    folder, _ = trained(tmp_path)
    runs = [hand_run(tmp_path / "r", None, n, str(folder / f"checkpoint-{step:06d}"),
                     story("sft", 0, step)) for n, step in ((1, 20), (2, 40))]  # fmt: skip
    (log,), _ = curves.trainings(runs)
    assert log.steps.tolist() == [10, 20, 30, 40]
    assert curves.series_of([log], sections_of(runs)) == {log.key: 1}, "as its last checkpoint"


def test_trainings_of_one_name_are_told_apart(tmp_path):
    runs = []
    for number, rate in ((1, 0.1), (2, 0.2)):
        (tmp_path / str(number)).mkdir()
        training = story("sft", 0, 40)
        training["config"]["lr"] = rate
        folder, _ = trained(tmp_path / str(number), settings=training["config"])
        run = hand_run(tmp_path / "r", None, number, str(folder), training)
        checkpoint = run.record.checkpoint.model_copy(update={"label": "sft-seed0"})
        record = run.record.model_copy(update={"checkpoint": checkpoint})
        runs.append(dataclasses.replace(run, record=record))
    logs, _ = curves.trainings(runs)
    boards = sections_of(runs)
    assert len({log.name for log in logs}) == 2
    for log, entrant in zip(logs, boards[0].entrants, strict=True):
        assert log.name.split(" ")[-1] == entrant.name.split(" ")[-1], "the board's own mark"
    assert list(curves.series_of(logs, boards).values()) == [0, 1]


def test_a_training_that_was_moved_is_found_by_the_records_in_it(tmp_path):
    folder, training = trained(tmp_path)
    run = hand_run(folder / "results", None, 1, "elsewhere/checkpoint-000040", training)
    (log,), without = curves.trainings([run])
    assert (log.folder, without) == (folder, [])


def test_the_running_mean_by_hand():
    values = np.asarray([1.0, 2.0, math.nan, 4.0])
    assert curves.running_mean(values).tolist() == [1.5, 1.5, 3.0, 4.0]


DRIFT = """\
timestep,sigma,checkpoint,steps_rolled,ratio,ratio_se
500,0.5,a,1,1.5,0.1
250,0.25,a,1,1.25,0.1
500,0.5,b,1,,
500,0.5,<i>x</i>,2,2,
"""


def test_drift_is_read_from_what_the_probe_writes(tmp_path):
    (tmp_path / "drift.csv").write_text(DRIFT)
    lines = list(csv.DictReader(DRIFT.splitlines()))
    (tmp_path / "drift.json").write_text(json.dumps({"rows": lines, "schema": 1}))
    (tmp_path / "list.json").write_text(json.dumps(lines))
    curves_read = drift.read(tmp_path / "drift.csv")
    assert {rolled: list(of) for rolled, of in curves_read.items()} == {
        "1": ["a"],
        "2": ["<i>x</i>"],
    }
    points = [(mark.x, mark.y, mark.interval) for mark in curves_read["1"]["a"]]
    assert points == [(250, 1.25, (1.15, 1.35)), (500, 1.5, (1.4, 1.6))]
    for name in ("drift.json", "list.json"):
        assert drift.read(tmp_path / name)["1"] == curves_read["1"]
    assert drift.named([tmp_path]) == [tmp_path / "drift.csv"]


def test_the_report_reads_the_files_of_the_drift_command():
    show = pytest.importorskip("soar_bench.drift.show")
    columns = {field.name for field in dataclasses.fields(show.DriftRow)}
    assert {*drift.COLUMNS, "steps_rolled", "ratio_se"} <= columns
    assert (show.CSV_FILE, show.JSON_FILE) == drift.FILES


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("timestep,ratio\n1,2\n", "row 1 lacks checkpoint"),
        ("timestep,checkpoint,ratio\n1,a,nan\n", "row 1 has a timestep or a ratio"),
        ("timestep,checkpoint,ratio\nx,a,1\n", "row 1 has a timestep or a ratio"),
    ],
)
def test_a_drift_file_that_is_wrong_is_refused_by_row(tmp_path, content, message):
    (tmp_path / "drift.csv").write_text(content)
    with pytest.raises(SoarBenchError, match=message):
        drift.read(tmp_path / "drift.csv")


def test_drift_beside_the_records_is_shown(tmp_path, write):
    run = hand_run(tmp_path / "r", None, 0, "base", **FEW)
    (tmp_path / "r" / "drift.csv").write_text(DRIFT)
    (tmp_path / "drift.csv").write_text("outside of what was asked for\n")
    page = Page((write([run], top=(tmp_path / "r",)) / "index.html").read_text())
    assert "Drift ratio after 1 step" in page.text
    assert "Drift ratio after 2 steps" in page.text
    assert "<i>x</i>" in page.text


@pytest.mark.usefixtures("no_plots")
def test_a_drift_file_that_is_named_but_not_there_is_said(tmp_path, write):
    run = hand_run(tmp_path / "r", None, 0, "base", **FEW)
    with pytest.raises(SoarBenchError, match=r"no drift.csv in .*nowhere: run soar-bench drift"):
        write([run], drift=(tmp_path / "nowhere",))

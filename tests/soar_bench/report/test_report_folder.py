"""The report's folder and command: bad input, an older report, odd records."""

from __future__ import annotations

import errno
import json
import re
import subprocess
import sys

import pytest
import typer
from records_by_hand import write_run
from report_by_hand import (
    hand_run,
    hand_runs,
)
from report_pages import FEW, Page, constant, data_of
from typer.testing import CliRunner

from soar_bench.cli.report import report as command
from soar_bench.core.errors import SoarBenchError
from soar_bench.records import read_run
from soar_bench.report import pictures
from soar_bench.report.page import Options, write_report
from soar_bench.report.sections import sections_of


def test_no_run_is_said(tmp_path):
    with pytest.raises(SoarBenchError, match="no run to report on"):
        write_report([], Options(tmp_path / "page", tmp_path))
    assert not (tmp_path / "page").exists()


def test_one_run_makes_a_report_without_comparison(write, tmp_path):
    page = Page((write([hand_run(tmp_path / "r", None, 0, "base")]) / "index.html").read_text())
    assert "one checkpoint, so nothing to compare it with" in page.text
    assert "verdict" not in page.text


def unscored(checkpoint, prompt, index, metric):
    return None, "it broke"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (unscored, "no image of base could be scored"),
        (constant, "equal on every prompt: other"),
    ],
)
def test_scores_that_say_nothing_make_no_misleading_number(write, tmp_path, value, says):
    runs = [hand_run(tmp_path / "r", None, 0, "base", value=value),
            hand_run(tmp_path / "r", None, 1, "other", value=value)]  # fmt: skip
    folder = write(runs)
    text = Page((folder / "index.html").read_text()).text
    assert says in text
    assert not re.search(r"\bnan\b|\binf\b", text, re.I)
    assert "NaN" not in (folder / "data" / "b1.js").read_text()


@pytest.mark.usefixtures("no_plots")
def test_a_folder_that_holds_something_else_is_not_touched(tmp_path):
    run = hand_run(tmp_path / "r", None, 0, "base", **FEW)
    place = tmp_path / "page"
    place.mkdir()
    (place / "index.html").write_text("mine")
    with pytest.raises(SoarBenchError, match="holds something else than a report"):
        write_report([run], Options(place, tmp_path))
    assert [f.name for f in place.iterdir()] == ["index.html"]
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SoarBenchError, match="is a file"):
        write_report([run], Options(tmp_path / "file", tmp_path))


@pytest.mark.usefixtures("no_plots")
def test_an_older_report_is_replaced_unless_something_was_added(write, tmp_path):
    runs = hand_runs(tmp_path / "r", None, **FEW)
    folder = write(runs)
    write(runs[:1])
    assert len(data_of(folder)["checkpoints"]) == 1
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(SoarBenchError, match=r"more than a report \(notes.txt\)"):
        write(runs)
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.usefixtures("no_plots")
def test_a_full_disk_leaves_the_older_report(write, tmp_path, monkeypatch):
    runs = hand_runs(tmp_path / "r", tmp_path / "cache", **FEW)
    folder = write(runs[:1])
    before = {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}

    def full(self, image, name, quality=None):
        raise OSError(errno.ENOSPC, "No space left on device", name)

    monkeypatch.setattr(pictures.Shelf, "_save", full)
    with pytest.raises(OSError, match="No space left"):
        write(runs)
    assert {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()} == before
    assert {f.name for f in tmp_path.iterdir()} == {"r", "cache", "page"}


@pytest.mark.usefixtures("no_plots")
def test_details_of_any_form_are_kept_as_text(write, tmp_path):
    run = hand_run(tmp_path / "r", None, 0, "base")
    odd = [
        {"detections": "many"}, {"detections": [{"box": [1, 2]}]}, {"recognised": [1]},
        {"detections": [{"label": 3, "box": [1, 2, 3, 4]}]}, [1], "text",
    ]  # fmt: skip
    scores = run.scores()
    scores["details"] = [json.dumps(odd[i % len(odd)]) for i in range(len(scores))]
    run = write_run(tmp_path / "r", run.record.as_json(), scores)
    details = data_of(write([run]))["details"][0]
    others = {entry[1] for of in details.values() for entry in of.get("o", [])}
    assert others == {'{"detections": "many"}', '{"detections": [{"box": [1, 2]}]}',
                      '{"recognised": [1]}'}  # fmt: skip
    assert ["3", "", None, 1, 2, 3, 4] in [
        box for of in details.values() for box in of.get("b", [])
    ]


@pytest.mark.usefixtures("no_plots")
def test_details_that_are_no_json_are_refused(write, tmp_path):
    run = hand_run(tmp_path / "r", None, 0, "base")
    scores = run.scores()
    scores["details"] = "{broken"
    run = write_run(tmp_path / "r", run.record.as_json(), scores)
    with pytest.raises(SoarBenchError, match="are no JSON"):
        write([run])


def test_boards_of_one_name_are_told_apart(tmp_path):
    runs = [hand_run(tmp_path / "r", None, 0, "base")]
    runs.append(hand_run(tmp_path / "r", None, 0, "base", images=1))
    assert [board.title for board in sections_of(runs)] == ["hand under hand (1)",
                                                          "hand under hand (2)"]  # fmt: skip


def test_a_run_given_twice_counts_once(tmp_path):
    run = hand_run(tmp_path / "r", None, 0, "base")
    (board,) = sections_of([run, read_run(run.folder)])
    assert len(board.runs) == 1


@pytest.mark.usefixtures("no_plots")
def test_more_checkpoints_than_a_plot_can_show_are_all_in_the_table(write, tmp_path):
    runs = [hand_run(tmp_path / "r", None, 0, "base", images=1, **FEW)]
    for n in range(1, 15):
        runs.append(hand_run(tmp_path / "r", None, n, f"m{n}", images=1, **FEW))
    text = Page((write(runs) / "index.html").read_text()).text
    assert "Plots show the first 12 of 15 checkpoints" in text
    assert "m14" in text


# ---- the command -----------------------------------------------------------------------------


@pytest.fixture()
def invoke(tmp_path, monkeypatch):
    app = typer.Typer()
    app.command()(command)
    monkeypatch.chdir(tmp_path)

    def go(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return go


@pytest.mark.usefixtures("no_plots")
def test_the_command_takes_folders_ids_and_labels(invoke, tmp_path):
    runs = hand_runs(tmp_path / "results", tmp_path / "outputs" / "cache", **FEW)
    done = invoke()
    assert done.exit_code == 0, done.output
    page = tmp_path / "outputs" / "report"
    assert "outputs/report/index.html" in done.output
    assert len(data_of(page)["checkpoints"]) == 4
    assert invoke(runs[0].folder, "sft-seed0").exit_code == 0
    assert [c["name"] for c in data_of(page)["checkpoints"]] == ["base", "sft-seed0"]


@pytest.mark.usefixtures("no_plots")
def test_the_command_says_which_images_are_missing(invoke, tmp_path):
    hand_runs(tmp_path / "results", None, **FEW)
    done = invoke("--output", "there")
    assert done.exit_code == 0
    assert "base on hand under hand: 12 images missing (not in outputs/cache)" in done.output
    says = json.loads(invoke("--json").stdout)
    assert says.pop("missing")[0] in done.output
    assert says == {
        "page": "outputs/report/index.html", "boards": 1, "checkpoints": 3, "runs": 4, "images": 0,
    }  # fmt: skip


def test_a_run_that_is_not_there_is_said(invoke, tmp_path):
    hand_run(tmp_path / "results", None, 0, "base", **FEW)
    done = invoke("nowhere")
    assert isinstance(done.exception, SoarBenchError)
    assert "no run in results is named 'nowhere'" in str(done.exception)


def test_making_a_report_imports_no_torch():
    code = (
        "import sys, soar_bench.report.page, soar_bench.cli.report; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

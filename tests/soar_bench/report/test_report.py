"""The report's folder, read as files: numbers, escaping, images, curves and bad input."""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import typer
from markupsafe import Markup
from PIL import Image
from records_by_hand import write_run
from report_by_hand import (
    CHECKPOINTS,
    PROMPTS,
    SEED,
    evaluated,
    hand_run,
    hand_runs,
    image_of,
    look,
    say,
    settings,
    story,
    trained,
    value_of,
    values_of,
)
from typer.testing import CliRunner

from soar_bench.cache.images import ImageStore
from soar_bench.cli.report import report as command
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.images import digest_image
from soar_bench.records import read_run, read_runs
from soar_bench.report import (
    curves,
    drift,
    evaluations,
    pictures,
    plots,
    samples,
    svg,
    sweeps,
    words,
)
from soar_bench.report.page import TEMPLATES, Options, write_report
from soar_bench.report.sections import sections_of
from soar_bench.suites.types import PlannedSample, Prompt

#: For what is not about numbers: one metric makes fewer plots.
FEW = {"metrics": ("right",)}


class Page(HTMLParser):
    """What a browser would make of a page: its elements with attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def data_of(folder: Path, board: str = "b1") -> dict:
    content = (folder / "data" / f"{board}.js").read_text("ascii")
    return json.loads(content.partition(", ")[2].removesuffix(");\n"))


def sample_of(number: int, index: int) -> PlannedSample:
    return PlannedSample(Prompt(*PROMPTS[number][:2]), index)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A report of the hand-made runs: (folder, what was written, runs)."""
    place = tmp_path_factory.mktemp("report")
    runs = hand_runs(place / "results", place / "cache")
    written = write_report(runs, Options(place / "page", place / "cache", title="A & <B>"))
    return place / "page", written, runs


@pytest.fixture()
def write(tmp_path):
    """write(runs, **options) -> the folder of a report, written anew every time."""

    def go(runs, **options):
        given = {"cache": tmp_path / "cache", **options}
        write_report(runs, Options(tmp_path / "page", **given))
        return tmp_path / "page"

    return go


@pytest.fixture()
def no_plots(monkeypatch):
    """For pages of which only the rest is looked at: plots take most of the time."""
    monkeypatch.setattr(svg, "to_svg", lambda *given: Markup('<svg class="plot"></svg>'))


# ---- numbers ---------------------------------------------------------------------------------


def test_the_table_has_the_means_by_hand(made):
    html = (made[0] / "index.html").read_text("utf-8").replace('<span class="interval">', "")
    right = [[value_of(0, p, k, "right")[0] for k in range(2)] for p in range(6)]
    # GenEval's overall: the mean of the tasks' means.
    by_task = {}
    for (_, _, task), values in zip(PROMPTS, right, strict=True):
        by_task.setdefault(task, []).extend(values)
    overall = np.mean([np.mean(values) for values in by_task.values()])
    assert f">{overall:.3f} [" in html
    distance = [value_of(0, p, k, "distance")[0] for p in range(6) for k in range(2)]
    distance = [value for value in distance if value is not None]
    assert f">{np.mean(distance):.2f} [" in html
    assert len(distance) == 11


def test_wins_in_the_table_go_by_the_metrics_direction(made):
    board = sections_of(made[2])[0]
    row = next(r for r in board.rows if (r.metric, r.entrant) == ("distance", "<b>soar</b>"))
    wins = ties = losses = 0
    for p in range(6):
        pairs = [[value_of(c, p, k, "distance")[0] for c in (3, 0)] for k in range(2)]
        pairs = [pair for pair in pairs if None not in pair]
        change = np.mean([a - b for a, b in pairs])
        wins, ties, losses = wins + (change < 0), ties + (change == 0), losses + (change > 0)
    line = next(
        line for line in words.table(board)
        if (line.row.metric, line.row.entrant) == ("distance", "<b>soar</b>")
    )  # fmt: skip
    assert (
        line.prompts == f"{wins} / {ties} / {losses}" == f"{row.wins} / {row.ties} / {row.losses}"
    )
    assert line.direction == "↓ lower is better"


def test_a_metric_that_counts_tasks_comes_first(made):
    assert next(name for name, _ in sections_of(made[2])[0].metrics) == "right"


def test_the_data_are_the_records(made):
    data = data_of(made[0])
    names = [c["name"] for c in data["checkpoints"]]
    assert names == ["base", "sft, seed 0", "sft, seed 1", "<b>soar</b>"]
    metrics = [m["name"] for m in data["metrics"]]
    for c, number in enumerate(CHECKPOINTS.values()):
        for s, (prompt, index) in enumerate(data["samples"]):
            p = int(data["prompts"][prompt][0][1:])
            for m, metric in enumerate(metrics):
                value, reason = value_of(number, p, index, metric)
                found = data["values"][c][m][s]
                assert found == pytest.approx(value, abs=1e-9) if value is not None else not found
                assert data["unscored"][c][m].get(str(s), "") == reason
    assert [m["binary"] for m in data["metrics"]] == [m == "right" for m in metrics]


def test_unscored_samples_are_told_of(made):
    text = Page((made[0] / "index.html").read_text("utf-8")).text
    assert "distance: 1 sample of base is unscored and in no mean." in text
    assert "distance: 2 samples of sft are unscored and in no mean." in text


def test_the_same_records_give_the_same_bytes(made, tmp_path):
    folder, _, runs = made
    options = Options(tmp_path / "again", folder.parent / "cache", title="A & <B>")
    write_report(runs, options)
    for file in sorted(f for f in folder.rglob("*") if f.is_file()):
        assert (tmp_path / "again" / file.relative_to(folder)).read_bytes() == file.read_bytes()


# ---- escaping --------------------------------------------------------------------------------


def test_nothing_from_a_record_becomes_an_element(made):
    page = Page((made[0] / "index.html").read_text("utf-8"))
    scripts = [attributes for tag, attributes in page.elements if tag == "script"]
    assert scripts == [{"src": "report.js"}, {"src": "data/b1.js"}]
    assert not [tag for tag, _ in page.elements if tag in ("i", "u", "img", "cm")]
    assert "<b>soar</b>" in page.text
    assert "A & <B>" in page.text
    assert "<cm>" in page.text
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]


def test_the_data_cannot_end_their_script(made):
    content = (made[0] / "data" / "b1.js").read_text("ascii")
    assert "<" not in content
    assert "alert(1)" in content


def test_the_page_allows_and_names_nothing_but_its_own_files(made):
    html = (made[0] / "index.html").read_text("utf-8")
    policy = next(
        attributes["content"] for tag, attributes in Page(html).elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )  # fmt: skip
    rules = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert rules.pop("default-src") == "'none'"
    assert set(rules.values()) <= {"'self'", "'none'"}
    for tag, attributes in Page(html).elements:
        for name in ("src", "href"):
            assert not re.match(r"[a-z]+:|//|/", attributes.get(name) or ""), (tag, attributes)
    for name in ("report.js", "report.css"):
        text = (made[0] / name).read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(https?|wss?|data|blob):|@import|fetch\(|XMLHttp|eval\(", text)


def test_names_with_signs_of_formulas_are_drawn_as_they_are(tmp_path):
    run = hand_run(tmp_path / "r", None, 0, "a$b$ {x} \x07 & <c>")
    drawing = plots.values(sections_of([run])[0]).svg
    assert "a$b$ {x} &amp; &lt;c&gt;" in drawing
    assert svg.label("x" * 99) == "x" * 27 + "…"


def test_plots_take_their_colours_and_names_from_the_page(made):
    drawing = plots.values(sections_of(made[2])[0]).svg
    assert "<text" in drawing
    assert "currentColor" in drawing
    assert "var(--k1)" in drawing
    assert "style=" not in drawing
    assert "<style" not in drawing
    names = re.findall(r'id="([^"]+)"', (made[0] / "index.html").read_text("utf-8"))
    assert len(names) == len(set(names))


# ---- images ----------------------------------------------------------------------------------


def test_every_image_has_the_pixels_that_were_scored(made):
    folder, written, _ = made
    data = data_of(folder)
    assert written.images == 4 * 12
    assert written.missing == ()
    for c, number in enumerate(CHECKPOINTS.values()):
        for s, (prompt, index) in enumerate(data["samples"]):
            thumbnail, full, width, height = data["images"][c][s]
            image = image_of(number, int(data["prompts"][prompt][0][1:]), index)
            assert (height, width) == image.shape[:2]
            assert thumbnail != full or max(width, height) <= 256
            assert max(Image.open(folder / "images" / thumbnail).size) <= 256
            if full.endswith(".png"):
                assert np.array_equal(np.asarray(Image.open(folder / "images" / full)), image)


@pytest.mark.usefixtures("no_plots")
def test_large_images_are_kept_without_loss_if_asked(write, tmp_path):
    runs = hand_runs(tmp_path / "r", tmp_path / "cache", **FEW)
    folder = write(runs, lossless=True)
    file = data_of(folder)["images"][0][0][1]
    assert np.array_equal(np.asarray(Image.open(folder / "images" / file)), image_of(0, 0, 0))


@pytest.mark.usefixtures("no_plots")
def test_what_is_missing_damaged_or_another_image_is_said_to_be_missing(write, tmp_path):
    runs = hand_runs(tmp_path / "r", tmp_path / "cache", **FEW)
    store = ImageStore.of(tmp_path / "cache", "base", settings(), SEED)
    store.file(sample_of(1, 0)).unlink()
    store.file(sample_of(2, 0)).write_bytes(b"no image")
    store.add(sample_of(3, 0), np.zeros((16, 16, 3), np.uint8))
    folder = write(runs)
    data = data_of(folder)
    place = {(data["prompts"][p][0], k): s for s, (p, k) in enumerate(data["samples"])}
    reason = {p: data["missing"][data["images"][0][place[p, 0]]] for p in ("p1", "p2", "p3")}
    assert str(tmp_path / "cache") in reason["p1"]
    assert "damaged or another image" in reason["p2"]
    assert "damaged or another image" in reason["p3"]
    assert isinstance(data["images"][0][place["p1", 1]], list)
    assert isinstance(data["images"][1][place["p1", 0]], list)
    shown = {file.name for file in (folder / "images").iterdir()}
    assert not any(digest_image(np.zeros((16, 16, 3), np.uint8)).startswith(n[:24]) for n in shown)


def test_the_command_for_missing_images_is_one_that_makes_them(tmp_path):
    cache = tmp_path / "my cache"
    run = hand_run(tmp_path / "r", None, 1, "it's mine", story("sft", 0), steps=10)
    assert pictures.command(run, cache) == (
        "soar-bench eval 'it'\"'\"'s mine' --base base --suite hand --protocol hand+steps=10 "
        f"--images 2 --seed 7 --evaluators right,distance,read --cache '{cache}'"
    ).replace("right,distance,read", ",".join(sorted(["right", "distance", "read"])))


@pytest.mark.usefixtures("no_plots")
def test_with_a_limit_first_images_of_all_prompts_come_first(write, tmp_path):
    runs = hand_runs(tmp_path / "r", tmp_path / "cache", **FEW)
    data = data_of(write(runs, max_images=4 * 7 + 3))
    shown = [
        tuple(data["samples"][s]) for s, image in enumerate(data["images"][0])
        if isinstance(image, list)
    ]  # fmt: skip
    assert sorted(shown) == sorted([*((p, 0) for p in range(6)), (0, 1)])
    assert data["missing"] == [pictures.LEFT_OUT]
    assert len(data["values"][0][0]) == 12, "scores are all there"


@pytest.mark.usefixtures("no_plots")
def test_images_of_a_scored_folder_are_shown_where_they_still_are(write, tmp_path):
    place = tmp_path / "elsewhere"
    place.mkdir()
    found = hand_run(tmp_path / "r", None, 0, "mine", **FEW)
    record = found.record.as_json()
    record["checkpoint"] |= {"form": "images", "name": str(place), "story": {"imported": {}}}
    record["suite"]["seed"] = None
    record["protocol"] = {"name": "images", "settings": {"images": "scored, not made here"}}
    run = write_run(tmp_path / "r", record, found.scores())
    rows = [("prompt_id", "index", "file", "image")]
    for p in range(6):
        for k in range(2):
            if (p, k) == (2, 1):
                continue
            image = image_of(0, p, k) if (p, k) != (1, 1) else np.zeros((16, 16, 3), np.uint8)
            Image.fromarray(image).save(place / f"{p}-{k}.png")
            rows.append((f"p{p}", str(k), f"{p}-{k}.png", ""))
    (place / "3-0.png").unlink()
    with (run.folder / "files.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    data = data_of(write([run]))
    lacking = {tuple(data["samples"][s]): data["missing"][image]
               for s, image in enumerate(data["images"][0]) if isinstance(image, int)}  # fmt: skip
    assert set(lacking) == {(1, 1), (2, 1), (3, 0)}
    assert "another image" in lacking[1, 1]
    assert "does not say" in lacking[2, 1]
    assert "has gone" in lacking[3, 0]


@pytest.mark.usefixtures("no_plots")
def test_scores_of_another_tool_have_no_images_and_no_command(write, tmp_path):
    found = hand_run(tmp_path / "r", None, 0, "theirs", **FEW)
    record = found.record.as_json()
    record["checkpoint"]["form"] = "images"
    record["checkpoint"]["story"] = {"imported": {"tool": "x/geneval"}}
    record["suite"]["seed"] = None
    record["protocol"] = {"name": "imported", "settings": {"tool": "x/geneval"}}
    run = write_run(tmp_path / "other", record, found.scores())
    data = data_of(write([run]))
    assert data["missing"] == ["x/geneval gave its scores without images"]
    assert data["checkpoints"][0]["command"] == ""


# ---- plots and curves ------------------------------------------------------------------------


def test_prompt_differences_are_paired_on_the_same_samples(made):
    board = sections_of(made[2])[0].board
    assert [entrant.name for entrant in board.entrants][2] == "<b>soar</b>"
    expected = []
    for p in range(6):
        pairs = [[value_of(c, p, k, "distance")[0] for c in (3, 0)] for k in range(2)]
        expected.append(np.mean([a - b for a, b in pairs if a is not None]))
    found = plots.prompt_differences(board, 2, 0, "distance")
    assert found == pytest.approx(expected, abs=1e-9)


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
    folder, said = trained(tmp_path)
    run = hand_run(tmp_path / "r", None, 1, str(folder / inside), said)
    (log,), without = curves.trainings([run])
    assert log.steps.tolist() == [10, 20, 30, 40]
    assert log.losses["loss"] == pytest.approx([0.1, 0.05, 1 / 30, 0.025])
    assert without == []
    drawing = curves.figure([log], curves.series_of([log], sections_of([run])))
    assert "on the line (base)" in drawing.svg
    assert "off the line" not in drawing.svg, "SFT has no auxiliary loss"


@pytest.mark.usefixtures("no_plots")
def test_another_trainings_losses_are_not_shown(tmp_path, write):
    folder, said = trained(tmp_path, data="other")
    run = hand_run(tmp_path / "r", None, 1, str(folder), said, **FEW)
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
        said = story("sft", 0, 40)
        said["config"]["lr"] = rate
        folder, _ = trained(tmp_path / str(number), settings=said["config"])
        run = hand_run(tmp_path / "r", None, number, str(folder), said)
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
    folder, said = trained(tmp_path)
    run = hand_run(folder / "results", None, 1, "elsewhere/checkpoint-000040", said)
    (log,), without = curves.trainings([run])
    assert (log.folder, without) == (folder, [])


# ---- metrics while training ------------------------------------------------------------------


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
    folder, said = evaluated(tmp_path)
    run = hand_run(tmp_path / "r", None, 2, str(folder), said)
    found = drawn([run])
    assert [figure.title for figure in found] == [
        "hand under hand: right while training (share, higher is better)",
        "hand under hand: distance while training (<cm>, lower is better)",
        "hand under hand: read while training (share, higher is better)",
    ]
    right, distance, read = found
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
    folder, said = evaluated(tmp_path)
    run = hand_run(tmp_path / "r", None, 2, str(folder), said)
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
        folder, said = evaluated(tmp_path, name, seed, number, **FEW)
        runs.append(hand_run(tmp_path / "r", None, number + 1, str(folder), said, **FEW))
    (figure,) = drawn(runs)
    assert figure.header == ("step", "sft, seed 0", "sft, seed 1", "soar")
    assert figure.legend == ((1, "sft"), (2, "soar"))


@pytest.mark.usefixtures("no_plots")
def test_only_what_was_measured_alike_is_in_one_plot(tmp_path):
    runs = []
    for seed, steps in ((0, 20), (1, 20), (2, 10)):
        folder, said = evaluated(tmp_path, "sft", seed, steps=steps, **FEW)
        runs.append(hand_run(tmp_path / "r", None, seed + 1, str(folder), said, **FEW))
    found = drawn(runs)
    assert [(figure.title.partition(":")[0], figure.header) for figure in found] == [
        ("hand under hand", ("step", "sft, seed 0", "sft, seed 1")),
        ("hand under hand+steps=10", ("step", "sft")),
    ]


@pytest.mark.usefixtures("no_plots")
def test_metrics_without_their_records_are_shown_as_what_they_are(tmp_path):
    folder, said = trained(tmp_path)
    say(folder, look(0, geneval=0.5), look(20, geneval=0.25, mine=3.0),
        look(40, geneval=float("nan"), mine=True), {"step": True, "figures": {"mine": 1.0}},
        {"step": -20, "figures": {"mine": 1.0}}, {"step": 40, "figures": [1]})  # fmt: skip
    run = hand_run(tmp_path / "r", None, 2, str(folder), said)
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
    folder, said = evaluated(tmp_path, **FEW)
    say(folder, look(20, right=0.123))
    run = hand_run(tmp_path / "r", None, 2, str(folder), said, **FEW)
    (figure,) = drawn([run])
    assert figure.title == "right while training"
    assert "not known" in figure.caption


def test_a_metric_that_nothing_has_is_told_without_a_plot(tmp_path, write):
    folder, said = trained(tmp_path)
    say(folder, look(0, **{"ocr/unscored": 12}))
    run = hand_run(tmp_path / "r", None, 2, str(folder), said, **FEW)
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
    said = story(name, 0, 40)
    config = {"settings": said["config"], "base": "base", "data": "d"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.jsonl").write_text('{"step": 10, "loss": 1.0}\n')
    say(folder, look(0, **{"<script>m": 1.0}), look(20, **{"<script>m": 2.0}))
    run = hand_run(tmp_path / "r", None, 1, str(folder), said, **FEW)
    page = Page((write([run]) / "index.html").read_text())
    assert "<script>m while training" in page.text
    assert not [a for tag, a in page.elements if tag == "img"]
    assert [a for tag, a in page.elements if tag == "script"] == [
        {"src": "report.js"}, {"src": "data/b1.js"}
    ]  # fmt: skip


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
    found = drift.read(tmp_path / "drift.csv")
    assert {rolled: list(of) for rolled, of in found.items()} == {"1": ["a"], "2": ["<i>x</i>"]}
    points = [(mark.x, mark.y, mark.interval) for mark in found["1"]["a"]]
    assert points == [(250, 1.25, (1.15, 1.35)), (500, 1.5, (1.4, 1.6))]
    for name in ("drift.json", "list.json"):
        assert drift.read(tmp_path / name)["1"] == found["1"]
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


# ---- bad input -------------------------------------------------------------------------------


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


def constant(checkpoint, prompt, index, metric):
    return 0.5, ""


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
    found = data_of(write([run]))["details"][0]
    others = {one[1] for of in found.values() for one in of.get("o", [])}
    assert others == {'{"detections": "many"}', '{"detections": [{"box": [1, 2]}]}',
                      '{"recognised": [1]}'}  # fmt: skip
    assert ["3", "", None, 1, 2, 3, 4] in [box for of in found.values() for box in of.get("b", [])]


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


# ---- colours ---------------------------------------------------------------------------------


def luminance(color: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_stand_out_in_both_themes(theme):
    css = (TEMPLATES / "report.css").read_text()
    colors = {name: (light, dark)[theme] for name, light, dark in re.findall(
        r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", css)}  # fmt: skip
    for text in ("ink", "muted", "link", "good", "bad", "note"):
        for back in ("page", "surface"):
            assert contrast(colors[text], colors[back]) >= 4.5, (text, back)
    assert contrast(colors["note"], colors["note-back"]) >= 4.5
    assert contrast(colors["ink"], colors["raised"]) >= 4.5
    graphics = [f"k{i}" for i in range(svg.COLORS)]
    for line in (*graphics, "control"):
        assert contrast(colors[line], colors["surface"]) >= 3, line


def test_the_contrast_formula_by_known_values():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_samples_are_prompt_by_prompt(made):
    found = samples.Gallery.of(sections_of(made[2])[0])
    order = [(s.prompt.id, s.index) for s in found.samples]
    assert order == [(f"p{p}", k) for p in range(6) for k in range(2)]

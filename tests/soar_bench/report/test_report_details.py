"""What a report says of missing images, and what its plots show."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from markupsafe import Markup
from report_by_hand import hand_run, hand_runs, trained
from report_pages import data_of

from soar_bench.report import curves, lines, plots, words
from soar_bench.report.lines import Line, Mark
from soar_bench.report.page import Options, write_report
from soar_bench.report.sections import sections_of


def test_missing_images_are_not_said_to_be_left_out(tmp_path):
    """No image is at hand: one place is enough for none, and --max-images is not to blame."""
    run = hand_run(tmp_path / "r", None, 0, "base")
    write_report([run], Options(tmp_path / "page", tmp_path / "cache", 1))
    scripts = (tmp_path / "page").rglob("*.js")
    data = "".join(file.read_text() for file in scripts if file.parent.name == "data")
    assert '"missing"' in data
    assert "left out: the report" not in data


def test_paired_differences_are_the_first_plot(tmp_path):
    runs = hand_runs(tmp_path / "r", None)
    write_report(runs, Options(tmp_path / "page", tmp_path / "cache"))
    page = (tmp_path / "page" / "index.html").read_text()
    titles = re.findall(r"<figure.*?<h[45][^>]*>([^<]+)<", page, flags=re.S)
    assert titles[:2] == ["Paired differences", "Values"]
    assert "The table scrolls sideways." in page


def test_one_high_ratio_does_not_press_the_others_flat(monkeypatch):
    """Ratios far apart have a logarithmic axis, those near each other a linear one."""
    scales = []

    def seen(figure, *_):
        scales.append(figure.axes[0].get_yscale())
        return Markup("")

    monkeypatch.setattr(lines.svg, "to_svg", seen)
    for ratios in ((0.9, 1.8, 60.0), (0.9, 1.0, 1.2)):
        marks = tuple(Mark(float(i), ratio) for i, ratio in enumerate(ratios))
        lines.draw([Line(0, "x", marks)], ("t", "ratio"), "k", "s", level=1)
    assert scales == ["log", "linear"]


def test_differences_that_are_all_zero_have_no_axis_of_rounding(tmp_path, monkeypatch):
    """The axis of equal checkpoints would go to 1e-17."""
    axes = []
    monkeypatch.setattr(plots.svg, "to_svg", lambda figure, *_: axes.extend(figure.axes) or "")
    runs = [
        hand_run(
            tmp_path / "r", None, n, f"c{n}", value=lambda *_: (5.0, ""), metrics=("distance",)
        )
        for n in range(3)
    ]
    plots.effects(sections_of(runs)[0])
    assert axes[0].get_xlim() == (-1, 1) and list(axes[0].get_xticks()) == [0]


def test_no_name_turns_the_rest_of_the_page_around(write, tmp_path, no_plots):
    runs = [hand_run(tmp_path / "r", None, n, f"\u202eoverride {n}\x1b[31m") for n in range(2)]
    folder = write(runs, title="a\u202eb")
    page = (folder / "index.html").read_text("utf-8")
    assert "override 1" in page
    assert "\u202e" not in page and "\x1b" not in page
    assert [c["name"] for c in data_of(folder)["checkpoints"]] == [
        "override 0 [31m",
        "override 1 [31m",
    ]


def test_many_checkpoints_are_counted_and_the_best_are_named(tmp_path):
    """Checkpoint n is nearer by n / 10 on every prompt, and a little more on every other."""

    def value(checkpoint, prompt, index, metric):
        return 10 - 0.1 * checkpoint - 0.001 * checkpoint * (prompt % 2), ""

    runs = [
        hand_run(tmp_path / "r", None, n, f"c{n}", value=value, metrics=("distance",))
        for n in range(8)
    ]
    says = dict(words.findings(sections_of(runs)[0]))["distance"]
    assert says.startswith("7 checkpoints are better than c0, most of all c7 (−0.70")
    assert [name for name in ("c7", "c6", "c5", "c4", "c3") if f"{name} (" in says] == [
        "c7", "c6", "c5", "c4",
    ]  # fmt: skip
    few = dict(words.findings(sections_of(runs[:3])[0]))["distance"]
    assert few.startswith("c2 is better than c0 (") and "c1 is better than c0 (" in few


def test_many_metrics_are_drawn_below_each_other(tmp_path, monkeypatch):
    """Five in one row could not be read; here three in rows of two."""
    (section,) = sections_of(hand_runs(tmp_path / "r", None))
    sizes = []
    for abreast in (3, 2):
        monkeypatch.setattr(plots, "_ABREAST", abreast)
        drawing = ElementTree.fromstring(str(plots.values(section).svg))
        names = [e.text.split()[0] for e in drawing.iter() if e.tag.endswith("text") and e.text]
        assert set(names) >= {"right", "distance", "read"}
        sizes.append([float(number) for number in drawing.get("viewBox").split()[2:]])
        assert drawing.get("class") == ("plot wide" if abreast == 3 else "plot")
    assert sizes[1][0] < sizes[0][0]
    assert sizes[1][1] == 2 * sizes[0][1]


def test_a_loss_that_was_logged_once_is_a_point(tmp_path):
    folder, training = trained(tmp_path, step=10)
    runs = [hand_run(tmp_path / "r", None, 1, str(folder), training)]
    logs, _ = curves.trainings(runs)
    assert len(logs[0].steps) == 1
    drawing = ElementTree.fromstring(str(curves.figure(logs, {logs[0].key: 1}).svg))
    marks = [e for e in drawing.iter() if e.tag.endswith("use") and "k1" in (e.get("fill") or "")]
    assert len(marks) == 2  # of the loss and of its part that is not zero


def test_print_shows_the_whole_table():
    css = (Path(lines.__file__).parent / "templates" / "report.css").read_text()
    rules = css.partition("@media print")[2]
    assert ".top { position: static; }" in rules
    assert ".scroll { overflow: visible;" in rules


def test_a_value_without_an_interval_says_why(tmp_path):
    """All prompts alike is not "too few prompts"."""

    def value(checkpoint, prompt, index, metric):
        return 5.0, ""

    runs = [hand_run(tmp_path / "r", None, 0, "c0", value=value, metrics=("distance",))]
    notes = words.warnings(sections_of(runs)[0])
    assert notes[0].startswith("distance: c0 has no interval: every prompt has the same score")

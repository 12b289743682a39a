"""What a report says of missing images, and what its plots show."""

from __future__ import annotations

import re
from pathlib import Path

from markupsafe import Markup
from report_by_hand import hand_run, hand_runs

from soar_bench.report import lines
from soar_bench.report.lines import Line, Mark
from soar_bench.report.page import Options, write_report


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


def test_print_shows_the_whole_table():
    css = (Path(lines.__file__).parent / "templates" / "report.css").read_text()
    rules = css.partition("@media print")[2]
    assert ".top { position: static; }" in rules
    assert ".scroll { overflow: visible;" in rules

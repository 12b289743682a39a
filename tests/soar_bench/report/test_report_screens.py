"""The report on a phone and on paper, and with thousands of samples."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from report_by_hand import evaluated, hand_run
from report_reader import IN_BROWSER, LOW_CONTRAST

from soar_bench.report import page
from soar_bench.report.page import Options, write_report

pytestmark = IN_BROWSER

TEMPLATES = Path(page.__file__).parent / "templates"


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="needs pdftotext")
def test_a_printed_head_is_on_the_page_of_its_rows(browser, tmp_path):
    rows = "<tr><th scope='row'>row</th></tr>" * 4
    head = "<caption class='hidden'>c</caption><thead><tr><th>HEAD</th></tr></thead>"
    table = f"<div class='scroll'><table class='summary'>{head}<tbody>{rows}</tbody></table></div>"
    board = f"<article class='board'><p class='note'>note</p>{table}</article>"
    boards = [  # wherever on a page it comes to stand
        f"<div style='break-before: page; height: {height}mm'></div>{board}"
        for height in range(200, 270, 5)
    ]
    sheet = browser.new_page()
    sheet.set_content(
        f"<!doctype html><style>{(TEMPLATES / 'report.css').read_text()}</style>{''.join(boards)}"
    )
    sheet.pdf(path=tmp_path / "page.pdf", format="A4")
    sheet.close()
    command = ["pdftotext", "-layout", tmp_path / "page.pdf", "-"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.count("HEAD") == len(boards)
    assert not [text for text in printed.split("\f") if text.rstrip().endswith(("HEAD", "note"))]


@pytest.fixture(scope="module")
def with_training(tmp_path_factory):
    """The base and two seeds of a training that evaluated its checkpoints."""
    place = tmp_path_factory.mktemp("training")
    runs = [hand_run(place / "results", None, 0, "base")]
    for seed in (0, 1):
        folder, training = evaluated(place, "soar", seed)
        runs.append(hand_run(place / "results", None, seed + 2, str(folder), training))
    write_report(runs, Options(place / "report", place / "cache"))
    return place / "report"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_training_curves_are_readable_on_a_phone(open_report, with_training, theme):
    reader = open_report(with_training, viewport={"width": 375, "height": 812}, color_scheme=theme)
    page = reader.page
    page.evaluate(
        "document.querySelectorAll('#training details').forEach((d) => { d.open = true; })"
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert reader.page.evaluate(LOW_CONTRAST)["low"] == []
    figures = page.query_selector_all("#training figure")
    assert [f.query_selector("h5").inner_text().partition(" ")[0] for f in figures] == [
        "Losses", "hand", "hand", "hand"
    ]  # fmt: skip
    for figure in figures[1:]:
        plot = figure.query_selector("svg.plot")
        assert "the numbers follow as a table" in plot.get_attribute("aria-label")
        box = plot.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 375, "the whole plot without scrolling"
    titles = page.evaluate(
        "[...document.querySelectorAll('#training svg.plot title')].map((t) => t.textContent)"
    )
    assert any(t.startswith("soar, seed 1, step 40: ") and "unscored" in t for t in titles)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """2,000 samples of two checkpoints; images repeat after a hundred prompts."""
    place = tmp_path_factory.mktemp("large")
    prompts = tuple((f"p{n:04d}", f"prompt number {n}", f"task{n % 6}") for n in range(1000))
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 2, (2, 1000, 2))
    runs = []
    for number, label in enumerate(("base", "tuned")):

        def value(c, p, k, metric, number=number):
            return float(scores[number, p, k]), ""

        runs.append(
            hand_run(place / "results", place / "cache", number, label, prompts=prompts,
                     value=value, metrics=("right",), distinct=100)
        )  # fmt: skip
    written = write_report(runs, Options(place / "report", place / "cache"))
    return place / "report", written, scores


def test_two_thousand_samples_are_interactive_in_under_two_seconds(open_report, large):
    folder, written, scores = large
    assert written.images == 4000
    opened = []
    while len(opened) < 5 and min(opened, default=2000) >= 2000:  # the machine may be busy
        page = open_report(folder).page
        ready = "performance.getEntriesByName('soar-bench-ready')[0].startTime"
        opened.append(page.evaluate(ready))
        assert page.inner_text("#count") == "2,000 of 2,000 samples"
    assert min(opened) < 2000, opened
    choose = """(value) => {
             const start = performance.now();
             const choice = document.getElementById("show");
             choice.value = value;
             choice.dispatchEvent(new Event("change"));
             document.body.getBoundingClientRect();
             return performance.now() - start;
           }"""
    took = [(page.evaluate(choose, "all"), page.evaluate(choose, "wins"))[1] for _ in range(3)]
    wins = int((scores[1] > scores[0]).sum())
    assert page.inner_text("#count") == f"{wins} of 2,000 samples"
    assert min(took) < 1000, took
    assert len(page.query_selector_all(".card")) == 12

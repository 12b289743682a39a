"""The report's folder, read as files: numbers, escaping, colours."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image
from report_by_hand import (
    CHECKPOINTS,
    PROMPTS,
    hand_run,
    hand_runs,
    image_of,
    value_of,
)
from report_pages import Page, data_of

from soar_bench.report import (
    plots,
    samples,
    svg,
    words,
)
from soar_bench.report.page import TEMPLATES, Options, write_report
from soar_bench.report.sections import sections_of


@pytest.fixture(scope="module")
def hand_report(tmp_path_factory):
    """A report of the hand-made runs: (folder, what was written, runs)."""
    place = tmp_path_factory.mktemp("report")
    runs = hand_runs(place / "results", place / "cache")
    written = write_report(runs, Options(place / "page", place / "cache", title="A & <B>"))
    return place / "page", written, runs


# ---- numbers ---------------------------------------------------------------------------------


def test_the_table_has_the_means_by_hand(hand_report):
    html = (hand_report[0] / "index.html").read_text("utf-8").replace('<span class="interval">', "")
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


def test_wins_in_the_table_go_by_the_metrics_direction(hand_report):
    board = sections_of(hand_report[2])[0]
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


def test_a_metric_that_counts_tasks_comes_first(hand_report):
    assert next(name for name, _ in sections_of(hand_report[2])[0].metrics) == "right"


def test_the_data_are_the_records(hand_report):
    data = data_of(hand_report[0])
    names = [c["name"] for c in data["checkpoints"]]
    assert names == ["base", "sft, seed 0", "sft, seed 1", "<b>soar</b>"]
    metrics = [m["name"] for m in data["metrics"]]
    for c, number in enumerate(CHECKPOINTS.values()):
        for s, (prompt, index) in enumerate(data["samples"]):
            p = int(data["prompts"][prompt][0][1:])
            for m, metric in enumerate(metrics):
                value, reason = value_of(number, p, index, metric)
                shown = data["values"][c][m][s]
                assert shown == pytest.approx(value, abs=1e-9) if value is not None else not shown
                assert data["unscored"][c][m].get(str(s), "") == reason
    assert [m["binary"] for m in data["metrics"]] == [m == "right" for m in metrics]


def test_unscored_samples_are_told_of(hand_report):
    text = Page((hand_report[0] / "index.html").read_text("utf-8")).text
    assert "distance: 1 sample of base is unscored and in no mean." in text
    assert "distance: 2 samples of sft are unscored and in no mean." in text


def test_the_same_records_give_the_same_bytes(hand_report, tmp_path):
    folder, _, runs = hand_report
    options = Options(tmp_path / "again", folder.parent / "cache", title="A & <B>")
    write_report(runs, options)
    for file in sorted(f for f in folder.rglob("*") if f.is_file()):
        assert (tmp_path / "again" / file.relative_to(folder)).read_bytes() == file.read_bytes()


# ---- escaping --------------------------------------------------------------------------------


def test_nothing_from_a_record_becomes_an_element(hand_report):
    page = Page((hand_report[0] / "index.html").read_text("utf-8"))
    scripts = [attributes for tag, attributes in page.elements if tag == "script"]
    assert scripts == [{"src": "report.js"}, {"src": "data/b1.js"}]
    assert not [tag for tag, _ in page.elements if tag in ("i", "u", "img", "cm")]
    assert "<b>soar</b>" in page.text
    assert "A & <B>" in page.text
    assert "<cm>" in page.text
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]


def test_the_data_cannot_end_their_script(hand_report):
    content = (hand_report[0] / "data" / "b1.js").read_text("ascii")
    assert "<" not in content
    assert "alert(1)" in content


def test_the_page_allows_and_names_nothing_but_its_own_files(hand_report):
    html = (hand_report[0] / "index.html").read_text("utf-8")
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
        text = (hand_report[0] / name).read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(https?|wss?|data|blob):|@import|fetch\(|XMLHttp|eval\(", text)


def test_names_with_signs_of_formulas_are_drawn_as_they_are(tmp_path):
    run = hand_run(tmp_path / "r", None, 0, "a$b$ {x} \x07 & <c>")
    drawing = plots.values(sections_of([run])[0]).svg
    assert "a$b$ {x} &amp; &lt;c&gt;" in drawing
    assert svg.label("x" * 99) == "x" * 27 + "…"


def test_plots_take_their_colours_and_names_from_the_page(hand_report):
    drawing = plots.values(sections_of(hand_report[2])[0]).svg
    assert "<text" in drawing
    assert "currentColor" in drawing
    assert "var(--k1)" in drawing
    assert "style=" not in drawing
    assert "<style" not in drawing
    names = re.findall(r'id="([^"]+)"', (hand_report[0] / "index.html").read_text("utf-8"))
    assert len(names) == len(set(names))


# ---- images ----------------------------------------------------------------------------------


def test_every_image_has_the_pixels_that_were_scored(hand_report):
    folder, written, _ = hand_report
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


# ---- plots and curves ------------------------------------------------------------------------


def test_prompt_differences_are_paired_on_the_same_samples(hand_report):
    board = sections_of(hand_report[2])[0].board
    assert [entrant.name for entrant in board.entrants][2] == "<b>soar</b>"
    expected = []
    for p in range(6):
        pairs = [[value_of(c, p, k, "distance")[0] for c in (3, 0)] for k in range(2)]
        expected.append(np.mean([a - b for a, b in pairs if a is not None]))
    differences = plots.prompt_differences(board, 2, 0, "distance")
    assert differences == pytest.approx(expected, abs=1e-9)


# ---- colours ---------------------------------------------------------------------------------


def luminance(color: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(front: str, back: str) -> float:
    high, low = sorted((luminance(front), luminance(back)), reverse=True)
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


def test_samples_are_prompt_by_prompt(hand_report):
    gallery = samples.Gallery.of(sections_of(hand_report[2])[0])
    order = [(s.prompt.id, s.index) for s in gallery.samples]
    assert order == [(f"p{p}", k) for p in range(6) for k in range(2)]

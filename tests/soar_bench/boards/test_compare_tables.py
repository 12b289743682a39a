"""`soar-bench compare` as a table in every format, and from Python."""

from __future__ import annotations

import csv
import io
import json
import math
import re

import numpy as np
import pytest
from compared import printed, shifted, story, table_of
from records_by_hand import declared

from soar_bench.boards import compare
from soar_bench.core import latex
from soar_bench.records import read_runs

HOSTILE = "\\input{x} 50% $_#&^~{}[a]\n<script>|\x1b[31m"


# Tables


@pytest.fixture()
def three(place):
    """Three checkpoints and two metrics, one name longer than a column."""
    rng = np.random.default_rng(5)
    hard = rng.normal(size=40)
    names = ("base", "sft-equal-compute", "soar-with-a-name-that-is-longer-than-a-column")
    for i, name in enumerate(names):
        place(
            name,
            {"shapes_geneval": rng.random(40) < 0.4 + 0.2 * i, "pickscore": hard + 0.3 * i},
            {"pickscore": declared(unit="a score")},
        )
    return place.results


def test_print_and_a_notebook_show_the_table_and_not_all_scores(three):
    runs = read_runs(three)
    comparison = compare(runs)
    assert str(comparison) == comparison._repr_markdown_() == comparison.to_markdown()
    assert len(repr(runs[0])) < 200


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits_the_terminal(three, width):
    text = printed(three, "--detect", "0.05", "--test", "exact", width=width)
    assert max(map(len, text.splitlines())) <= width
    for words in ("sft-equal-compute", "shapes_geneval ↑", "value ± s.e.", "McNemar", "Holm"):
        assert words in text
    columns = [line for line in text.splitlines() if re.search(r"\[[+-]\d", line)]
    assert len({line.index("[") for line in columns}) == 1, "intervals stand below each other"


def test_markdown_is_a_table_with_notes(three):
    text = printed(three, "--format", "markdown")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 6
    assert len({line.count("|") for line in lines}) == 1
    assert "corrected for 2 metrics by Holm's method" in text


def test_json_has_the_numbers_of_the_csv(three):
    shown = json.loads(printed(three, "--format", "json"))
    assert shown["reference"] == "base"
    assert shown["measured_alike"] is True
    for row, expected in zip(shown["rows"], table_of(three), strict=True):
        assert set(row) == set(expected)
        for key in ("value", "p_corrected", "difference_low"):
            assert (row[key] is None) == (expected[key] == "")
            assert row[key] is None or row[key] == pytest.approx(float(expected[key]))


def test_latex_is_a_tabular_of_even_rows(three):
    text = printed(three, "--format", "latex-long")
    code = [line for line in text.splitlines() if not line.startswith("%")]
    assert code[2] == r"\begin{tabular}{lrrrl}"
    assert code[-2:] == [r"\end{tabular}", "}"]
    rows = [line for line in code if line.endswith(r"\\")]
    groups = [row for row in rows if row.startswith(r"\multicolumn{5}{l}")]
    assert (len(rows), len(groups)) == (1 + 2 + 6, 2)
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows if row not in groups} == {4}
    assert r"shapes\_geneval $\uparrow$" in text
    assert "$<0.001$" in text or re.search(r"& 0\.\d{3} &", text)
    assert text.isascii()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50% & $5 #1 a_b {x}", r"50\% \& \$5 \#1 a\_b \{x\}"),
        ("\\input{x}", r"\textbackslash{}input\{x\}"),
        ("a^b~c", r"a\textasciicircum{}b\textasciitilde{}c"),
        ("[2pt] <b>|", r"{[}2pt{]} \textless{}b\textgreater{}\textbar{}"),
        ("two\nlines\x00\x1b[31m", "two lines {[}31m"),
    ],
)
def test_latex_escapes_what_it_would_obey(text, expected):
    assert latex.escape(text) == expected


@pytest.mark.parametrize("form", ["terminal", "markdown", "csv", "latex", "latex-long", "json"])
def test_hostile_names_are_text_in_every_format(place, form):
    place("a", {"m": [1.0, 2.0, 3.0]})
    place(HOSTILE, {"m": [1.0, 2.5, 3.0]})
    text = printed(place.results, "--format", form)
    assert "\x1b" not in text
    if form.startswith("latex"):
        text = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
        assert r"\input" not in text
        bare = re.sub(r"\\[\\{}&%$#_]", "", text)
        assert bare.count("{") == bare.count("}")
        (row,) = [line for line in text.splitlines() if "script" in line]
        assert len(re.findall(r"(?<!\\)&", row)) == (4 if form == "latex-long" else 1)
    if form == "markdown":
        assert "<script>" not in text
        assert len({re.sub(r"\\\|", "", line).count("|")
                    for line in text.splitlines() if line.startswith("|")}) == 1  # fmt: skip
    if form == "csv":
        assert len(list(csv.DictReader(io.StringIO(text)))) == 2
        assert len(text.splitlines()) == 3
    if form == "json":
        names = {row["checkpoint"] for row in json.loads(text)["rows"]}
        assert HOSTILE in names


# From Python


def test_a_comparison_is_a_frame_text_and_verdicts(place):
    shifted(place, -0.3)
    comparison = compare(read_runs(place.results))
    (base, other) = comparison.to_frame().to_dict("records")
    assert (base["checkpoint"], other["checkpoint"]) == ("a", "b")
    assert math.isnan(base["difference"])
    assert other["difference"] == pytest.approx(-0.3)
    assert comparison.verdicts == {("m", "b"): "worse"}
    assert [row.entrant for row in comparison.worse()] == ["b"]
    assert comparison.worse(margin=0.29) == []
    assert comparison.to_markdown() == printed(place.results, "--format", "markdown")
    assert comparison.to_latex() == printed(place.results, "--format", "latex")
    b = next(run for run in read_runs(place.results) if run.label == "b")
    turned = compare(read_runs(place.results), reference=b)
    assert turned.verdicts == {("m", "a"): "better"}


def test_a_pair_has_one_difference_interval_and_p_on_every_page(place, tmp_path):
    """The comparison, the leaderboard and the report on right and wrong images."""
    from soar_bench.boards.standings import standings
    from soar_bench.report import sections, words

    rng = np.random.default_rng(8)
    hard = rng.random((30, 2))
    place("base", {"right": rng.random((30, 2)) < hard}, images=2)
    place("sft0", {"right": rng.random((30, 2)) < hard + 0.3}, images=2, story=story("sft", 0))
    runs = read_runs(place.results)
    (_, row) = compare(runs).rows
    (section,) = sections.sections_of(runs)
    (_, line) = words.table(section)
    (board,) = standings(runs)
    assert f"[{row.interval[0]:+.3f}, {row.interval[1]:+.3f}]".replace("-", "−") in line.difference
    assert line.p == ("< 0.001" if row.p_value < 0.001 else f"{row.p_value:.3f}")
    assert line.row.test == row.test == "t"
    significant = row.p_value <= 0.05
    assert {r.rank for r in board.rows} == ({(1, 1), (2, 2)} if significant else {(1, 2)})


def test_latex_says_where_names_need_another_engine_than_pdflatex():
    """pdflatex stops at Hebrew and at emoji; it sets é, and what our own tables have."""
    needs = "needs xelatex or lualatex"
    for name, other in (("שלום", True), ("🦊", True), ("café ł", False), ("a… “b”", False)):
        assert (needs in latex.table(["checkpoint"], [[latex.escape(name)]], "l")) == other

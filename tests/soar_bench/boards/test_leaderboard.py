"""The leaderboard's page from records made by hand, in every form."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import typer
from board_records import record, scores, story
from records_by_hand import write_run
from typer.testing import CliRunner

from evaluators import registry
from soar_bench.boards.standings import standings
from soar_bench.cli.compare import leaderboard as command
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.markdown import escape, table
from soar_bench.output.leaderboard import FORMS, leaderboard
from soar_bench.records import read_runs


def test_the_page_has_the_same_bytes_for_the_same_records(results, tmp_path):
    page = leaderboard(read_runs(results), results, tmp_path / "leaderboard.md")
    again = leaderboard(list(reversed(read_runs(results))), results, tmp_path / "leaderboard.md")
    assert page == again
    lines = [line for line in page.splitlines() if "| soar |" in line]
    assert lines[0].startswith("| 1 |"), "better than both others beyond doubt"
    assert "**" in lines[0], "a difference whose interval excludes zero stands out"
    assert "seed 2" in lines[0]
    assert "](<results/shapes/shapes/soar-seed2-" in lines[0]


def test_the_difference_is_to_the_base_it_was_trained_from(results, tmp_path):
    """A better base on the same board is no reference for what was not trained from it."""
    write_run(results, record("strong", "strong"), scores(0.95))
    write_run(results, record("x-seed0", "x", story("x", 0, base="strong")), scores(0.95, 5))
    write_run(results, record("y-seed0", "y", story("y", 0, base="absent")), scores(0.95, 6))
    page = leaderboard(read_runs(results), results, tmp_path / "leaderboard.md")
    board = page.split("## ")[1].split("by task")[0]
    cells = {
        line.split(" | ")[1]: line.split(" | ")[4]
        for line in board.splitlines() if line.startswith("| ") and line[2].isdigit()
    }  # fmt: skip
    assert cells["soar"].startswith("**+0.6")
    assert cells["x-seed0"].startswith("-0.0") or cells["x-seed0"].startswith("+0.0")
    assert cells["y-seed0"] == cells["strong"] == cells["shapes"] == "-"


def test_boards_of_other_settings_are_sections_of_their_own(results, tmp_path):
    write_run(results, record("other", "o", steps=10), scores(0.5))
    page = leaderboard(read_runs(results), results, tmp_path / "leaderboard.md")
    assert page.count("## shapes under shapes") == 2
    assert "steps 10" in page


def test_a_hostile_name_shows_as_text(tmp_path):
    name = "<script>alert(1)</script>|**x** [a](b)"
    write_run(tmp_path, record(name, "x"), scores(0.5))
    page = leaderboard(read_runs(tmp_path), tmp_path, tmp_path / "leaderboard.md")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    rows = [line for line in page.splitlines() if "alert" in line]
    header = next(line for line in page.splitlines() if line.startswith("| rank | checkpoint"))
    unescaped = rows[0].replace("\\|", "")
    assert unescaped.count("|") == header.count("|")


def test_what_has_no_value_has_no_rank_and_stands_last(results, tmp_path):
    nothing = scores(0.5)
    nothing["value"], nothing["unscored"] = math.nan, "too dark"
    write_run(results, record("aaa", "aaa"), nothing)
    (board,) = standings(read_runs(results))
    assert board.rows[-1].name == "aaa"
    assert board.rows[-1].rank is None
    assert {row.rank[1] <= 3 for row in board.rows[:-1]} == {True}
    page = leaderboard(read_runs(results), results, tmp_path / "leaderboard.md")
    assert "| - | aaa | 1 | - | - | 0 | 60 |" in page


def test_a_board_of_one_is_first_and_last(tmp_path):
    write_run(tmp_path, record("a", "a"), scores(0.5))
    (board,) = standings(read_runs(tmp_path))
    assert board.rows[0].rank == (1, 1)
    assert not board.has_base or board.rows[0].cells["shapes_geneval"].difference is None


def test_published_numbers_stand_beside_their_boards_and_are_never_ranked(tmp_path):
    """SD3.5-M + SOAR has GenEval 0.78 and OCR 0.67 in the paper's table."""
    for suite, protocol in (("geneval", "soar-paper"), ("geneval", "flow-grpo"), ("ocr", "x")):
        made = record("a", "a", suite=suite, steps=len(protocol))
        made["protocol"]["name"] = protocol
        write_run(tmp_path, made, scores(0.5))
    page = leaderboard(read_runs(tmp_path), tmp_path, tmp_path / "leaderboard.md")
    sections = {s.split("\n")[0]: s for s in page.split("## ")[1:]}
    beside = sections["geneval under soar-paper"]
    assert "not measured here and not ranked" in beside
    assert "| SD3.5-M + SOAR | 10k | 0.78 |" in beside
    for title in ("geneval under flow-grpo", "ocr under x"):
        assert "SD3.5" not in sections[title]
    assert (
        "| SD3.5-M + SOAR | 10k | 0.78 | 0.67 | 22.86 |" in sections["Published, not measured here"]
    )
    for board in standings(read_runs(tmp_path)):
        assert [row.name for row in board.rows] == ["a"]
    text = leaderboard(read_runs(tmp_path), tmp_path, tmp_path / "l.csv", "csv")
    published = pd.read_csv(io.StringIO(text)).query("source == 'published'")
    assert len(published) == 6 * 7 + 6 + (4 + 3 * 7)  # the paper, one reward, further protocols
    assert published["rank_best"].isna().all()
    # the papers' OCR is PaddleOCR handed RGB, and no other engine's number is of its name
    (ocr,) = set(published.loc[published["suite"] == "ocr", "metric"])
    assert ocr == registry.create("ocr-paddle-flow-grpo").metrics[0].name


class _Page(HTMLParser):
    """Tables as lists of cells' texts, and everything that a browser would load."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.loads, self.text, self.open = [], [], "", []
        self.scopes, self.captions = [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        by_name = dict(attributes)
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)
        if tag in ("script", "link", "img", "iframe") or "onerror" in by_name:
            self.loads.append(tag)
        self.captions += tag == "caption"
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag == "th":
            self.scopes.append(by_name.get("scope"))
        if tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if {"th", "td"} & set(self.open):
            self.tables[-1][-1][-1] += data


@pytest.mark.parametrize("form", FORMS)
def test_no_name_turns_the_rest_of_a_page_around(tmp_path, form):
    write_run(tmp_path, record("\u202eoverride\x1b[31m", "a"), scores(0.2))
    page = leaderboard(read_runs(tmp_path), tmp_path, tmp_path / "l", form)
    assert "override" in page
    assert "\u202e" not in page and "\x1b" not in page


def test_the_html_page_is_whole_by_itself_and_says_what_the_markdown_says(results, tmp_path):
    name = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'
    write_run(results, record(name, "evil"), scores(0.2))
    page = _Page(leaderboard(read_runs(results), results, tmp_path / "l.html", "html"))
    assert page.loads == [] and page.open == []
    assert name in page.text
    assert set(page.scopes) == {"row", "col"}
    assert page.captions == len(page.tables)
    (board,) = standings(read_runs(results))
    shown = [" ".join(row[0].split()) for row in page.tables[0][1:]]
    assert shown == [row.name for row in board.rows]
    best = board.rows[0].cells["shapes_geneval"].value
    assert f"{best.value:.3f} [{best.low:.3f}, {best.high:.3f}]" in " ".join(
        page.tables[0][1][2].split()
    )


def test_the_table_has_a_line_a_checkpoint_and_metric(results, tmp_path):
    text = leaderboard(read_runs(results), results, tmp_path / "l.csv", "csv")
    table = pd.read_csv(io.StringIO(text))
    measured = table[table["source"] == "measured"].set_index("checkpoint")
    assert sorted(measured.index) == ["sft", "shapes", "soar"]
    soar = [scores(0.9, seed)["value"].to_numpy() for seed in range(3)]
    task = scores(0.9)["task"].to_numpy()
    by_task = [np.mean([s[task == t].mean() for s in soar]) for t in ("colors", "counting")]
    assert measured.loc["soar", "value"] == pytest.approx(np.mean(by_task), rel=1e-5)
    assert measured.loc["soar", "n"] == 180
    assert (measured.loc["soar", ["rank_best", "rank_worst"]] == 1).all()
    assert measured.loc["soar", "records"].count("results/shapes/shapes/soar-seed") == 3
    assert not (table["source"] == "published").any()  # the paper has no such board


@pytest.mark.parametrize("form", FORMS)
def test_the_command_writes_the_page_and_says_when_it_is_out_of_date(results, tmp_path, form):
    file = tmp_path / f"board.{form}"
    app = typer.Typer()
    app.command()(command)

    def call(*options):
        return CliRunner().invoke(app, ["--results", str(results), "--output", str(file), *options])

    late = call("--check")
    assert isinstance(late.exception, SoarBenchError)
    assert "is out of date" in str(late.exception)
    assert call().exit_code == 0
    assert call("--check").exit_code == 0
    write_run(results, record("new", "new"), scores(0.5))
    assert "is out of date" in str(call("--check").exception)
    assert call().exit_code == 0
    assert call("--check").exit_code == 0
    other = CliRunner().invoke(app, ["--results", str(results), "--output", str(tmp_path / "x.y")])
    assert "name a --format" in str(other.exception)


def test_the_rows_for_a_program_are_those_of_the_table(results, tmp_path, monkeypatch):
    app = typer.Typer()
    app.command()(command)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["--results", str(results), "--json"])
    rows = json.loads(done.stdout)["rows"]
    assert not list(tmp_path.glob("leaderboard*")), "no page is written"
    file = tmp_path / "leaderboard.csv"
    table = list(csv.DictReader(io.StringIO(leaderboard(read_runs(results), results, file, "csv"))))
    assert len(rows) == len(table) > 0
    for row, line in zip(rows, table, strict=True):
        assert row.pop("by") is row.pop("category") is None
        assert " ".join(row.pop("records")) == line.pop("records")
        assert row.keys() == line.keys()
        texts = {k: "" if v is None else f"{v:.6g}" if isinstance(v, float) else str(v)
                 for k, v in row.items()}  # fmt: skip
        assert texts == line
    refused = CliRunner().invoke(app, ["--results", str(results), "--json", "--check"])
    assert "leave --output, --format and --check out" in str(refused.exception)


def test_neither_clock_nor_locale_nor_place_on_disk_changes_a_byte(results, tmp_path):
    """The same command in processes of other zones and languages, over a copy made in reverse."""
    copy = tmp_path / "copy" / "results"
    for file in sorted(results.rglob("*"), reverse=True):
        if file.is_file():
            target = copy / file.relative_to(results)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    code = (
        "import sys; from pathlib import Path; from soar_bench.output.leaderboard import *; "
        "r = Path(sys.argv[1]); p = r.parent / 'leaderboard.md'; "
        "[sys.stdout.buffer.write(leaderboard(load(r), r, p, f).encode()) for f in FORMS]"
    )
    pages = {
        subprocess.run(
            [sys.executable, "-c", code, str(folder)],
            env={**os.environ, "TZ": zone, "LC_ALL": language, "PYTHONHASHSEED": seed},
            capture_output=True, check=True,
        ).stdout
        for folder, zone, language, seed in (
            (results, "UTC", "C.UTF-8", "1"), (copy, "Asia/Tokyo", "de_DE.UTF-8", "2")
        )
    }  # fmt: skip
    assert len(pages) == 1


def test_markdown_escape_and_table():
    assert escape("a|b\n<c>") == "a\\|b &lt;c&gt;"
    assert table(["a", "b"], [["1", "2"]], right=(1,)) == "| a | b |\n|---|---:|\n| 1 | 2 |\n"


def test_many_runs_render_in_bounded_time(tmp_path):
    """A bound far above what it takes, against work that grows with the square."""
    import time

    for i in range(60):
        write_run(tmp_path, record(f"m{i}", f"m{i}", story(f"m{i}", 0)), scores(0.5, i))
    start = time.process_time()
    leaderboard(read_runs(tmp_path), tmp_path, tmp_path / "leaderboard.md")
    assert time.process_time() - start < 30

"""Records, comparison and leaderboard on records made by hand."""

from __future__ import annotations

import io
import math
import os
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import typer
from records_by_hand import write_run
from scipy import stats as scipy_stats
from typer.testing import CliRunner

from soar_bench.boards import compare, group_seeds
from soar_bench.boards.rows import verdict
from soar_bench.boards.standings import standings
from soar_bench.cli.compare import leaderboard as command
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.markdown import escape, table
from soar_bench.output.leaderboard import FORMS, leaderboard, load
from soar_bench.records import COLUMNS, RUN_FILE, SCORES_FILE, read_run, read_runs
from soar_bench.stats import (
    Estimate,
    Layout,
    ScoreTable,
    holm,
    over_seeds,
    pair_of,
    rank_ranges,
)

METRICS = {
    "shapes-geneval": {
        "given": "shapes-geneval",
        "version": "1",
        "identity": {},
        "metrics": {
            "shapes_geneval": {
                "unit": "share", "range": [0, 1], "higher_is_better": True, "version": "1",
                "source": "", "aggregate": "task_mean",
            }
        },
    }
}  # fmt: skip


def record(label, digest, story=None, steps=20, suite="shapes"):
    story = story or {}
    return {
        "checkpoint": {
            "label": label, "name": label, "digest": digest, "revision": "", "story": story,
            "form": "transformer" if story else "pipeline",
            "base": {"name": "base", **story["base"]} if story else None,
        },
        "suite": {
            "name": suite, "digest": "s", "seed": 1, "prompts": 30, "images_per_prompt": 2,
            "source": "",
        },
        "protocol": {"name": "shapes", "settings": {"steps": steps, "guidance": 3.0}},
        "evaluators": METRICS,
        "metrics": {},
        "made": {},
    }  # fmt: skip


def story(name, seed, method="soar", base="base", step=400):
    return {
        "name": name, "method": method, "step": step, "seed": seed, "base": {"digest": base},
        "data": {"digest": "d"}, "config": {"seed": seed, "steps": 400},
    }  # fmt: skip


def scores(probability, seed=0, prompts=30):
    rng = np.random.default_rng(seed)
    rows = [
        {
            "prompt_id": f"p{i:02d}", "index": k, "task": "colors" if i % 2 else "counting",
            "prompt": f"prompt {i}", "noise": "0", "image": "0", "metric": "shapes_geneval",
            "value": float(rng.random() < probability), "unscored": "", "details": "{}",
        }
        for i in range(prompts) for k in range(2)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture()
def results(tmp_path):
    """Base, two seeds of SFT and three of SOAR."""
    folder = tmp_path / "results"
    write_run(folder, record("shapes", "base"), scores(0.3))
    for seed in range(2):
        write_run(
            folder, record(f"sft-seed{seed}", f"sft{seed}", story("sft", seed)), scores(0.5, seed)
        )
    for seed in range(3):
        write_run(
            folder,
            record(f"soar-seed{seed}", f"soar{seed}", story("soar", seed)),
            scores(0.9, seed),
        )
    return folder


def test_a_record_is_one_folder_that_pandas_reads_in_one_line(results):
    folder = next(results.rglob(RUN_FILE)).parent
    assert {f.name for f in folder.iterdir()} == {RUN_FILE, SCORES_FILE}
    assert list(pd.read_parquet(folder / SCORES_FILE).columns) == list(COLUMNS)


def test_names_cannot_leave_the_results(tmp_path):
    run = write_run(tmp_path / "r", record("../../evil", "x", suite="../up"), scores(0.5))
    assert (tmp_path / "r") in run.folder.resolve().parents


def test_the_same_run_replaces_its_record(results):
    before = len(read_runs(results))
    write_run(results, record("shapes", "base"), scores(0.4))
    assert len(read_runs(results)) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [("{broken", "cannot be read"), ('{"schema": 99}', "schema 99"), ("[]", "schema")],
)
def test_a_damaged_or_newer_record_is_refused_by_name(results, content, message):
    file = next(results.rglob(RUN_FILE))
    file.write_text(content)
    with pytest.raises(SoarBenchError, match=message):
        read_runs(results)


def test_damaged_scores_are_refused_by_name(results):
    run = read_runs(results)[0]
    (run.folder / SCORES_FILE).write_bytes(b"PAR1 nothing")
    with pytest.raises(SoarBenchError, match=r"scores\.parquet cannot be read"):
        read_run(run.folder).scores()


def test_seeds_become_one_entrant_and_a_copy_counts_once(results):
    runs = read_runs(results)
    board = {e.name: e for e in group_seeds([*runs, runs[0]])}
    assert {name: len(e.runs) for name, e in board.items()} == {"shapes": 1, "sft": 2, "soar": 3}


def test_two_checkpoints_of_one_seed_do_not_pass_for_two_seeds(results):
    write_run(results, record("soar-again", "other weights", story("soar", 1)), scores(0.9))
    with pytest.raises(SoarBenchError, match="two checkpoints of one training and seed"):
        group_seeds(read_runs(results))


def test_entrants_of_one_name_are_told_apart(tmp_path):
    for digest, step in (("a", 200), ("b", 400)):
        write_run(tmp_path, record("sft", digest, story("sft", 0, step=step)), scores(0.5))
    assert {e.name for e in group_seeds(read_runs(tmp_path))} == {"sft, step 200", "sft, step 400"}
    write_run(tmp_path, record("sft", "c", story("sft", 0, base="another")), scores(0.5))
    names = [e.name for e in group_seeds(read_runs(tmp_path))]
    assert len(set(names)) == 3


def test_what_was_not_trained_comes_first(results):
    assert group_seeds(read_runs(results))[0].name == "shapes"


def test_compare_gives_values_differences_and_plain_words(results):
    rows = {row.entrant: row for row in compare(read_runs(results)).rows}
    assert rows["shapes"].difference is None
    assert rows["soar"].verdict == "better"
    assert rows["soar"].value.seeds == 3
    assert rows["soar"].difference.value == pytest.approx(
        rows["soar"].value.value - rows["shapes"].value.value
    )


def test_runs_not_measured_alike_are_refused_naming_the_setting(results):
    write_run(results, record("other", "o", steps=10), scores(0.5))
    with pytest.raises(SoarBenchError, match=r"steps: (20 and 10|10 and 20)"):
        compare(read_runs(results))


@pytest.mark.parametrize(
    ("value", "error", "higher", "words"),
    [
        (0.1, 0.01, True, "better"),
        (0.1, 0.01, False, "worse"),
        (-0.1, 0.01, True, "worse"),
        (0.1, 0.2, True, "no evidence of a difference at this size"),
        (0.1, math.nan, True, "too few prompts or seeds to tell"),
    ],
)
def test_the_verdict_follows_interval_and_direction(value, error, higher, words):
    freedom = math.nan if error != error else 50.0
    assert verdict(Estimate(value, error, freedom, 10, 0, 10), higher) == words


def test_nothing_scored_gives_no_misleading_number(tmp_path):
    empty = scores(0.5)
    empty["value"] = math.nan
    write_run(tmp_path, record("a", "a"), empty)
    write_run(tmp_path, record("b", "b", story("b", 0)), scores(0.5))
    rows = compare(read_runs(tmp_path)).rows
    assert {row.verdict for row in rows} == {"", "nothing in common to compare"}
    page = leaderboard(read_runs(tmp_path), tmp_path, tmp_path / "leaderboard.md")
    assert "nan" not in page.lower().replace("unscored", "")


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


def grid(values, seed=0, tasks=1, images=2):
    """A frame of one metric: prompts of each task in turn, ``images`` of each."""
    prompts = len(values) // images
    return pd.DataFrame(
        {
            "prompt_id": np.repeat([f"p{i:03d}" for i in range(prompts)], images),
            "index": np.tile(np.arange(images), prompts),
            "task": np.repeat([f"t{i % tasks}" for i in range(prompts)], images),
            "metric": "m",
            "value": values,
        }
    )


def column_of(sides, aggregate):
    """The leaderboard's column of entrants, each a list of its seeds' frames."""
    frames = [frame for side in sides for frame in side]
    order = frames[0].sort_values(["task", "prompt_id", "index"]).index
    tasks, prompts = (pd.factorize(frames[0].loc[order, c])[0] for c in ("task", "prompt_id"))
    owner = np.repeat(np.arange(len(sides)), [len(side) for side in sides])
    values = np.array([frame.loc[order, "value"] for frame in frames])
    return ScoreTable(Layout.of(tasks, prompts, aggregate == "task_mean"), values, owner)


@pytest.mark.parametrize("aggregate", ["mean", "task_mean"])
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_a_whole_board_has_the_figures_of_one_pair_at_a_time(aggregate, missing):
    rng = np.random.default_rng(7)
    hard = np.repeat(rng.random(40), 2)

    def run(skill):
        values = (rng.random(80) < hard * skill).astype(float)
        return grid(np.where(rng.random(80) < missing, np.nan, values), tasks=3)

    sides = [[run(0.5)], [run(0.9) for _ in range(3)], [run(0.6) for _ in range(2)], [run(1.0)]]
    column = column_of(sides, aggregate)
    own = column.own
    for i, side in enumerate(sides):
        expected = over_seeds(side, aggregate)
        assert own.value[i] == pytest.approx(expected.value)
        assert own.standard_error[i] == pytest.approx(expected.standard_error)
        assert (own.interval()[0][i], own.interval()[1][i]) == pytest.approx(expected.interval())
        assert (own.scored[i], column.unscored[i]) == (expected.scored, expected.unscored)
    for one, others, found in column.pairs(range(4)):
        p_values = column.p_values(one, others, found)
        for j, other in enumerate(others):
            expected = pair_of(sides[other], sides[one], aggregate).difference
            assert found.value[j] == pytest.approx(expected.value)
            assert p_values[j] == pytest.approx(expected.p_value())
            assert found.scored[j] == expected.scored
            assert column.unpaired(one, others)[j] == expected.unscored


def test_ranks_are_those_of_every_paired_t_test_with_holms_correction():
    """Against scipy's paired t-test and Holm's steps by hand."""
    rng = np.random.default_rng(8)
    hard = rng.normal(size=60)
    means = [0.0, 0.02, 0.25, 0.3, 0.8]
    values = [mean + hard + rng.normal(scale=0.4, size=60) for mean in means]
    ranges = rank_ranges(column_of([[grid(v, images=1)] for v in values], "mean"), True)
    pairs = [(i, j) for i in range(5) for j in range(i)]
    p = {pair: scipy_stats.ttest_rel(values[pair[0]], values[pair[1]]).pvalue for pair in pairs}
    significant = []
    for step, pair in enumerate(sorted(pairs, key=p.get)):
        if p[pair] > 0.05 / (len(pairs) - step):
            break
        significant.append(pair)
    assert 2 < len(significant) < len(pairs), "a case in which some ranks are open"
    for i in range(5):
        beaten_by = beats = 0
        for a, b in significant:
            winner = a if values[a].mean() > values[b].mean() else b
            beats += winner == i
            beaten_by += i in (a, b) and winner != i
        assert ranges[i] == (1 + beaten_by, 5 - beats)


def test_holm_by_hand():
    """0.005 < 0.05/4 and 0.01 < 0.05/3 reject; 0.03 > 0.05/2 ends it, for 0.04 too."""
    found = [p <= 0.05 for p in holm([0.01, 0.04, math.nan, 0.03, 0.005])]
    assert found == [True, False, False, False, True]


def test_lower_is_better_turns_ranks_around():
    rng = np.random.default_rng(1)
    good, bad = rng.normal(size=50), rng.normal(size=50) + 3
    column = column_of([[grid(good, images=1)], [grid(bad, images=1)]], "mean")
    assert rank_ranges(column, False) == {0: (1, 1), 1: (2, 2)}
    assert rank_ranges(column, True) == {0: (2, 2), 1: (1, 1)}


def test_a_difference_that_never_varies_is_tested_by_its_signs():
    """All of six prompts differ by 1: two of 64 sign patterns are as far from 0; of ten, 2/1024."""
    for prompts, p in ((6, 2 / 64), (10, 2 / 1024)):
        sides = [[grid(np.full(prompts, v), images=1)] for v in (0.0, 1.0)]
        table = column_of(sides, "mean")
        (base, others, found), *_ = table.pairs([0, 1])
        assert table.p_values(base, others, found).tolist() == [p]
        assert all(np.isnan(end).all() for end in found.interval())


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


def test_an_interval_ends_where_the_metric_does(tmp_path):
    nearly = scores(1.0)
    nearly.loc[0, "value"] = 0.0
    write_run(tmp_path, record("a", "a"), nearly)
    (board,) = standings(read_runs(tmp_path))
    value = board.rows[0].cells["shapes_geneval"].value
    assert 0 <= value.low < value.value < value.high <= 1.0


def test_the_date_is_the_newest_records_day_in_utc(tmp_path):
    for seed, finished in enumerate(["2026-11-20T10:00:00+00:00", "2026-11-22T23:30:00-02:00"]):
        made = record(f"a{seed}", f"a{seed}", story("a", seed))
        made["made"] = {"finished": finished}
        write_run(tmp_path, made, scores(0.5, seed))
    (board,) = standings(read_runs(tmp_path))
    assert board.rows[0].date == "2026-11-23"


def test_every_broken_record_is_named(results):
    first, second, *_ = sorted(results.rglob(RUN_FILE))
    first.write_text("{broken")
    (second.parent / SCORES_FILE).write_bytes(b"PAR1")
    with pytest.raises(SoarBenchError, match="2 records are broken") as raised:
        load(results)
    assert str(first) in str(raised.value)
    assert str(second.parent / SCORES_FILE) in str(raised.value)
    empty = results.parent / "empty"
    empty.mkdir()
    with pytest.raises(SoarBenchError, match="there are no runs in"):
        load(empty)


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


class _Page(HTMLParser):
    """Tables as lists of cells' texts, and everything that a browser would load."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.loads, self.text, self.open = [], [], "", []
        self.scopes, self.captions = [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)
        if tag in ("script", "link", "img", "iframe") or "onerror" in found:
            self.loads.append(tag)
        self.captions += tag == "caption"
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag == "th":
            self.scopes.append(found.get("scope"))
        if tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if {"th", "td"} & set(self.open):
            self.tables[-1][-1][-1] += data


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
    published = table[table["source"] == "published"]
    assert len(published) == 6 * 7 + 6 + (4 + 3 * 7)  # the paper, one reward, further protocols
    assert published["rank_best"].isna().all()


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

"""`--by COLUMN`: the categories of a suite's prompts, on records made by hand."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math

import numpy as np
import pandas as pd
import pytest
from records_by_hand import contents, declared, score_row, write_run
from scipy import stats as scipy_stats
from typer.testing import CliRunner

from soar_bench.boards import compare
from soar_bench.boards.standings import standings
from soar_bench.cli import app
from soar_bench.core.errors import SoarBenchError
from soar_bench.records import read_runs
from soar_bench.suites import get_suite

#: style, number of words and task of each prompt; an empty cell is absent
PROMPTS = [
    ("oil", "10", "easy"), ("oil", "2", "easy"), ("oil", "2", "hard"), ("ink", "10", "easy"),
    ("ink", "2", "hard"), ("ink", "2", "hard"), ("", "10", "hard"), ("", "2", "easy"),
]  # fmt: skip
IMAGES = 2


def write_suite(file, prompts=PROMPTS):
    lines = [f"p{i},prompt {i},{style},{n},{task}" for i, (style, n, task) in enumerate(prompts)]
    file.write_text("\n".join(["id,prompt,style,words,task", *lines]) + "\n", "utf-8")
    return get_suite(str(file))


def write_record(results, suite, label, values, aggregate="mean", steps=20):
    """``values``: [prompts, images]."""
    metric = declared(range=[0.0, 1.0], aggregate=aggregate)
    draft = contents(
        label, {"quality": metric, "worth": {**metric, "higher_is_better": False}},
        digest=f"{label}{steps}",
        suite={"name": suite.name, "digest": suite.digest(), "seed": suite.seed,
               "prompts": len(suite.prompts), "images_per_prompt": IMAGES,
               "source": suite.source},
        protocol={"name": f"steps={steps}", "settings": {"steps": steps}},
    )  # fmt: skip
    rows = [
        score_row(prompt.id, j, sign * values[i][j], prompt.text, task=prompt.task, metric=name)
        for name, sign in (("quality", 1), ("worth", -1))
        for i, prompt in enumerate(suite.prompts)
        for j in range(IMAGES)
    ]
    return write_run(results, draft, pd.DataFrame(rows))


@pytest.fixture(scope="module")
def values():
    rng = np.random.default_rng(5)
    base = rng.uniform(0.2, 0.5, (len(PROMPTS), IMAGES))
    tuned = base + rng.normal(0.1, 0.02, (len(PROMPTS), IMAGES))
    tuned[6:] = base[6:] + np.array([[0.1, -0.05], [-0.12, 0.1]])
    return {"base": base, "tuned": tuned}


@pytest.fixture()
def runs(tmp_path, values):
    suite = write_suite(tmp_path / "mine.csv")
    for label, of_label in values.items():
        write_record(tmp_path / "results", suite, label, of_label, "task_mean")
    return read_runs(tmp_path / "results")


def of_style(style):
    return [i for i, prompt in enumerate(PROMPTS) if prompt[0] == style]


def test_values_differences_and_holm_are_those_by_hand(runs, values):
    """A plain mean over the category's images, the paired t-test on its prompts, and Holm over the
    categories.
    """
    parts = [r for r in compare(runs, by="style").parts if r.metric == "quality"]
    assert [(r.category, r.entrant) for r in parts] == [
        (style, name) for style in ("oil", "ink", "(none)") for name in ("base", "tuned")
    ]
    expected, p_values = [], []
    for style in ("oil", "ink", ""):
        chosen = of_style(style)
        difference = (values["tuned"] - values["base"])[chosen].mean(1)
        expected.append((values["tuned"][chosen].mean(), len(chosen), difference))
        p_values.append(scipy_stats.ttest_1samp(difference, 0).pvalue)
    holm = dict(zip(np.argsort(p_values), np.sort(p_values) * [3, 2, 1], strict=True))
    highest = 0.0
    for place in np.argsort(p_values):
        highest = holm[place] = min(max(highest, holm[place]), 1)
    for place, (row, (value, prompts, difference)) in enumerate(
        zip([r for r in parts if r.entrant == "tuned"], expected, strict=True)
    ):
        assert row.value.value == pytest.approx(value)
        assert (row.value.prompts, row.value.scored) == (prompts, prompts * IMAGES)
        assert row.difference.value == pytest.approx(difference.mean())
        error = difference.std(ddof=1) / math.sqrt(prompts)
        half = scipy_stats.t.ppf(0.975, prompts - 1) * error
        assert row.interval == pytest.approx((difference.mean() - half, difference.mean() + half))
        assert row.p_value == pytest.approx(p_values[place])
        assert row.p_corrected == pytest.approx(holm[place])
        assert row.tests == 3


def test_the_rows_of_all_prompts_are_as_without_a_breakdown(runs):
    plain, broken_down = compare(runs), compare(runs, by="style")
    assert repr(broken_down.rows) == repr(plain.rows) and not plain.parts
    assert plain.to_frame().equals(compare(runs).to_frame())
    frame = broken_down.to_frame()
    whole = frame[frame["category"] == ""].drop(columns="category")
    assert whole.equals(plain.to_frame())
    only = broken_down.only(["worth"])
    assert {row.metric for row in only.parts} == {"worth"}


def test_tasks_are_a_column_that_needs_no_suite(runs, tmp_path, values):
    (tmp_path / "mine.csv").unlink()
    for column in ("tag", "task"):
        if column == "task":
            write_suite(tmp_path / "mine.csv")  # its header has this name for the same
        parts = [r for r in compare(runs, by=column).parts if r.metric == "quality"]
        means = {(r.category, r.entrant): r.value.value for r in parts}
        for task in ("easy", "hard"):
            chosen = [i for i, prompt in enumerate(PROMPTS) if prompt[2] == task]
            assert means[task, "base"] == pytest.approx(values["base"][chosen].mean())
    (by_task,) = standings(runs)
    (by_tag,) = standings(runs, "tag")
    assert by_task.breakdowns[0].titles == ("easy", "hard")
    assert by_tag.breakdowns[0].titles == ("easy (4 prompts)", "hard (4 prompts)")
    for row, other in zip(by_task.rows, by_tag.rows, strict=True):
        for figure, same in zip(row.parts[0], other.parts[0], strict=True):
            assert dataclasses.astuple(figure) == pytest.approx(dataclasses.astuple(same))


def test_a_board_without_the_column_keeps_its_tasks(runs, tmp_path, values):
    """`task` is read from the file: without it the board has what records hold, and says why."""
    file = tmp_path / "mine.csv"
    other = write_suite(tmp_path / "other.csv", [("", "1", "easy"), ("", "1", "hard")] * 4)
    for label, of_label in values.items():
        write_record(tmp_path / "results", other, label, of_label, "task_mean")
    file.unlink()
    mine, whole = standings(read_runs(tmp_path / "results"), "task")
    assert "no file of prompts" in mine.note and not whole.note
    assert mine.breakdowns[0].titles == ("easy", "hard")


def test_numbers_rise_and_texts_keep_the_suites_order(runs):
    order = list(dict.fromkeys(row.category for row in compare(runs, by="words").parts))
    assert order == ["2", "10"]


def test_built_in_suites_are_read_by_name(tmp_path):
    suite = get_suite("shapes-signs")
    shape = (len(suite.prompts), IMAGES)
    write_record(tmp_path, suite, "a", np.zeros(shape))
    write_record(tmp_path, suite, "b", np.ones(shape))
    parts = compare(read_runs(tmp_path), by="held_out").parts
    held_out = sum(prompt.metadata["held_out"] for prompt in suite.prompts)
    counts = {row.category: row.value.prompts for row in parts}
    assert counts == {"true": held_out, "false": len(suite.prompts) - held_out}


def test_a_board_of_the_embedded_world_shows_what_no_training_names(tmp_path):
    suite = get_suite("shapes")
    unseen = np.array([bool(prompt.metadata["held_out"]) for prompt in suite.prompts])
    right = np.repeat(np.where(unseen, 0.0, 1.0)[:, None], IMAGES, axis=1)
    write_record(tmp_path, suite, "seen alone", right)
    (board,) = standings(read_runs(tmp_path))
    (breakdown,) = [b for b in board.breakdowns if "held-out" in b.column]
    tasks = [p.task for p in suite.prompts if p.metadata["held_out"]]
    assert breakdown.titles == tuple(
        f"{t} ({tasks.count(t)} prompts)" for t in dict.fromkeys(tasks)
    )
    figures = board.rows[0].parts[board.breakdowns.index(breakdown)]
    assert [figure.value for figure in figures] == [0.0] * len(breakdown.categories)
    (asked,) = standings(read_runs(tmp_path), "held_out")
    assert not [b for b in asked.breakdowns if "held-out" in b.column]


def test_a_suite_in_memory_is_handed_over(runs, tmp_path, values):
    file = dataclasses.replace(get_suite(str(tmp_path / "mine.csv")), name="own", source="")
    for label in values:
        write_record(tmp_path / "own", file, label, values[label])
    own = read_runs(tmp_path / "own")
    with pytest.raises(SoarBenchError, match="no suite is named 'own'"):
        compare(own, by="style")
    categories = dict.fromkeys(row.category for row in compare(own, by="style", suite=file).parts)
    assert list(categories) == ["oil", "ink", "(none)"]


def test_what_cannot_be_broken_down_is_refused_in_a_sentence(runs, tmp_path):
    with pytest.raises(SoarBenchError) as refusal:
        compare(runs, by="stile")
    assert str(refusal.value) == (
        "no column of the prompts of mine is named 'stile'; did you mean style? "
        "(known: style, words, tag, task)"
    )
    write_suite(tmp_path / "mine.csv", [*PROMPTS[:-1], ("pen", "1", "easy")])
    with pytest.raises(SoarBenchError, match=r"mine\.csv have changed since they were judged"):
        compare(runs, by="style")
    (tmp_path / "mine.csv").unlink()
    with pytest.raises(SoarBenchError, match="no file of prompts at"):
        compare(runs, by="style")


def test_a_column_of_too_many_values_is_refused(tmp_path):
    file = tmp_path / "many.jsonl"
    lines = [{"prompt": f"prompt {i}", "note": f"{i}", "half": i % 2} for i in range(51)]
    file.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    for label in "ab":
        write_record(tmp_path / "results", get_suite(str(file)), label, np.ones((51, IMAGES)))
    runs = read_runs(tmp_path / "results")
    with pytest.raises(SoarBenchError, match="'note' of many has 51 values, more than 50"):
        compare(runs, by="note")
    assert {row.category for row in compare(runs, by="half").parts} == {"0", "1"}


def printed(*arguments):
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_every_form_of_compare_has_the_categories(runs, tmp_path):
    results = tmp_path / "results"
    terminal = printed("compare", results, "--by", "style")
    assert "quality ↑, oil" in terminal and "n 6 of 3 prompts" in terminal
    assert "p corrected for the categories of a metric" in " ".join(terminal.split())
    markdown = printed("compare", results, "--by", "style", "--format", "markdown")
    assert "| metric | style | checkpoint | prompts |" in markdown
    rows = list(csv.DictReader(io.StringIO(printed("compare", results, "--by", "style",
                                                   "--format", "csv"))))  # fmt: skip
    assert [row["category"] for row in rows[4::2]] == ["oil", "ink", "(none)"] * 2
    contents = json.loads(printed("compare", results, "--by", "style", "--json"))
    assert contents["by"] == "style" and len(contents["categories"]) == 12
    for form in ("latex", "latex-long"):
        text = printed("compare", results, "--by", "style", "--format", form)
        assert text.count("\\begin{tabular}") == 3  # all metrics; each of two by style
        assert ("checkpoint & oil & ink & (none) " in text and "(3, 3, 2 prompts)" in text) == (
            form == "latex"
        )
        assert ("{quality $\\uparrow$, oil: 3 prompts}" in text) == (form == "latex-long")


def test_boards_without_the_column_are_shown_and_named(runs, tmp_path):
    results = tmp_path / "results"
    plain = tmp_path / "plain.txt"
    plain.write_text("".join(f"prompt {i}\n" for i in range(4)), "utf-8")
    for label in ("base", "tuned"):
        write_record(results, get_suite(str(plain)), label, np.ones((4, IMAGES)), steps=9)
    result = CliRunner().invoke(app, ["compare", str(results), "--by", "style"])
    assert result.exit_code == 0 and "quality ↑, oil" in result.stdout
    note = "Not by style: the prompts of plain have no metadata, so no column 'style'."
    assert note in result.stderr
    page = tmp_path / "board.md"
    printed("leaderboard", "--results", results, "--by", "style", "--output", page)
    text = page.read_text("utf-8")
    assert "quality by style:" in text and "quality by task:" in text and note in text
    assert "| checkpoint | oil (3 prompts) | ink (3 prompts) | (none) (2 prompts) |" in text
    printed("leaderboard", "--results", results, "--by", "style", "--output", page, "--check")
    refused = CliRunner().invoke(app, ["leaderboard", "--results", str(results), "--by", "x"])
    assert refused.exit_code != 0


def test_the_leaderboards_other_forms_have_the_categories(runs, tmp_path, values):
    results = tmp_path / "results"
    page = tmp_path / "board.html"
    printed("leaderboard", "--results", results, "--by", "style", "--output", page)
    assert "<caption>worth by style</caption>" in page.read_text("utf-8")
    table = tmp_path / "board.csv"
    printed("leaderboard", "--results", results, "--by", "style", "--output", table)
    frame = pd.read_csv(table, keep_default_na=False)
    chosen = frame[(frame["category"] == "ink") & (frame["metric"] == "quality")]
    listed = dict(zip(chosen["checkpoint"], chosen["value"].astype(float), strict=True))
    means = {label: of_label[of_style("ink")].mean() for label, of_label in values.items()}
    assert listed == pytest.approx(means, rel=1e-5)
    assert set(chosen["prompts"].astype(int)) == {3} and set(chosen["by"]) == {"style"}


def test_the_report_draws_and_tells_the_categories(runs, tmp_path):
    folder = tmp_path / "report"
    arguments = ("--by", "style", "--output", folder, "--cache", tmp_path / "cache")
    printed("report", tmp_path / "results", *arguments)
    html = (folder / "index.html").read_text("utf-8")
    assert "quality by style" in html and '<th scope="col">style</th>' in html
    assert "By style: plain means over the images" in html

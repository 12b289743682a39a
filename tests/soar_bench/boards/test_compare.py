"""`soar-bench compare`: tests, words and tables, on records made by hand."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from records_by_hand import write_run
from scipy import stats as scipy_stats
from typer.testing import CliRunner

from soar_bench.boards import compare
from soar_bench.cli import app
from soar_bench.core import latex
from soar_bench.core.errors import SoarBenchError
from soar_bench.records import read_runs

NAN = math.nan
HOSTILE = "\\input{x} 50% $_#&^~{}[a]\n<script>|\x1b[31m"


def declared(unit="share", higher=True, aggregate="mean"):
    return {
        "unit": unit, "range": [None, None], "higher_is_better": higher, "version": "1",
        "source": "", "aggregate": aggregate,
    }  # fmt: skip


def record(label, metrics, steps=20, story=None, images=1):
    return {
        "checkpoint": {
            "label": label, "name": label, "digest": f"{label}{steps}", "revision": "",
            "form": "transformer" if story else "pipeline", "story": story or {},
            "base": {"name": "base", **story["base"]} if story else None,
        },
        "suite": {
            "name": "hand", "digest": "s", "seed": 1, "prompts": 3, "images_per_prompt": images,
            "source": "",
        },
        "protocol": {"name": f"steps={steps}", "settings": {"steps": steps}},
        "evaluators": {
            "judge": {"given": "judge", "version": "1", "identity": {}, "metrics": metrics}
        },
        "metrics": {},
        "made": {},
    }  # fmt: skip


def rows_of(metric, values, tasks=None, texts=None):
    """``values``: [prompts] or [prompts, images]; NaN is unscored."""
    table = np.asarray(values, dtype=float)
    table = table[:, None] if table.ndim == 1 else table
    return [
        {
            "prompt_id": f"p{i:03d}", "index": k, "task": tasks[i] if tasks else "",
            "prompt": texts[i] if texts else f"prompt {i}", "noise": "0", "image": "0",
            "metric": metric, "value": None if math.isnan(value) else value,
            "unscored": "too dark" if math.isnan(value) else "", "details": "{}",
        }
        for i, row in enumerate(table) for k, value in enumerate(row)
    ]  # fmt: skip


def story(name, seed):
    return {
        "name": name, "method": "sft", "step": 1, "seed": seed, "base": {"digest": "b"},
        "data": {"digest": "d"}, "config": {"seed": seed},
    }  # fmt: skip


@pytest.fixture()
def place(tmp_path):
    """place(label, {metric: values}, ...) writes a record; place.rows() compares all."""

    def write(label, scores, declare=None, tasks=None, texts=None, **keywords):
        metrics = {name: (declare or {}).get(name, declared()) for name in scores}
        rows = [row for name, v in scores.items() for row in rows_of(name, v, tasks, texts)]
        run = write_run(tmp_path / "r", record(label, metrics, **keywords), pd.DataFrame(rows))
        return str(run.folder)

    write.results = tmp_path / "r"
    write.rows = lambda **options: {
        (row.metric, row.entrant): row for row in compare(read_runs(tmp_path / "r"), **options).rows
    }
    return write


def invoked(*arguments, width=100):
    return CliRunner().invoke(
        app, ["compare", *map(str, arguments)], env={"COLUMNS": str(width), "TERM": "dumb"}
    )


def printed(*arguments, width=100):
    result = invoked(*arguments, width=width)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def table_of(*arguments):
    return list(csv.DictReader(io.StringIO(printed(*arguments, "--format", "csv"))))


# Which test, and what it says


def test_scores_on_a_scale_are_compared_by_the_paired_t_test(place):
    rng = np.random.default_rng(0)
    a = rng.normal(22, 1, size=30)
    b = a + rng.normal(0.3, 0.4, size=30)
    place("a", {"pick": a})
    place("b", {"pick": b})
    row = place.rows()["pick", "b"]
    assert row.test == "t"
    assert row.p_value == pytest.approx(scipy_stats.ttest_rel(b, a).pvalue)
    assert row.difference.value == pytest.approx((b - a).mean())
    assert (row.wins, row.losses) == ((b > a).sum(), (b < a).sum())
    assert row.effect == pytest.approx((b - a).mean() / (b - a).std(ddof=1))
    assert row.verdict == "better"


def test_right_and_wrong_are_compared_by_the_paired_t_test_too(place):
    a = [0] * 10 + [1] * 2 + [1] * 8
    b = [1] * 10 + [0] * 2 + [1] * 8
    place("a", {"right": a})
    place("b", {"right": b})
    row = place.rows()["right", "b"]
    assert row.test == "t"
    assert row.p_value == pytest.approx(scipy_stats.ttest_rel(b, a).pvalue)
    assert "paired t-test on prompt means" in " ".join(printed(place.results).split())
    exact = " ".join(printed(place.results, "--test", "exact").split())
    assert "McNemar's exact test" in exact


def test_right_and_wrong_with_one_image_are_compared_exactly_by_mcnemar(place):
    place("a", {"right": [0] * 10 + [1] * 2 + [1] * 8})
    place("b", {"right": [1] * 10 + [0] * 2 + [1] * 8})
    row = place.rows(test="exact")["right", "b"]
    assert row.test == "McNemar"
    assert row.p_value == pytest.approx(scipy_stats.binomtest(10, 12).pvalue)
    assert (row.wins, row.ties, row.losses) == (10, 8, 2)
    assert row.odds == 5


def test_right_and_wrong_with_several_images_are_compared_by_sign_flips_of_whole_prompts(place):
    """Four prompts, all better: 2 of 2^4 flips are as extreme, however many images there are."""
    place("a", {"right": np.zeros((4, 8))}, images=8)
    place("b", {"right": [[1] * 8, [1] * 4 + [0] * 4, [1] * 2 + [0] * 6, [1] + [0] * 7]}, images=8)
    row = place.rows(test="exact")["right", "b"]
    assert row.test == "sign-flip"
    assert row.p_value == pytest.approx(2 / 16)
    assert row.verdict == "no evidence of a difference at this size"


def test_a_mean_of_task_means_weighs_tasks_in_its_test(place):
    """One prompt of task x weighs as much as four of y: only flips that keep it count, and half of
    those of y that sum to 0 or more.
    """
    tasks = ["x", "y", "y", "y", "y"]
    declare = {"right": declared(aggregate="task_mean")}
    place("a", {"right": [0, 0, 0, 1, 1]}, declare, tasks)
    place("b", {"right": [1, 1, 1, 0, 0]}, declare, tasks)
    row = place.rows(test="exact")["right", "b"]
    assert row.difference.value == pytest.approx((1 + 0) / 2)
    # |x + y| >= 1, x = +-1, y in (-4, -2, 0, 2, 4) / 4 with 1, 4, 6, 4, 1 of 16: x and y alike,
    # or y = 0.
    assert row.p_value == pytest.approx((6 + 4 + 1) / 16)
    assert row.test == "sign-flip"


def test_several_seeds_are_compared_by_t_with_their_spread(place):
    place("base", {"right": [0, 1, 0, 1, 1, 0]})
    for seed, values in enumerate(([1, 1, 0, 1, 1, 1], [0, 1, 1, 1, 1, 1])):
        place(f"sft{seed}", {"right": values}, story=story("sft", seed))
    row = place.rows()["right", "sft"]
    assert row.test == "t"
    prompt_differences = np.array([0.5, 0, 0.5, 0, 0, 1])
    seeds = np.var([5 / 6, 5 / 6], ddof=1) / 2
    error = math.sqrt(scipy_stats.sem(prompt_differences) ** 2 + seeds)
    assert row.difference.standard_error == pytest.approx(error)
    assert row.p_value == pytest.approx(row.difference.p_value())


def test_p_values_are_corrected_over_the_metrics_of_a_pair(place):
    rng = np.random.default_rng(1)
    shifts = {"one": 0.2, "two": 0.5, "three": 1.0}
    base = {name: rng.normal(size=20) for name in shifts}
    other = {name: base[name] + rng.normal(shift, 1, 20) for name, shift in shifts.items()}
    place("a", base)
    place("b", other)
    rows = place.rows()
    raw = {m: scipy_stats.ttest_rel(other[m], base[m]).pvalue for m in shifts}
    smallest, middle, largest = sorted(raw, key=raw.get)
    assert rows[smallest, "b"].p_corrected == pytest.approx(3 * raw[smallest])
    expected = max(3 * raw[smallest], min(2 * raw[middle], 1))
    assert rows[middle, "b"].p_corrected == pytest.approx(expected)
    assert rows[largest, "b"].p_corrected == pytest.approx(max(raw[largest], expected))
    assert {row.tests for row in rows.values() if row.difference} == {3}
    assert printed(place.results, "--metric", smallest).count("Holm") == 2, "still for all three"


def test_the_verdict_follows_the_corrected_p_and_says_where_the_interval_does_not(place):
    """p = 0.03 alone is below 5%; among two metrics, the other of which says nothing, it is not."""
    rng = np.random.default_rng(2)
    d = rng.normal(size=20)
    d = (d - d.mean()) / d.std(ddof=1)
    wanted = scipy_stats.t.isf(0.03 / 2, 19) / math.sqrt(20)
    place("a", {"first": np.zeros(20), "second": np.zeros(20)})
    place("b", {"first": d + wanted, "second": d})
    row = place.rows()["first", "b"]
    assert row.p_value == pytest.approx(0.03)
    assert row.p_corrected == pytest.approx(0.06)
    assert row.interval[0] > 0
    assert row.verdict == "no evidence of a difference at this size"
    text = printed(place.results)
    assert "no evidence of a difference at this size †" in text
    assert "† The interval alone would say otherwise" in text
    assert place.rows(level=0.9)["first", "b"].verdict == "better"


def test_less_is_better_turns_verdict_and_wins_but_not_the_difference(place):
    declare = {"error": declared(higher=False)}
    place("a", {"error": [5.0, 6.0, 7.0, 8.0, 5.5, 9.0]}, declare)
    place("b", {"error": [4.0, 4.8, 6.1, 6.9, 6.0, 7.5]}, declare)
    row = place.rows()["error", "b"]
    assert row.difference.value < 0
    assert row.verdict == "better"
    assert (row.wins, row.losses) == (5, 1)
    assert "error ↓" in printed(place.results)


def test_each_is_compared_with_the_first_that_was_named(place):
    first = place("sft0", {"m": [3.0, 4.0, 5.0, 6.0]}, story=story("sft", 0))
    second = place("base", {"m": [1.0, 2.1, 2.9, 4.0]})
    rows = table_of(first, second)
    assert [row["checkpoint"] for row in rows] == ["sft0", "base"]
    assert float(rows[1]["difference"]) == pytest.approx(-2.0)
    rows = table_of(place.results)
    assert [row["checkpoint"] for row in rows] == ["base", "sft0"], "in a folder, the untrained"


def test_runs_are_named_by_folder_id_or_label(place):
    first = place("alpha", {"m": [3.0, 4.0, 5.5]})
    place("beta", {"m": [1.0, 2.0, 2.5]})
    by_folder = printed(place.results, "--format", "csv")
    results = ("--results", place.results, "--format", "csv")
    assert printed(first.rpartition("-")[2], "beta", *results) == by_folder


# How many prompts


def test_prompts_needed_for_what_was_seen_and_for_what_is_asked(place):
    """d_z = 0.5 takes 34 prompts and 0.2 takes 199, in any table."""
    d = np.random.default_rng(3).normal(size=30)
    d = (d - d.mean()) / d.std(ddof=1)
    place("a", {"m": np.zeros(30)})
    place("b", {"m": d + 0.5})
    row = place.rows(detect=0.2)["m", "b"]
    assert (row.needed, row.detect_prompts) == (34, 199)
    assert math.isnan(row.needed_images), "one image a prompt does not tell what more would do"
    text = " ".join(printed(place.results, "--detect", "0.2").split())
    assert "seeing this takes 34 prompts" in text
    assert "seeing 0.2 takes 199 prompts" in text
    text = " ".join(printed(place.results, "--detect", "2").split())
    assert "30 prompts are enough to see 2" in text


# Intervals


def test_the_bootstrap_is_for_single_seeds_and_says_where_it_is_not_used(place):
    rng = np.random.default_rng(4)
    place("base", {"m": rng.normal(size=25)})
    place("one", {"m": rng.normal(size=25)}, story=story("one", 0))
    for seed in range(2):
        place(f"two{seed}", {"m": rng.normal(size=25)}, story=story("two", seed))
    rows = place.rows(interval="bootstrap")
    plain = place.rows()
    assert rows["m", "one"].interval_by == rows["m", "base"].value_interval_by == "bootstrap"
    assert rows["m", "one"].interval != plain["m", "one"].interval
    assert rows["m", "one"].interval == pytest.approx(plain["m", "one"].interval, abs=0.15)
    assert rows["m", "two"].interval_by == "analytic"
    assert rows["m", "two"].interval == plain["m", "two"].interval
    text = " ".join(printed(place.results, "--interval", "bootstrap").split())
    assert "by the cluster bootstrap (by t where there are several training seeds)" in text
    assert "One training seed only: one." in text


# Not measured alike


def test_what_was_not_measured_alike_is_refused_naming_the_setting(place):
    place("a", {"m": [1.0, 2.0]})
    place("b", {"m": [1.0, 2.0]}, steps=10)
    with pytest.raises(SoarBenchError, match=r"protocol\.steps: 20 and 10|steps: 10 and 20"):
        printed(place.results)


def test_one_checkpoint_under_two_settings_is_never_one_row(place):
    """Named for what differs; without --anyway it is refused, not passed over."""
    place("a", {"m": [1.0, 2.0, 3.0]})
    run = record("a", {"m": declared()}, steps=10)
    run["checkpoint"]["digest"] = "a20"
    write_run(place.results, run, pd.DataFrame(rows_of("m", [1.0, 2.5, 3.0])))
    with pytest.raises(SoarBenchError, match="not measured alike"):
        printed(place.results)
    rows = table_of(place.results, "--anyway")
    names = {row["checkpoint"] for row in rows}
    assert names == {"a, hand under steps=10", "a, hand under steps=20"}


def test_anyway_compares_what_both_have_and_marks_it_everywhere(place):
    """Prompt 1 has another text, metric extra and the second images are on one side only."""
    texts = ["prompt 0", "another", "prompt 2", "prompt 3"]
    a = place("a", {"m": [1.0, 50.0, 3.0, 5.5], "extra": [1.0, 1.0, 1.0, 1.0]})
    two = [[2.0, 90.0], [60.0, 90.0], [5.0, 90.0], [6.0, 90.0]]
    b = place("b", {"m": two}, steps=10, texts=texts, images=2)
    rows = table_of(a, b, "--anyway")
    assert [(row["metric"], row["checkpoint"]) for row in rows] == [("m", "a"), ("m", "b")]
    assert {row["measured_alike"] for row in rows} == {"False"}
    assert float(rows[0]["value"]) == pytest.approx(9.5 / 3)
    assert float(rows[1]["difference"]) == pytest.approx(3.5 / 3)
    assert rows[1]["common_prompts"] == "3"
    assert rows[1]["verdict"].endswith("(not measured alike)")
    for form in ("terminal", "markdown", "latex", "json"):
        text = " ".join(printed(a, b, "--anyway", "--format", form).split())
        assert "NOT MEASURED ALIKE" in text, form
        assert "steps: 20 and 10" in text.replace("\\", ""), form
    assert json.loads(printed(a, b, "--anyway", "--format", "json"))["measured_alike"] is False


def test_anyway_marks_only_those_that_were_measured_otherwise(place):
    folders = [place(name, {"m": [1.0, 2.0, x]}) for name, x in (("a", 3.0), ("b", 4.0))]
    folders.append(place("c", {"m": [1.0, 2.0, 5.0]}, steps=10))
    marks = {row["checkpoint"]: row["measured_alike"] for row in table_of(*folders, "--anyway")}
    assert marks == {"a": "False", "b": "True", "c": "False"}


def test_anyway_refuses_where_nothing_is_common(place):
    a = place("a", {"m": [1.0, 2.0]})
    b = place("b", {"other": [1.0, 2.0]}, steps=10)
    c = place("c", {"m": [1.0, 2.0]}, steps=10, texts=["x", "y"])
    d = place("d", {"m": [1.0, 2.0]}, {"m": declared(higher=False)}, steps=10)
    for folder in (b, d):
        with pytest.raises(SoarBenchError, match="no metric in common"):
            printed(a, folder, "--anyway")
    with pytest.raises(SoarBenchError, match="no prompt in common"):
        printed(a, c, "--anyway")


# Bad input


def test_one_checkpoint_is_nothing_to_compare(place):
    folder = place("alone", {"m": [1.0, 2.0]})
    for arguments in ([folder], [folder, folder], [place.results]):
        with pytest.raises(SoarBenchError, match="needs two checkpoints: there is one, alone"):
            printed(*arguments)


@pytest.mark.parametrize(
    ("a", "b", "words", "difference"),
    [
        ([1.0], [2.0], "too few prompts or seeds to tell", 1.0),
        ([[1, 1, 0, 0]], [[1, 1, 1, 1]], "too few prompts or seeds to tell", 0.5),
        ([NAN, NAN], [1.0, 2.0], "nothing in common to compare", None),
        ([NAN, NAN], [NAN, NAN], "nothing in common to compare", None),
        ([1.0, NAN], [NAN, 1.0], "nothing in common to compare", None),
        ([1.0, 2.0, NAN], [1.0, 2.0, 3.0], "equal on every prompt", 0.0),
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], "equal on every prompt", 0.0),
        ([0.1, 0.2, 0.3], [0.6, 0.7, 0.8], "no evidence of a difference at this size", 0.5),
        ([0.0] * 10, [0.5] * 10, "better", 0.5),
    ],
    ids=[
        "one prompt", "one prompt of several images", "one side unscored", "nothing scored",
        "no prompt that both scored", "equal, one unscored", "constant", "a constant difference",
        "a constant difference of ten",
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_said_in_words_without_a_misleading_number(
    place, a, b, words, difference
):
    images = np.ndim(a) and np.shape(a)[-1] if np.ndim(a) == 2 else 1
    place("a", {"m": a}, images=images)
    place("b", {"m": b}, images=images)
    row = place.rows()["m", "b"]
    assert row.verdict == words
    assert all(map(math.isnan, row.interval))
    text = printed(place.results)
    assert words in text
    for number in ("nan", "inf", "± 0.000", "[+"):
        assert number not in text.lower()
    (_, data) = table_of(place.results)
    found = data["difference"]
    assert found == "" if difference is None else float(found) == pytest.approx(difference)
    assert (data["difference_low"], data["difference_high"]) == ("", "")
    assert "NaN" not in printed(place.results, "--format", "json")


def test_unscored_is_counted_beside_the_mean(place):
    place("a", {"m": [1.0, NAN, 3.0, 2.0]})
    place("b", {"m": [1.5, 2.0, 3.1, NAN]})
    row = place.rows()["m", "b"]
    assert row.value.unscored == 1
    assert row.difference.prompts == 2
    assert "n 3 (+1 unscored)" in printed(place.results)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "absent"], "no metric 'absent' here: there are m"),
        (["--level", "95"], "--level takes a number between 0 and 1, not 95"),
        (["--detect", "-0.1"], "--detect takes a positive number"),
        (["--detect", "nan"], "--detect takes a positive number"),
    ],
)
def test_options_that_make_no_sense_are_refused(place, arguments, message):
    place("a", {"m": [1.0, 2.0]})
    place("b", {"m": [1.0, 2.0]})
    with pytest.raises(SoarBenchError, match=re.escape(message)):
        printed(place.results, *arguments)


def test_a_run_that_is_not_there_is_named(place, tmp_path):
    place("a", {"m": [1.0, 2.0]})
    with pytest.raises(SoarBenchError, match="there is no run in nowhere"):
        printed("nowhere", "--results", tmp_path / "absent")
    with pytest.raises(SoarBenchError, match="is named 'nowhere'"):
        printed("nowhere", "--results", place.results)


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
            {"pickscore": declared("a score", aggregate="mean")},
        )
    return place.results


@pytest.mark.parametrize("width", [80, 120])
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
    found = json.loads(printed(three, "--format", "json"))
    assert found["reference"] == "base"
    assert found["measured_alike"] is True
    for one, other in zip(found["rows"], table_of(three), strict=True):
        assert set(one) == set(other)
        for key in ("value", "p_corrected", "difference_low"):
            assert (one[key] is None) == (other[key] == "")
            assert one[key] is None or one[key] == pytest.approx(float(other[key]))


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


# The gate


def shifted(place, shift, metric="m", higher=True, prompts=40, noise=0.2):
    """Two checkpoints whose paired differences have this mean and deviation exactly."""
    rng = np.random.default_rng(6)
    base, d = rng.normal(size=(2, prompts))
    d = (d - d.mean()) / d.std(ddof=1)
    declare = {metric: declared(higher=higher)}
    a = place("a", {metric: base}, declare)
    b = place("b", {metric: base + noise * d + shift}, declare)
    return a, b, noise / math.sqrt(prompts)


@pytest.mark.parametrize(
    ("shift", "higher", "code"),
    [(-0.3, True, 3), (0.3, True, 0), (-0.01, True, 0), (0.3, False, 3), (-0.3, False, 0)],
)
def test_the_gate_fails_what_is_significantly_worse_in_the_metrics_direction(
    place, shift, higher, code
):
    a, b, _ = shifted(place, shift, higher=higher)
    result = invoked(a, b, "--fail-if", "worse")
    assert result.exit_code == code
    assert ("b is worse than a in m" in result.stderr) == (code == 3)
    assert "checkpoint" in result.stdout, "the table is printed all the same"
    assert invoked(a, b).exit_code == 0, "without the option nothing fails"


@pytest.mark.parametrize(("quantile", "code"), [(1.05, 3), (0.95, 0)])
def test_a_margin_is_what_the_two_sided_interval_has_to_lie_beyond(place, quantile, code):
    """With the difference this many half intervals below -margin."""
    margin = 0.1
    half = scipy_stats.t.ppf(0.975, 39) * 0.2 / math.sqrt(40)
    a, b, _ = shifted(place, -margin - quantile * half)
    result = invoked(a, b, "--fail-if", "worse", "--margin", str(margin))
    assert result.exit_code == code
    assert ("by more than 0.1" in result.stderr) == (code == 3)
    assert invoked(a, b, "--fail-if", "worse").exit_code == 3


def test_the_gate_agrees_with_the_verdicts_and_their_correction(place):
    """p = 0.03 alone would fail; corrected for two metrics it does not, whichever is asked for."""
    d = np.random.default_rng(2).normal(size=20)
    d = (d - d.mean()) / d.std(ddof=1)
    below = scipy_stats.t.isf(0.03 / 2, 19) / math.sqrt(20)
    place("a", {"first": np.zeros(20), "second": np.zeros(20)})
    place("b", {"first": d - below, "second": d})
    for metric in ([], ["--metric", "first"]):
        assert invoked(place.results, "--fail-if", "worse", *metric).exit_code == 0
    assert invoked(place.results, "--fail-if", "worse", "--level", "0.9").exit_code == 3


def test_only_the_metrics_that_are_named_can_fail(place):
    rng = np.random.default_rng(7)
    base = rng.normal(size=30)
    a = place("a", {"good": base, "bad": base})
    worse = base - 1 + rng.normal(scale=0.1, size=30)
    b = place("b", {"good": base + 1 + rng.normal(scale=0.1, size=30), "bad": worse})
    failed = invoked(a, b, "--fail-if", "worse")
    assert failed.exit_code == 3
    assert failed.stderr.count("is worse than") == 1 and "in bad:" in failed.stderr
    assert invoked(a, b, "--fail-if", "worse", "--metric", "good").exit_code == 0
    assert invoked(a, b, "--fail-if", "worse", "--metric", "bad").exit_code == 3


def test_a_constant_loss_is_tested_by_its_signs_against_the_margin_too(place):
    a, b, _ = shifted(place, -0.5, noise=0.0, prompts=10)
    assert invoked(a, b, "--fail-if", "worse").exit_code == 3
    assert invoked(a, b, "--fail-if", "worse", "--margin", "0.4").exit_code == 3
    assert invoked(a, b, "--fail-if", "worse", "--margin", "0.6").exit_code == 0


def test_the_gate_refuses_what_cannot_be_compared(place):
    a = place("a", {"m": [1.0, 2.0, 3.0]})
    b = place("b", {"m": [NAN, NAN, NAN]})
    c = place("c", {"m": [1.0, 2.0, 3.0]}, steps=10)
    with pytest.raises(SoarBenchError, match="no score of m in common"):
        printed(a, b, "--fail-if", "worse")
    with pytest.raises(SoarBenchError, match="not measured alike"):
        printed(a, c, "--fail-if", "worse")
    with pytest.raises(SoarBenchError, match="--margin is that of --fail-if"):
        printed(a, b, "--margin", "0.1")
    with pytest.raises(SoarBenchError, match="--margin takes a number from 0, not -1"):
        printed(a, b, "--fail-if", "worse", "--margin", "-1")


def test_exit_codes_of_the_command_itself(place):
    """2 for what is refused, as every refusal has it; 3 for what is worse."""
    a, b, _ = shifted(place, -0.3)
    c = place("c", {"m": [1.0, 2.0]}, steps=10)
    for other, code in ((b, 3), (c, 2)):
        done = subprocess.run(
            [sys.executable, "-m", "soar_bench", "compare", a, other, "--fail-if", "worse"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


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

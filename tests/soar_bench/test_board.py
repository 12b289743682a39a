"""Records, comparison and leaderboard on records made by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from soar_bench.compare import compare, entrants, verdict
from soar_bench.leaderboard import leaderboard
from soar_bench.markdown import escape, table
from soar_bench.records import COLUMNS, RUN_FILE, SCORES_FILE, read_run, read_runs, write_run
from soar_bench.stats import Estimate
from soar_bench.types import SoarBenchError

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
    board = {e.name: e for e in entrants([*runs, runs[0]])}
    assert {name: len(e.runs) for name, e in board.items()} == {"shapes": 1, "sft": 2, "soar": 3}


def test_two_checkpoints_of_one_seed_do_not_pass_for_two_seeds(results):
    write_run(results, record("soar-again", "other weights", story("soar", 1)), scores(0.9))
    with pytest.raises(SoarBenchError, match="two checkpoints of one training and seed"):
        entrants(read_runs(results))


def test_entrants_of_one_name_are_told_apart(tmp_path):
    write_run(tmp_path, record("a", "a", story("sft", 0, step=200)), scores(0.5))
    write_run(tmp_path, record("b", "b", story("sft", 0, step=400)), scores(0.5))
    assert {e.name for e in entrants(read_runs(tmp_path))} == {"sft, step 200", "sft, step 400"}
    write_run(tmp_path, record("c", "c", story("sft", 0, base="another")), scores(0.5))
    names = [e.name for e in entrants(read_runs(tmp_path))]
    assert len(set(names)) == 3


def test_what_was_not_trained_comes_first(results):
    assert entrants(read_runs(results))[0].name == "shapes"


def test_compare_gives_values_differences_and_plain_words(results):
    board = sorted(entrants(read_runs(results)), key=lambda e: e.name != "shapes")
    rows = {row.entrant: row for row in compare(board)}
    assert rows["shapes"].difference is None
    assert rows["soar"].verdict == "better"
    assert rows["soar"].value.seeds == 3
    assert rows["soar"].difference.value == pytest.approx(
        rows["soar"].value.value - rows["shapes"].value.value
    )


def test_runs_not_measured_alike_are_refused_naming_the_setting(results):
    write_run(results, record("other", "o", steps=10), scores(0.5))
    with pytest.raises(SoarBenchError, match=r"steps: (20 and 10|10 and 20)"):
        compare(entrants(read_runs(results)))


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
    rows = compare(entrants(read_runs(tmp_path)))
    assert {row.verdict for row in rows} == {"", "nothing in common to compare"}
    page = leaderboard(read_runs(tmp_path), tmp_path, tmp_path / "leaderboard.md")
    assert "nan" not in page.lower().replace("unscored", "")


def test_the_page_has_the_same_bytes_for_the_same_records(results, tmp_path):
    page = leaderboard(read_runs(results), results, tmp_path / "leaderboard.md")
    again = leaderboard(list(reversed(read_runs(results))), results, tmp_path / "leaderboard.md")
    assert page == again
    lines = [line for line in page.splitlines() if line.startswith("| 1 |")]
    assert "soar" in lines[0]
    assert "**" in lines[0], "a difference whose interval excludes zero stands out"
    assert "seed 2" in lines[0]
    assert "](<results/shapes/shapes/soar-seed2-" in lines[0]


def test_the_difference_is_to_the_base_it_was_trained_from(results, tmp_path):
    """A better base on the same board is no reference for what was not trained from it."""
    write_run(results, record("strong", "strong"), scores(0.95))
    write_run(results, record("x-seed0", "x", story("x", 0, base="strong")), scores(0.95, 5))
    write_run(results, record("y-seed0", "y", story("y", 0, base="absent")), scores(0.95, 6))
    page = leaderboard(read_runs(results), results, tmp_path / "leaderboard.md")
    cells = {
        line.split(" | ")[1]: line.split(" | ")[4]
        for line in page.splitlines() if line.startswith("| ") and line[2].isdigit()
    }  # fmt: skip
    assert cells["soar"].startswith("**+0.6")
    assert cells["x"].startswith("-0.0") or cells["x"].startswith("+0.0")
    assert cells["y"] == cells["strong"] == cells["shapes"] == "-"


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
    header = next(line for line in page.splitlines() if line.startswith("|  | checkpoint"))
    unescaped = rows[0].replace("\\|", "")
    assert unescaped.count("|") == header.count("|")


def test_markdown_escape_and_table():
    assert escape("a|b\n<c>") == "a\\|b &lt;c&gt;"
    assert table(["a", "b"], [["1", "2"]], right=(1,)) == "| a | b |\n|---|---:|\n| 1 | 2 |\n"


def test_many_runs_render_in_bounded_time(tmp_path):
    """A bound far above what it takes, against work that grows with the square."""
    import time

    for i in range(60):
        write_run(tmp_path, record(f"m{i}", f"m{i}", story(f"m{i}", 0)), scores(0.5, i))
    start = time.monotonic()
    leaderboard(read_runs(tmp_path), tmp_path, tmp_path / "leaderboard.md")
    assert time.monotonic() - start < 30

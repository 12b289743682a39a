"""Odd names, homes, terminals and stories: one sentence, or the right result."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from benchmarks.bad_inputs.endings import run
from soar_bench.checkpoints import resolve
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.files import home
from soar_bench.output.tables import comparison_table
from soar_bench.suites.files import read_suite
from training.checkpoint import CHECKPOINT_FILE, SCHEMA, read_checkpoint
from training.types import TrainingError


@pytest.mark.parametrize("variable", ["~nouser/x", "~nouser"])
def test_a_home_of_nobody_is_named(monkeypatch, variable):
    monkeypatch.setenv("SOAR_BENCH_HOME", variable)
    with pytest.raises(SoarBenchError, match=r"SOAR_BENCH_HOME is '~nouser.*write the whole path"):
        home()


@pytest.mark.parametrize("name", ["", " ", "\t"])
def test_an_empty_name_is_not_the_current_folder(name, tiny_pipeline, monkeypatch):
    monkeypatch.chdir(tiny_pipeline)
    with pytest.raises(SoarBenchError, match="a checkpoint has a name"):
        resolve(name)


def test_a_name_too_long_for_a_path_is_shown_in_part():
    with pytest.raises(SoarBenchError) as refused:
        resolve("a" * 5000)
    assert "is named" in str(refused.value)
    assert len(str(refused.value)) < 400


def test_a_folder_whose_name_is_not_utf8_is_named(tiny_pipeline, tmp_path, monkeypatch):
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff")
    shutil.copytree(tiny_pipeline, odd)
    monkeypatch.chdir(odd)
    for name in (odd, ".", "transformer"):
        with pytest.raises(SoarBenchError, match="is not UTF-8: rename"):
            resolve(name)


@pytest.mark.parametrize("nowhere", ["/proc/x.png", "/dev/null/x.png", "file/x.png"])
@pytest.mark.parametrize(
    "command",
    [
        "leaderboard --format md --output",
        "compare a b --output",
        "export csv a --output",
        "export card a --output",
        "report --output",
        "rerun a --output",
        "drift shapes --output",
        "evaluators new mine --output",
        "shapes render",
    ],
)
def test_an_output_that_cannot_be_written_is_told_before_anything(
    command, nowhere, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [])
    Path("file").write_text("a file")
    code, text = run([*command.split(), nowhere])
    assert text.startswith(f"soar-bench: nothing can be written to {nowhere}: ")
    assert (code, len(text.splitlines()), [*map(str, Path().iterdir())]) == (2, 1, ["file"])


def test_a_folder_is_no_file_to_write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [])
    assert run(["leaderboard", "--format", "md", "--output", "."])[1].endswith(
        "soar-bench: . is a folder: name a file in it\n"
    )


@pytest.mark.parametrize("width", [0, 1, 5, 80])
def test_a_comparison_fits_any_terminal(width, tmp_path):
    from soar_bench.boards import compare
    from tests.soar_bench.records_by_hand import few_scores, record, write_run

    runs = [
        write_run(tmp_path, record(label=label, digest=label), few_scores(*values))
        for label, values in (("one", (0.25, 0.5)), ("two", (0.5, 0.75)))
    ]
    assert "quality" in comparison_table(compare(runs).rows, width).plain


def test_suites_and_protocols_have_a_few_lines_each_in_60_columns():
    from soar_bench.output.suites import protocols_table, read_row, suites_table
    from soar_bench.suites import names
    from soar_bench.suites.protocols import PROTOCOLS

    listed = [*names(), *PROTOCOLS]
    text = suites_table(list(map(read_row, names())), 60) + protocols_table(60)
    lines = text.plain.splitlines()
    assert max(map(len, lines)) <= 60
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == [
        "suite", *names(), "protocol", *PROTOCOLS,
    ]  # fmt: skip
    assert len(lines) <= 4.5 * len(listed)


def test_results_keep_names_whole_in_60_columns(tmp_path):
    from rich.console import Console

    from soar_bench.output.tables import run_table
    from tests.soar_bench.records_by_hand import few_scores, record, write_run

    label = "a-lora-of-rank-64-seed0, step 60"
    run = write_run(tmp_path, record(label=label, digest="d"), few_scores(0.25, 0.5))
    console = Console(width=60)
    with console.capture() as printed:
        console.print(run_table([run]))
    (row,) = [line for line in printed.get().splitlines() if "quality" in line]
    assert row.startswith(f"{label}  quality")


def test_results_of_several_suites_are_tables_whose_titles_and_names_are_whole(tmp_path):
    from rich.console import Console

    from soar_bench.output.tables import run_table
    from tests.soar_bench.records_by_hand import few_scores, record, write_run

    runs = []
    for name in ("a-suite-of-a-long-name+limit=12", "another\nsuite+limit=12"):
        of_suite = record(label="sft-seed0, step 6", digest="d")
        of_suite["suite"]["name"] = name
        runs.append(write_run(tmp_path, of_suite, few_scores(0.25, 0.5)))
    console = Console(width=60)
    with console.capture() as printed:
        console.print(run_table(runs))
    lines = [line.rstrip() for line in printed.get().splitlines()]
    assert [line for line in lines if " under " in line] == [
        "a-suite-of-a-long-name+limit=12 under shapes",
        "another suite+limit=12 under shapes",
    ]
    assert sum(line.startswith("sft-seed0, step 6  quality") for line in lines) == 2


@pytest.mark.parametrize(
    ("position", "words"),
    [(["left of", 7], "position"), (["left of"], "position"), ("left", "position")],
)
def test_a_wrong_position_in_the_embedded_world_is_named(tmp_path, position, words):
    clauses = [{"class": "circle", "count": 1}, {"class": "star", "count": 1, "position": position}]
    file = tmp_path / "p.jsonl"
    file.write_text(json.dumps({"prompt": "x", "tag": "position", "include": clauses}))
    with pytest.raises(SoarBenchError, match=words):
        read_suite(str(file))


STORY = {
    "schema": SCHEMA, "weights": "w", "name": "n", "method": "sft", "step": 1, "seed": 0,
    "base": {"name": "shapes", "digest": "d"}, "data": {"digest": "d"}, "config": {},
}  # fmt: skip


@pytest.mark.parametrize("value", [None, True, 0.5, "text", [], [1], {}, {"digest": 5}])
@pytest.mark.parametrize("key", sorted(STORY.keys() - {"schema"}))
def test_a_story_of_wrong_types_is_damaged(tmp_path, key, value):
    file = tmp_path / CHECKPOINT_FILE
    file.write_text(json.dumps(STORY))
    assert read_checkpoint(tmp_path) == STORY
    if type(value) is type(STORY[key]) and key in ("weights", "name", "method", "config"):
        return
    file.write_text(json.dumps({**STORY, key: value}))
    with pytest.raises(TrainingError, match=f"is damaged: {key} is "):
        read_checkpoint(tmp_path)


def test_a_story_nested_too_deeply_is_damaged(tmp_path):
    (tmp_path / CHECKPOINT_FILE).write_text("[" * 200_000)
    with pytest.raises(TrainingError, match="is damaged"):
        read_checkpoint(tmp_path)

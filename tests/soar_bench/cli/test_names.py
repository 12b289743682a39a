"""One name for a checkpoint in every list, names that the user chooses, evaluators per suite."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from records_by_hand import few_scores, record, write_run
from typer.testing import CliRunner

from evaluators.geneval import shapes as shapes_geneval
from evaluators.geneval.evaluator import geneval
from evaluators.ocr.evaluator import OcrAccuracy
from soar_bench.boards import group_seeds
from soar_bench.boards.selection import select_boards
from soar_bench.cli import app
from soar_bench.core.errors import SoarBenchError
from soar_bench.records import read_runs
from soar_bench.records.folders import select, survey
from soar_bench.records.labels import Named, told_apart


def run(*arguments):
    result = CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "160"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def dry(tmp_path, *arguments):
    places = ("--results", tmp_path / "r", "--cache", tmp_path / "c")
    result = run("eval", *arguments, *places, "--dry-run", "--json")
    return json.loads(result.stdout)


def story(step, seed=42):
    return {
        "name": "my-lora", "method": "sft", "step": step, "seed": seed, "base": {"digest": "b"},
        "data": {"digest": "d"}, "config": {"seed": seed, "steps": 6},
    }  # fmt: skip


def test_labels_are_told_apart_by_step_and_then_by_digest():
    steps = [Named("x", f"d{step}", step) for step in (2, 4)]
    other = [Named("y", "d9", None), Named("y", "d9", None)]
    assert told_apart([*steps, *other]) == ["x, step 2", "x, step 4", "y", "y"]
    pipelines = [Named("p", "aaaaaaaa", None), Named("p", "bbbbbbbb", None)]
    assert told_apart(pipelines) == ["p (aaaaaa)", "p (bbbbbb)"]


@pytest.fixture()
def steps(tmp_path):
    """Records of three steps of one training."""
    rows = pd.DataFrame()
    for step in (2, 4, 6):
        contents = record(
            label="my-lora-seed42", name=f"out/{step}", digest=f"w{step}", form="lora",
            base={"name": "b", "digest": "b"}, story=story(step),
        )  # fmt: skip
        write_run(tmp_path / "r", contents, rows)
    return tmp_path / "r"


def test_steps_of_one_training_have_their_names_in_lists_and_are_found_by_them(steps):
    expected = [f"my-lora-seed42, step {step}" for step in (2, 4, 6)]
    assert sorted(entry.label for entry in survey(steps)) == expected
    listed = run("runs", "list", "--results", steps).stdout
    assert all(name in listed for name in expected)
    run_of_four = select(steps, "my-lora-seed42, step 4").whole()
    assert run_of_four.training["step"] == 4
    with pytest.raises(SoarBenchError, match="means 3 runs"):
        select(steps, "my-lora-seed42")


def test_boards_have_the_names_of_lists(steps):
    names = [entrant.name for entrant in group_seeds(read_runs(steps))]
    assert sorted(names) == sorted(entry.label for entry in survey(steps))


def test_the_training_of_a_single_seed_is_a_reference_too(tmp_path):
    runs = []
    for label, told in (("base", None), ("my-lora-seed42", story(2))):
        part = {"form": "lora", "base": {"name": "b", "digest": "b"}, "story": told} if told else {}
        contents = record(label=label, name=label, digest=label, **part)
        runs.append([write_run(tmp_path, contents, few_scores(0.25, 0.5))])
    for reference in ("my-lora", "my-lora-seed42"):
        ((first, second),), _ = select_boards(runs, reference=reference)
        assert (first.name, second.name) == ("my-lora-seed42", "base")


def test_a_label_of_the_users_is_the_name_on_boards(tmp_path):
    contents = record(label="mine", name="out/2", digest="w2", form="lora", labelled=True,
                      base={"name": "b", "digest": "b"}, story=story(2))  # fmt: skip
    write_run(tmp_path, contents, pd.DataFrame())
    assert [entrant.name for entrant in group_seeds(read_runs(tmp_path))] == ["mine"]
    assert select(tmp_path, "mine").whole().name == "mine"


def test_seeds_with_labels_of_their_own_have_the_trainings_name(tmp_path):
    for seed in (0, 1):
        contents = record(
            label=f"mine {seed}", name="o", digest=f"w{seed}", form="lora", labelled=True,
            base={"name": "b", "digest": "b"}, story=story(2, seed),
        )  # fmt: skip
        write_run(tmp_path, contents, pd.DataFrame())
    assert [entrant.name for entrant in group_seeds(read_runs(tmp_path))] == ["my-lora"]


def test_eval_takes_a_label_for_each_checkpoint(tmp_path):
    (plan,) = dry(tmp_path, "shapes", "--label", "the base")
    assert plan["checkpoint"]["label"] == "the base"
    with pytest.raises(SoarBenchError, match="--label names 2 checkpoints of 1"):
        dry(tmp_path, "shapes", "--label", "a,b")


# Evaluators and suites


def test_evaluators_know_which_prompts_they_can_judge():
    quoted, task = 'a sign that says "hi"', {"tag": "counting", "include": []}
    assert OcrAccuracy().can_judge(quoted, {})
    assert not OcrAccuracy().can_judge("a cat", {})
    assert not OcrAccuracy().can_judge('a "" sign', {})
    for judge in (geneval(), shapes_geneval.ShapesGenEval()):
        assert judge.can_judge("two dogs", task)
        assert not judge.can_judge("two dogs", {})


def test_an_evaluator_is_left_out_where_it_can_judge_nothing(tmp_path):
    options = ("--evaluators", "shapes-geneval,shapes-clipscore", "--images", 1)
    prompts = tmp_path / "mine.txt"
    prompts.write_text("a red circle\n")
    suites = f"shapes,{prompts}"
    plans = dry(tmp_path, "shapes", "--suite", suites, *options, "--protocol", "shapes")
    assert [sorted(plan["to_score"]) for plan in plans] == [
        ["shapes-clipscore", "shapes-geneval"],
        ["shapes-clipscore"],
    ]
    assert plans[1]["left_out"] == ["shapes-geneval can judge no prompt of mine: left out there"]
    with pytest.raises(SoarBenchError, match="shapes-geneval can judge no prompt of mine: name"):
        dry(
            tmp_path,
            "shapes",
            "--suite",
            prompts,
            "--protocol",
            "shapes",
            *options[:1],
            "shapes-geneval",
        )


def test_a_suite_has_evaluators_of_its_own(tmp_path):
    suites = "shapes:shapes-clipscore,shapes-dev:shapes-geneval+shapes-clipscore,shapes-signs"
    plans = dry(tmp_path, "shapes", "--suite", suites, "--evaluators", "shapes-clipscore")
    assert [sorted(plan["to_score"]) for plan in plans] == [
        ["shapes-clipscore"],
        ["shapes-clipscore", "shapes-geneval"],
        ["shapes-clipscore"],
    ]

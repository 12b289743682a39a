"""Habits that all commands share: help, examples, lists, formats, files of options."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from soar_bench.cli import app
from soar_bench.core.devices import choose
from soar_bench.core.errors import SoarBenchError
from soar_bench.trainer.config import load_config

ROOT = Path(__file__).parents[3]


def commands(command=None, parent=None, name="soar-bench"):
    """Yield the words of every command that is no group, the command, and its context."""
    command = command or typer.main.get_command(app)
    context = typer.Context(command, parent=parent, info_name=name, terminal_width=80)
    below = getattr(command, "commands", {})
    if not below:
        yield context.command_path, command, context
    for child, inner in below.items():
        yield from commands(inner, context, child)


COMMANDS = {path: (command, context) for path, command, context in commands()}


def run(*arguments, code=0):
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == code, done.output
    return done.output


@pytest.mark.parametrize("path", COMMANDS)
def test_help_names_values_by_words(path):
    command, context = COMMANDS[path]
    text = command.get_help(context)
    assert not re.search(r"<[a-z]", text)  # <str>, <list[str]>, <int range>
    for parameter in command.params:
        if not getattr(parameter, "is_flag", False):
            assert parameter.metavar, f"{path}: {parameter.name} has no word for its value"
    usage = text.splitlines()[0]
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            assert parameter.metavar in usage


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_examples_that_it_takes(path):
    command, context = COMMANDS[path]
    text = command.get_help(context)
    examples = text.partition("\nExamples:\n")[2].splitlines()
    assert examples and max(map(len, examples)) <= 80
    known = {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
    assert "--evaluators" not in known or "--evaluator" in known  # whichever comes to mind
    for example in examples:
        words = shlex.split(example, comments=True)
        length = len(path.split())
        listed = path.endswith(" list") and words == path.split()[:-1]
        assert listed or words[:length] == path.split() or words[: length - 1] == path.split()[:-1]
        assert {word for word in words if word.startswith("--")} <= known, example
        for word in words:  # the board that is here can be tried
            assert not word.startswith("results/shapes/") or (ROOT / word).is_dir(), example


def test_help_breaks_no_word_at_its_hyphen():
    for path, (command, context) in COMMANDS.items():
        text = command.get_help(context)
        lines = text.partition("\nExamples:\n")[0].splitlines()[1:]  # the usage comes first
        assert "\u2011" not in text
        assert not [line for line in lines if line.endswith("-")], path


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("runs ", "list show delete verify"),
        ("evaluators s", "show"),
        ("suites show shapes-", "shapes-dev shapes-signs"),
        ("eval models/tuned --suite geneval,dr", "geneval,drawbench"),
        ("eval models/tuned --evaluators aesthetic,picks", "aesthetic,pickscore"),
        ("eval models/tuned --protocol soar", "soar-paper"),
        ("score photos --evaluator ocr-", "ocr-paddle ocr-paddle-flow-grpo ocr-tesseract"),
        ("fetch --suite dpg", "dpg"),
        ("train d-", "d-opsd"),
    ],
)
def test_shells_complete(words, completed):
    shell = {"COMP_WORDS": f"soar-bench {words}", "COMP_CWORD": str(len(words.split(" ")))}
    asked = CliRunner().invoke(
        app, prog_name="soar-bench", env={**shell, "_SOAR_BENCH_COMPLETE": "complete_bash"}
    )
    assert asked.stdout.split() == completed.split()


def test_shells_are_set_up_from_the_help():
    text = run("--help")
    assert "--install-completion" in text and "--show-completion" in text


@pytest.mark.parametrize("group", ["suites", "evaluators", "runs"])
def test_a_group_lists_without_a_verb(group, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = 2 if group == "runs" else 0  # there are none here
    if group == "runs":
        with pytest.raises(BaseException, match="no results"):
            typer.main.get_command(app)([group], standalone_mode=False)
    else:
        assert run(group, code=code) == run(group, "list", code=code)
        assert json.loads(run(group, "--json")) == json.loads(run(group, "list", "--json"))


@pytest.mark.parametrize(("group", "name"), [("suites", "shapes-dev"), ("evaluators", "ocr")])
def test_a_name_in_place_of_a_verb_is_shown(group, name):
    assert run(group, name) == run(group, "show", name)


def test_suites_are_shown_from_a_list_with_commas():
    text = run("suites", "show", "shapes,shapes-signs")
    assert text == run("suites", "show", "shapes", "shapes-signs")


@pytest.mark.parametrize(("short", "full"), [("bf16", "bfloat16"), ("fp16", "float16")])
def test_precisions_have_two_names(short, full, tmp_path):
    def plan(name):
        text = run(
            "eval", "shapes", "--suite", "shapes-dev", "--dtype", name, "--dry-run", "--json",
            "--results", tmp_path / "r", "--cache", tmp_path / "c",
        )  # fmt: skip
        return json.loads(text[text.index("[") :])[0]["protocol"]

    assert plan(short) == plan(full)
    assert plan(short)["settings"]["dtype"] == full
    wrong = run("eval", "shapes", "--dtype", "bf8", code=2)
    assert "fp32, bf16 or fp16" in " ".join(wrong.split())


def test_options_come_from_a_file_and_the_command_line_wins(tmp_path):
    file = tmp_path / "nightly.yaml"
    file.write_text(
        "checkpoints: shapes\nsuite: [shapes-dev, shapes-signs]\nsteps: [3, 5]\nimages: 2\n"
        f"dry-run: true\nresults: {tmp_path / 'r'}\ncache: {tmp_path / 'c'}\njson: true\n"
    )
    text = run("eval", "--config", file, "--images", 1)
    plans = json.loads(text[text.index("[\n") :])
    assert [(p["suite"]["name"], p["protocol"]["settings"]["steps"]) for p in plans] == [
        ("shapes-dev", 3), ("shapes-dev", 5), ("shapes-signs", 3), ("shapes-signs", 5),
    ]  # fmt: skip
    by_hand = run(
        "eval", "shapes", "--suite", "shapes-dev,shapes-signs", "--steps", "3,5", "--images", 1,
        "--dry-run", "--json", "--results", tmp_path / "r", "--cache", tmp_path / "c",
    )  # fmt: skip
    assert text == by_hand
    file.write_text("stepz: 3\n")
    with pytest.raises(SoarBenchError, match="did you mean steps") as refused:
        typer.main.get_command(app)(["eval", "--config", str(file)], standalone_mode=False)
    assert "as-json" not in str(refused.value) and " json," in str(refused.value)


def test_a_training_plan_is_json_too():
    text = run("train", "sft", "--base", "shapes", "--seeds", "0,1", "--dry-run", "--json")
    plans = json.loads(text[text.index("[\n") :])
    assert [plan["settings"]["seed"] for plan in plans] == [0, 1]
    assert plans[0]["trained"] == plans[0]["parameters"] > 1_000_000


def settings(*assignments):
    return load_config(None, {"method": "sft", "base": "shapes", "data": "x"}, assignments)


def test_a_tracker_is_named_without_brackets():
    assert settings("trackers=wandb").trackers == ("wandb",)
    assert settings("trackers=tensorboard, wandb").trackers == ("tensorboard", "wandb")
    assert settings("trackers=[]").trackers == ()
    assert settings("precision=float32").precision == "fp32"
    with pytest.raises(SoarBenchError, match="'tensorboard' or 'wandb'"):
        settings("trackers=wandbb")


@pytest.mark.parametrize("assignment", ["lora.alpha=3", "soar.noise_scale=2", "lora.dropout=0.1"])
def test_a_refused_setting_is_told_in_words_of_ours(assignment):
    with pytest.raises(SoarBenchError, match=assignment.split("=")[0]) as refused:
        settings(assignment)
    assert "value error" not in str(refused.value).lower()


@pytest.mark.parametrize("name", ["gpu", "gpu:0", "cuda:x", "nonsense:1"])
def test_a_device_that_is_none_is_refused_in_a_sentence_without_torchs_list(name):
    with pytest.raises(SoarBenchError, match=f"the device '{name}' cannot be used here") as refused:
        choose(name)
    assert "opengl" not in str(refused.value) and len(str(refused.value)) < 160

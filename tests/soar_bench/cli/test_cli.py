"""The command line as a user types it: every mistake is one sentence and an exit code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import forks
import pytest
import torch
from forks import serve
from safetensors.torch import save_file


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serve(tmp_path_factory.mktemp("cli")) as server:
        yield server


def soar_bench(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "soar_bench", *map(str, arguments)],
        capture_output=True, text=True, env={**os.environ, "COLUMNS": "200", **environment},
        check=False, timeout=300,
    )  # fmt: skip


def assert_refused(done, *words, code=2):
    assert done.returncode == code, done.stderr
    assert_one_sentence(done.stderr, words)


def assert_one_sentence(printed, words):
    assert "Traceback" not in printed
    message = printed.strip().splitlines()[-1]
    for word in words:
        assert word in message, message


def refuse(server, arguments, *words, code=2, cwd="."):
    assert server.run(*arguments, cwd=cwd) == code, server.printed
    assert_one_sentence(server.printed, words)


def test_help_names_every_command_and_imports_no_torch():
    done = soar_bench("--help")
    assert done.returncode == 0
    for command in (
        "train",
        "eval",
        "compare",
        "leaderboard",
        "suites",
        "evaluators",
        "quickstart",
        "fetch",
        "score",
        "doctor",
        "rerun",
        "runs",
        "report",
        "drift",
        "data",
        "export",
        "import",
    ):
        assert command in done.stdout
    code = "import sys, soar_bench.cli; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_groups_the_commands_and_answers_to_minus_h():
    done = soar_bench("-h", COLUMNS="80")
    assert done.stdout == soar_bench("--help", COLUMNS="80").stdout
    headings = [line for line in done.stdout.splitlines() if line.endswith(":") and line[0] != " "]
    assert headings == ["Options:", "Set up:", "Train:", "Score:", "Compare:", "Manage:"]
    assert "Commands:" in soar_bench("runs", "-h").stdout


def commands(command, parent=None, name="soar-bench"):
    """Yield every command below one, itself included: its path, the command, its context."""
    import typer

    context = typer.Context(command, parent=parent, info_name=name)
    yield context.command_path, command, context
    for child, below in getattr(command, "commands", {}).items():
        yield from commands(below, context, child)


def every_command():
    import typer

    from soar_bench.cli import app

    return commands(typer.main.get_command(app))


def test_every_option_shows_its_default_or_says_where_it_comes_from():
    """A flag is off unless it is given; any other option says what it is otherwise."""
    silent = [
        f"{path} {parameter.name}"
        for path, command, context in every_command()
        for parameter in command.params
        if not parameter.required
        and (parameter.secondary_opts or not getattr(parameter, "is_flag", False))
        and "[default: " not in parameter.get_help_record(context)[1]
    ]
    assert silent == []


def test_the_summary_of_every_command_fits_on_one_line():
    for path, command, context in every_command():
        context.terminal_width = 80
        rows = command.get_help(context).splitlines()
        for name, below in getattr(command, "commands", {}).items():
            summary = below.get_short_help_str(limit=1000)
            assert any(row.split(maxsplit=1) == [name, summary] for row in rows), (
                f"{path} {name}: {summary}"
            )


def test_help_answers_at_once():
    """A bound for a busy machine; alone it takes a quarter of a second."""
    before = os.times()
    soar_bench("--help")
    after = os.times()
    assert after.children_user - before.children_user < 2, "seconds of a processor"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["eval", "nowhere"], ["no checkpoint", "'nowhere'", "shapes"]),
        (["eval", "shapse"], ["did you mean shapes?"]),
        (["eval", "shapes", "--suite", "shape"], ["no suite", "did you mean shapes"]),
        (["eval", "shapes", "--protocol", "soar"], ["no protocol", "'soar'"]),
        (["eval", "shapes", "--evaluator", "ocrr"], ["no evaluator", "did you mean ocr?"]),
        (["eval", "shapes", "--images", "0"], ["greater than or equal to 1"]),
        (["eval", "."], ["is no checkpoint", "model_index.json", "checkpoint.json"]),
        (["train", "grpo", "--base", "shapes"], ["'grpo'"]),
        (
            ["train", "sft", "--base", "nowhere", "--data", "x"],
            ["checkpoint's file or folder", "'nowhere'"],
        ),
        (["train", "sft", "--base", "shapes", "--data", "nowhere"], ["no training data 'nowhere'"]),
        (["train", "sft", "--base", "shapes", "--data", "shapes-clean:x"], ["positive number"]),
        (["data", "check", "shapes-clean:" + "9" * 5000], ["positive number"]),
        (["train", "sft", "--base", "shapes", "--set", "stepz=3"], ["did you mean steps"]),
        (["train", "sft", "--base", "shapes", "--set", "steps=["], ["the value is not YAML"]),
        (["train", "sft", "--base", "shapes", "--set", "base=[a]"], ["'base' is ['a']"]),
        (["train", "sft", "--base", "shapes", "--set", "optimizer.beta1=1"], ["optimizer.beta1"]),
        (["train", "sft", "--base", "shapes", "--set", "resolution=128"], ["not at 128"]),
        (["train", "sft", "--config", "absent.yaml"], ["no config file absent.yaml"]),
        (["train", "sft", "--config", "."], ["config file . cannot be read"]),
        (["train", "sft"], ["the setting 'base' is missing"]),
        (["eval", "shapes", "--device", "gpu"], ["the device 'gpu' cannot be used here"]),
        (["eval", "shapes", "--guidance=-1"], ["--guidance takes numbers from 0, not '-1'"]),
        (["eval", "shapes", "--steps", "20,x"], ["--steps takes whole numbers from 1"]),
        (["eval", "shapes", "--batch-size", "0"], ["--batch-size takes whole numbers from 1"]),
        (["eval", "shapes", "--resolution", "65"], ["65"]),
        (["eval", "shapes", "--suite", "geneval"], ["soar-bench fetch --suite geneval"]),
        (["eval", "shapes", "--evaluator", "geneval"], ["nothing was started", "fetch"]),
        (["rerun", "nowhere"], ["there are no results in results"]),
        (["runs", "show", "nowhere"], ["there are no results in results"]),
        (["compare", "nowhere"], ["there is no run in nowhere"]),
        (["leaderboard"], ["there are no results in results"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments, words, server, tmp_path):
    assert server.run(*arguments, cwd=tmp_path) == 2, server.printed
    assert "Traceback" not in server.printed
    for word in words:
        assert word in " ".join(server.printed.split()), server.printed


def test_all_that_is_missing_is_told_at_once(server, tmp_path, monkeypatch):
    """Prompts, a base, a checkpoint, weights, and a package: one sentence, before any work."""
    adapter = tmp_path / "lora"
    adapter.mkdir()
    save_file({"x.lora_A.weight": torch.zeros(1, 1)}, adapter / "adapter_model.safetensors")
    config = {"base_model_name_or_path": "org/gated-base", "r": 1, "lora_alpha": 1}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    refuse(
        server,
        ["eval", adapter, "nowhere", "--suite", "geneval,ocr,shapes",
         "--evaluators", "pickscore,geneval-mmdet,shapes-geneval"],
        "nothing was started", "fetch --suite geneval`", "fetch --suite ocr`", "org/gated-base",
        "'nowhere'", "fetch pickscore", "mmengine",
        cwd=tmp_path,
    )  # fmt: skip


def test_half_a_launchers_environment_is_refused(tmp_path):
    done = forks.run(
        ["-m", "soar_bench", "eval", "shapes", "--images", "1"], tmp_path,
        env={**os.environ, "WORLD_SIZE": "2"},
    )  # fmt: skip
    assert_refused(done, "WORLD_SIZE=2", "torchrun")


def test_a_pipeline_of_another_class_is_refused(server, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    train = ("train", "sft", "--data", "shapes-clean", "--base", tmp_path / "other")
    refuse(server, train, "FluxPipeline", "StableDiffusion3Pipeline")
    (tmp_path / "other" / "model_index.json").write_text("{")
    refuse(server, ("eval", tmp_path / "other"), "model_index.json", "is damaged")


def test_a_recipe_for_another_method_is_refused(server, tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("method: soar\nbase: shapes\n")
    refuse(server, ("train", "sft", "--config", file), "recipe for soar, not for sft")


def test_a_full_disk_is_named_and_nothing_half_written_is_left(tmp_path):
    """The error is raised where the system would raise it: when the bytes are flushed."""
    code = (
        "import sys, errno\n"
        "import soar_bench.core.files as files\n"
        "def full(path):\n"
        "    raise OSError(errno.ENOSPC, 'No space left on device', str(path))\n"
        "files.sync = full\n"
        "from soar_bench.cli import main\n"
        "main()\n"
    )
    done = forks.run(["-c", code, "shapes", "render", tmp_path / "out", "--count", "2"])
    assert_refused(done, "no space left on the disk", "run the same command again", code=1)
    assert list(tmp_path.iterdir()) == []


def test_training_onto_a_disk_that_is_too_small_or_filled_up_meanwhile(server, small_disk):
    """Refused before the first step; and where others fill the disk later, whoever writes, torch or
    safetensors: a sentence and exit code 1.
    """
    train = (
        "train", "sft", "--base", "shapes", "--data", "shapes-clean:8", "--steps", "1",
        "--output", small_disk / "run", "--set", "trackers=[]",
    )  # fmt: skip
    refuse(server, train, "checkpoints: 1", " MB are free", "keep_last")
    assert "train: 1/1" not in server.printed
    code = (
        "import training.run\n"
        "training.run.Run.check_space = lambda *given: None\n"
        "from soar_bench.cli import main\n"
        "main()\n"
    )
    done = forks.run(["-c", code, *train])
    assert_refused(done, "no space left on the disk", code=1)
    assert not list((small_disk / "run").glob("checkpoint-*"))


def test_a_place_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "file").write_text("")
    refuse(server, ("shapes", "render", tmp_path / "file" / "sheet.png"), "file")


def test_a_damaged_checkpoint_or_base_is_named(server, tiny_pipeline, tmp_path):
    shutil.copytree(tiny_pipeline, tmp_path / "base")
    weights = tmp_path / "base" / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    refuse(server, ("eval", tmp_path / "base"), "is damaged", cwd=tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.json").write_text('{"schema": 1}')
    refuse(server, ("eval", tmp_path / "run"), "is damaged: it lacks", cwd=tmp_path)


def test_render_exports_training_data_and_a_sheet(server, tmp_path):
    from training.data import ImageFolder

    assert server.run("shapes", "render", tmp_path / "data", "--count", "5") == 0
    data = ImageFolder(tmp_path / "data")
    assert len(data) == 5
    record = json.loads((tmp_path / "data" / "metadata.jsonl").read_text().splitlines()[0])
    assert record["truth"]["tag"]
    assert server.run("shapes", "render", tmp_path / "sheet.png", "--count", "9") == 0
    from PIL import Image

    assert Image.open(tmp_path / "sheet.png").size[0] > 1000
    refuse(server, ("shapes", "render", tmp_path / "data"), "exists already")


def test_suites_and_evaluators_are_listed():
    listed = soar_bench("suites").stdout
    for name in ("shapes", "shapes-dev", "shapes-signs"):
        assert name in listed
    listed = soar_bench("evaluators").stdout
    for name in ("shapes_geneval", "shapes_clipscore", "ocr_accuracy"):
        assert name in listed


def test_train_eval_compare_leaderboard_end_to_end(server, tiny_pipeline, tmp_path):
    """The whole path on a random pipeline, as a user types it."""
    settings = (
        "resolution=64 max_sequence_length=14 precision=fp32 log_every=1 soar.points=2 "
        "soar.rollout_steps=10"
    ).split()
    common = ["--base", tiny_pipeline, "--data", "shapes-clean:16", "--steps", "2"]
    common += [part for setting in settings for part in ("--set", setting)]
    for method in ("sft", "soar"):
        done = server.run("train", method, *common, "--seed", "1", cwd=tmp_path)
        assert done == 0, server.printed
        assert f"outputs/train/{method}-seed1/checkpoint-000002" in server.printed
    done = server.run(
        "eval", tiny_pipeline, "outputs/train/sft-seed1",
        "outputs/train/soar-seed1/checkpoint-000002",
        "--suite", "shapes-signs", "--evaluator", "shapes-clipscore", "--images", "1",
        "--steps", "2", cwd=tmp_path,
    )  # fmt: skip
    assert done == 0, server.printed
    assert "soar-seed1" in server.printed
    folders = [Path(line) for line in server.printed.splitlines() if line.startswith("results/")]
    assert len(folders) == 3
    assert server.run("compare", *folders, cwd=tmp_path) == 0, server.printed
    assert "shapes_clipscore" in server.printed
    for form in ("markdown", "csv"):
        assert server.run("compare", *folders, "--format", form, cwd=tmp_path) == 0
        assert "soar" in server.printed
    assert server.run("leaderboard", cwd=tmp_path) == 0
    page = (tmp_path / "leaderboard.md").read_text()
    assert "## shapes-signs under shapes+steps=2" in page
    assert server.run("leaderboard", "--check", cwd=tmp_path) == 0
    (tmp_path / "leaderboard.md").write_text(page + "edited")
    refuse(server, ("leaderboard", "--check"), "out of date", cwd=tmp_path)

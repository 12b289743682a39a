"""DeepSpeed's ZeRO trains what one process trains, in two processes on the CPU."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.state import AcceleratorState, GradientState
from forks import launch
from safetensors.torch import load_file

from soar_bench.trainer.config import load_config
from soar_bench.trainer.run import train
from training.callbacks import silent
from training.types import Stopped, TrainingError
from training.zero import configure

STAGES = (1, 2, 3)
#: Nothing stays whole in stage 3, and there is more than one shard and bucket.
ZERO = {
    "reduce_bucket_size": 20_000,
    "sub_group_size": 30_000,
    "stage3_param_persistence_threshold": 0,
    "stage3_max_live_parameters": 30_000,
    "stage3_prefetch_bucket_size": 20_000,
}
SETTINGS = {
    "whole": {"steps": 3, "ema_decay": 0.9, "soar": {"points": 2, "aux_chunk": 3, "guidance": 2.0}},
    "bf16": {"steps": 1, "precision": "bf16", "method": "sft"},
    "lora": {"steps": 1, "lora": {"rank": 2}, "method": "sft"},
}


def weights(checkpoint):
    (file,) = Path(checkpoint).glob("*/*.safetensors")
    return load_file(file)


def metrics(output):
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def common(folder, pipeline):
    """Settings that all trainings here share."""
    return {
        "base": str(pipeline),
        "method": "soar",
        "data": "shapes-clean:8",
        "seed": 3,
        "resolution": 64,
        "max_sequence_length": 14,
        "precision": "fp32",
        "cache": folder / "cache",
        "save_every": 2,
        "log_every": 1,
        "trackers": [],
        "soar": {"points": 2, "rollout_steps": 10, "guidance": 2.0},
        # Without it small gradients would move weights as much as large ones, whatever they round
        # to.
        "optimizer": {"lr": 1e-3, "epsilon": 1e-4, "clip_norm": 0.1},
    }


def in_a_process(folder, pipeline):
    """Run in each of two processes: every training of this file, one after another."""

    def go(name, progress=silent):
        settings = {**common(folder, pipeline), **SETTINGS[name.partition("-")[0]], "batch_size": 2}
        config = load_config(None, {**settings, "output": folder / name})
        train(config, watch=False, progress=progress)

    def interrupt(stage, done, total, figures):
        if stage == "train" and done == 1 and os.environ["RANK"] == "0":
            os.kill(os.getpid(), signal.SIGTERM)

    for stage in STAGES:
        file = folder / f"zero{stage}.json"
        file.write_text(json.dumps({"zero_optimization": {"stage": stage, **ZERO}}))
        os.environ["ACCELERATE_DEEPSPEED_CONFIG_FILE"] = str(file)
        AcceleratorState._reset_state()
        GradientState._reset_state()
        go(f"whole-{stage}")
        try:
            go(f"whole-{stage}-parts", interrupt)
            raise AssertionError("it was not stopped")
        except Stopped as stopped:
            assert stopped.step == 2, stopped.step
        go(f"whole-{stage}-parts")
        if stage > 1:
            go(f"bf16-{stage}")
            go(f"lora-{stage}")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def trained(tiny_pipeline, tmp_path_factory):
    """The folder of runs of each stage, in two processes that share the batch."""
    pytest.importorskip("deepspeed", reason="deepspeed is not installed")
    folder = tmp_path_factory.mktemp("zero")
    code = (
        "import sys; from pathlib import Path; sys.path[:0] = [sys.argv[1]];"
        "import test_deepspeed; test_deepspeed.in_a_process(*map(Path, sys.argv[2:]))"
    )
    launch(
        ["-c", code, str(Path(__file__).parent), str(folder), str(tiny_pipeline)],
        ACCELERATE_USE_CPU="false",  # the two cannot both be asked for
        ACCELERATE_USE_DEEPSPEED="true",
        DS_ACCELERATOR="cpu",
    )
    return folder


@pytest.fixture(scope="module")
def alone(tiny_pipeline, tmp_path_factory):
    """The same trainings in this process: by name, the output and the weights."""
    folder = tmp_path_factory.mktemp("alone")

    def each():
        for name, changes in SETTINGS.items():
            AcceleratorState._reset_state()
            settings = {**common(folder, tiny_pipeline), **changes, "batch_size": 4}
            config = load_config(None, {**settings, "output": folder / name})
            yield name, (config.output, weights(train(config, watch=False)))
        AcceleratorState._reset_state()

    return dict(each())


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_trains_what_one_process_trains(stage, trained, alone):
    """Weights are an average's; clipping is at work."""
    output, expected = alone["whole"]
    for mine, theirs in zip(metrics(trained / f"whole-{stage}"), metrics(output), strict=True):
        assert theirs["grad_norm"] > 0.1
        for figure in ("loss", "loss_base", "loss_auxiliary", "grad_norm", "lr"):
            assert mine[figure] == pytest.approx(theirs[figure], rel=1e-4)
    got = weights(trained / f"whole-{stage}" / "checkpoint-000003")
    assert got.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("stage", STAGES)
def test_stopped_and_resumed_is_bit_identical(stage, trained):
    whole = weights(trained / f"whole-{stage}" / "checkpoint-000003")
    parts = weights(trained / f"whole-{stage}-parts" / "checkpoint-000003")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize("stage", STAGES[1:])
def test_passes_in_bfloat16_train_weights_in_float32(stage, trained, alone):
    output, expected = alone["bf16"]
    (mine,), (theirs,) = metrics(trained / f"bf16-{stage}"), metrics(output)
    assert mine["loss_base"] == pytest.approx(theirs["loss_base"], rel=1e-2)
    got = weights(trained / f"bf16-{stage}" / "checkpoint-000001")
    assert all(tensor.dtype == torch.float32 for tensor in got.values())
    moved = [name for name in got if not torch.equal(got[name], got[name].bfloat16().float())]
    assert len(moved) > len(got) / 2
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], rtol=0, atol=1e-3)


@pytest.mark.parametrize("stage", STAGES[1:])
def test_adapters_are_trained_alike(stage, trained, alone):
    _, expected = alone["lora"]
    got = weights(trained / f"lora-{stage}" / "checkpoint-000001")
    assert got.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("section", ["optimizer", "scheduler"])
def test_what_the_runs_settings_say_is_not_said_twice(section):
    settings = {"zero_optimization": {"stage": 2}, section: {"type": "AdamW"}}
    with pytest.raises(TrainingError, match=f"a section '{section}': leave it out"):
        configure(settings, torch.optim.AdamW([torch.zeros(1)]), 8, 1.0)


def test_an_optimizer_that_shards_would_change_is_refused():
    with pytest.raises(TrainingError, match=r"set optimizer\.kind to adamw, or launch with FSDP2"):
        configure({}, torch.optim.SGD([torch.zeros(1)]), 8, 1.0)


@pytest.mark.parametrize("name", ["ddp", "fsdp2", "zero2", "zero3"])
def test_the_launchers_configurations_are_read_by_accelerate(name):
    """Which refuses unknown keys of the file; those of its sections are options of the launcher."""
    file = Path(__file__).parents[2] / "configs" / "accelerate" / f"{name}.yaml"
    config = load_config_from_file(str(file))
    assert (config.num_processes, config.num_machines) == (8, 1)
    options = vars(launch_command_parser().parse_args(["a.py"]))
    sections = {f"fsdp_{key.removeprefix('fsdp_')}" for key in config.fsdp_config}
    assert sections | set(config.deepspeed_config) <= set(options)

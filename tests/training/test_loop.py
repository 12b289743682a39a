"""The loop: what it writes, that stopping changes nothing, that it refuses what it must."""

from __future__ import annotations

import json
import os
import signal

import pytest
import torch
from safetensors.torch import load_file

from training.checkpoint import read_checkpoint
from training.run import CONFIG_FILE, METRICS_FILE
from training.schedule import learning_rate
from training.state import states
from training.types import Diverged, Stopped, TrainingError


def weights(checkpoint):
    return load_file(checkpoint / "transformer" / "diffusion_pytorch_model.safetensors")


def assert_same(a, b):
    a, b = weights(a), weights(b)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


def metrics(output):
    return [json.loads(line) for line in (output / METRICS_FILE).read_text().splitlines()]


def test_training_moves_the_weights_and_tells_where_they_came_from(
    tiny_config, tiny_train, tiny_pipeline, tmp_path
):
    config = tiny_config()
    checkpoint = tiny_train(config)
    before = load_file(tiny_pipeline / "transformer" / "diffusion_pytorch_model.safetensors")
    after = weights(checkpoint)
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[k], after[k]) for k in before)
    story = read_checkpoint(checkpoint)
    assert story["method"] == "soar"
    assert story["step"] == 6
    assert story["seed"] == 3
    assert story["base"]["name"] == str(tiny_pipeline)
    assert story["config"]["soar"]["points"] == 2
    assert [row["step"] for row in metrics(config.output)] == [1, 2, 3, 4, 5, 6]
    assert all(row["loss_auxiliary"] > 0 for row in metrics(config.output))
    assert not states(config.output)


def test_the_same_run_twice_gives_the_same_weights_and_another_seed_others(
    tiny_config, tiny_train, tmp_path
):
    a = tiny_train(tiny_config(output=tmp_path / "a"))
    b = tiny_train(tiny_config(output=tmp_path / "b"))
    c = tiny_train(tiny_config(output=tmp_path / "c", seed=4))
    assert_same(a, b)
    assert any(not torch.equal(weights(a)[k], weights(c)[k]) for k in weights(a))


def test_sft_is_soar_with_weight_zero_bit_for_bit(tiny_config, tiny_train, tmp_path):
    sft = tiny_train(tiny_config(output=tmp_path / "sft", method="sft"))
    zero = tiny_train(tiny_config(output=tmp_path / "zero", soar={"weight": 0.0}))
    assert_same(sft, zero)


@pytest.mark.parametrize("step", [1, 2, 4])
@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_stopped_and_resumed_is_bit_identical(step, ema_decay, tiny_config, tiny_train, tmp_path):
    whole = tiny_config(output=tmp_path / "whole", ema_decay=ema_decay)
    parts = tiny_config(output=tmp_path / "parts", ema_decay=ema_decay)
    expected = tiny_train(whole)

    def interrupt(stage, done, total, figures):
        if stage == "train" and done == step:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped) as stopped:
        tiny_train(parts, progress=interrupt)
    assert stopped.value.step == step + 1, "the step under way is finished"
    assert list(states(parts.output)) == [step + 1]
    assert_same(expected, tiny_train(parts))
    drop = ("samples_per_second", "memory_gib")
    assert [{k: v for k, v in row.items() if k not in drop} for row in metrics(whole.output)] == [
        {k: v for k, v in row.items() if k not in drop} for row in metrics(parts.output)
    ]


@pytest.mark.parametrize("fails_at", [3, 6])
def test_a_checkpoint_that_could_not_be_written_is_made_when_run_again(
    fails_at, tiny_config, tiny_train, tmp_path, monkeypatch
):
    """A full disk at the worst moment, in the middle and at the last step."""
    import errno

    from training import run

    expected = tiny_train(tiny_config(output=tmp_path / "whole"))
    real = run.write_checkpoint

    def full(folder, *rest):
        if folder.name.endswith(str(fails_at)):
            raise OSError(errno.ENOSPC, "No space left on device", str(folder))
        real(folder, *rest)

    config = tiny_config(output=tmp_path / "full")
    monkeypatch.setattr(run, "write_checkpoint", full)
    with pytest.raises(OSError, match="No space left"):
        tiny_train(config)
    monkeypatch.setattr(run, "write_checkpoint", real)
    assert_same(expected, tiny_train(config))
    steps = sorted(folder.name for folder in config.output.glob("checkpoint-*"))
    assert steps == ["checkpoint-000003", "checkpoint-000006"]


def test_a_finished_run_is_not_trained_again(tiny_config, tiny_train):
    config = tiny_config()
    first = tiny_train(config)
    seen = []
    again = tiny_train(config, progress=lambda stage, *rest: seen.append(stage))
    assert again == first
    assert seen == []


def test_an_output_of_other_settings_is_refused_by_name(tiny_config, tiny_train):
    tiny_train(tiny_config(steps=1))
    with pytest.raises(TrainingError, match=r"optimizer\.lr: 0\.001 there, 0\.002 here"):
        tiny_train(tiny_config(steps=1, optimizer={"lr": 2e-3}))


def test_the_checkpoint_holds_the_average_where_there_is_one(tiny_config, tiny_train, tmp_path):
    """Two steps by hand: average = decay * first + (1 - decay) * second."""
    raw = [
        weights(tiny_train(tiny_config(output=tmp_path / f"raw{n}", steps=n, save_every=9)))
        for n in (1, 2)
    ]
    averaged = weights(
        tiny_train(tiny_config(output=tmp_path / "ema", steps=2, save_every=9, ema_decay=0.5))
    )
    # diffusers' rule: decay 0 at the first step, (1 + 1) / (10 + 1) at the second.
    decay = 2 / 11
    for key, value in averaged.items():
        expected = decay * raw[0][key] + (1 - decay) * raw[1][key]
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)


def test_a_loss_that_is_no_number_stops_and_names_the_last_good_checkpoint(tiny_config, tiny_train):
    config = tiny_config(steps=60, optimizer={"lr": 1e30, "clip_norm": 1e30}, save_every=1)
    with pytest.raises(Diverged, match="no longer finite at step"):
        tiny_train(config)


def test_learning_rate_schedules():
    constant = [learning_rate(1.0, step, 10, warmup=4) for step in (0, 1, 3, 4, 9)]
    assert constant == [0.25, 0.5, 1, 1, 1]
    cosine = [learning_rate(1.0, step, 10, cosine=True) for step in (0, 5, 10)]
    assert cosine == pytest.approx([1, 0.5, 0])


def test_micro_batches_train_as_one_large_batch(tiny_config, tiny_train, tmp_path):
    one = tiny_config(output=tmp_path / "one", batch_size=6, steps=2)
    three = tiny_config(output=tmp_path / "three", batch_size=2, accumulate=3, steps=2)
    tiny_train(one)
    tiny_train(three)
    for a, b in zip(metrics(one.output), metrics(three.output), strict=True):
        for figure in ("loss", "loss_base", "loss_auxiliary", "grad_norm"):
            assert b[figure] == pytest.approx(a[figure], rel=1e-4)


@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_chunks_train_as_all_points_at_once(chunk, tiny_config, tiny_train, tmp_path):
    soar = {"points": 2, "rollout_steps": 10, "guidance": 2.0}
    whole = tiny_config(output=tmp_path / "whole", soar=soar, steps=2)
    cut = tiny_config(output=tmp_path / "cut", soar={**soar, "aux_chunk": chunk}, steps=2)
    tiny_train(whole)
    tiny_train(cut)
    for a, b in zip(metrics(whole.output), metrics(cut.output), strict=True):
        for figure in ("loss", "loss_base", "loss_auxiliary", "grad_norm"):
            assert b[figure] == pytest.approx(a[figure], rel=1e-4)


def test_gradient_checkpointing_changes_no_weight(tiny_config, tiny_train, tmp_path):
    plain = tiny_train(tiny_config(output=tmp_path / "plain", steps=2))
    config = tiny_config(output=tmp_path / "again", steps=2, gradient_checkpointing=True)
    assert_same(plain, tiny_train(config))


@pytest.mark.slow
def test_compiled_it_trains_the_same_to_rounding(tiny_config, tiny_train, tmp_path):
    """Minutes of compiling: the base pass, the rollout's and the chunks'."""
    soar = {"points": 2, "guidance": 2.0, "aux_chunk": 3}
    plain = tiny_config(output=tmp_path / "plain", soar=soar, steps=4)
    compiled = tiny_config(output=tmp_path / "compiled", soar=soar, steps=4, compile=True)
    tiny_train(plain)
    tiny_train(compiled)
    for a, b in zip(metrics(plain.output), metrics(compiled.output), strict=True):
        for figure in ("loss", "loss_base", "loss_auxiliary", "grad_norm"):
            assert b[figure] == pytest.approx(a[figure], rel=1e-3)


def test_stopped_and_resumed_is_bit_identical_with_every_new_setting(
    tiny_config, tiny_train, tmp_path
):
    settings = {
        "soar": {"points": 2, "guidance": 2.0, "paths": 2, "update": "cps", "aux_chunk": 3},
        "accumulate": 2,
        "batch_size": 2,
        "gradient_checkpointing": True,
    }
    expected = tiny_train(tiny_config(output=tmp_path / "whole", **settings))
    parts = tiny_config(output=tmp_path / "parts", **settings)

    def interrupt(stage, done, total, figures):
        if stage == "train" and done == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        tiny_train(parts, progress=interrupt)
    assert_same(expected, tiny_train(parts))


def test_a_setting_that_came_later_is_part_of_a_run_only_where_it_is_used(tiny_config, tiny_train):
    """A run from before such a setting existed goes on, and is a seed of the same training."""
    config = tiny_config(steps=1)
    tiny_train(config)
    kept = json.loads((config.output / CONFIG_FILE).read_text())["settings"]
    assert "accumulate" not in kept
    assert set(kept["soar"]) == {"weight", "points", "rollout_steps", "guidance", "sigma_floor"}
    with pytest.raises(TrainingError, match=r"accumulate: .* there, 2 here"):
        tiny_train(tiny_config(steps=1, accumulate=2))

"""Passes in a bfloat16 copy of float32 weights: whose gradients, and which weights, come of it."""

from __future__ import annotations

import copy
import json
import os
import signal
from pathlib import Path

import accelerate
import pytest
import torch
from accelerate.state import AcceleratorState
from processes import FSDP2, train_all
from safetensors.torch import load_file

from soar_bench.core.errors import SoarBenchError
from soar_bench.pipelines.loading import load_pipeline
from soar_bench.trainer.run import check
from training.parallel import Parallel
from training.run import CONFIG_FILE, METRICS_FILE
from training.types import Stopped, TrainingError

COPY = {"precision": "bf16", "working_copy": True}


def weights(output, step):
    (file,) = (output / f"checkpoint-{step:06d}").rglob("*.safetensors")
    return load_file(file)


def losses(output):
    lines = (output / METRICS_FILE).read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.fixture()
def transformer(tiny_pipeline):
    return load_pipeline(tiny_pipeline).transformer.float().requires_grad_(True).train()


def inputs(config, seed):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return {
        "hidden_states": draw(3, config.in_channels, 16, 16),
        "timestep": torch.tensor([123.4, 567.8, 910.1]),
        "encoder_hidden_states": draw(3, 28, config.joint_attention_dim),
        "pooled_projections": draw(3, config.pooled_projection_dim),
    }


def passes(parallel, model, config):
    """The sum of the losses of two passes, with gradients added up."""
    total = 0.0
    for number in (0, 1):
        with parallel.one_pass(model, last=number == 1):
            loss = model(**inputs(config, number), return_dict=False)[0].square().mean()
            parallel.backward(loss)
        total += loss.item()
    return total


def test_gradients_are_a_bfloat16_models_added_up_in_float32(transformer):
    config, other = transformer.config, copy.deepcopy(transformer).to(torch.bfloat16)
    other.pos_embed.pos_embed = transformer.pos_embed.pos_embed.clone()  # no weight: stays float32
    parallel = Parallel("bf16", working_copy=True)
    sgd = torch.optim.SGD(transformer.parameters(), lr=0.5)
    model, optimizer = parallel.prepare(transformer, sgd, clip_norm=1.0)
    parallel.refresh()
    passes(parallel, model, config)
    expected = {name: torch.zeros_like(p) for name, p in transformer.named_parameters()}
    for number in (0, 1):
        half = {
            name: value if name == "timestep" else value.bfloat16()
            for name, value in inputs(config, number).items()
        }
        other(**half, return_dict=False)[0].float().square().mean().backward()
        for name, parameter in other.named_parameters():
            expected[name] += parameter.grad.float()
            parameter.grad = None
    for name, parameter in transformer.named_parameters():
        assert isinstance(parameter, torch.nn.Parameter), "put back after the pass"
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        assert torch.equal(parameter.grad, expected[name]), name
    before = passes(parallel, model, config)
    optimizer.step()
    assert passes(parallel, model, config) == before, "until the copy is refreshed"
    parallel.refresh()
    assert passes(parallel, model, config) != before
    with torch.no_grad():  # outside of a pass that is counted, as a sampler calls it
        model(**inputs(config, 0), return_dict=False)


def test_it_trains_as_float32_does_and_keeps_float32_weights(tiny_config, tiny_train, tmp_path):
    """24 steps: the loss stays within 1% of float32's, and the weights hold what it adds."""
    common = {"steps": 24, "save_every": 24, "optimizer": {"lr": 1e-3, "epsilon": 1e-3}}
    exact, rounded = (
        tiny_config(output=tmp_path / name, **common, **more)
        for name, more in (("exact", {}), ("rounded", COPY))
    )
    tiny_train(exact)
    tiny_train(rounded)
    for exact_loss, rounded_loss in zip(losses(exact.output), losses(rounded.output), strict=True):
        assert rounded_loss == pytest.approx(exact_loss, rel=0.01)
    whole, trained = weights(exact.output, 24), weights(rounded.output, 24)
    moved = [name for name, t in trained.items() if not torch.equal(t, t.bfloat16().float())]
    assert len(moved) > len(trained) / 2
    start = load_pipeline(Path(exact.base)).transformer.state_dict()
    way = sum(float((whole[n] - start[n]).square().sum()) for n in whole) ** 0.5
    apart = sum(float((whole[n] - trained[n]).square().sum()) for n in whole) ** 0.5
    assert apart < 0.1 * way, (apart, way)


@pytest.mark.parametrize("changes", [{}, {"lora": {"rank": 4}}], ids=["whole", "adapter"])
def test_stopped_and_resumed_is_bit_identical_and_so_is_checkpointing(
    changes, tiny_config, tiny_train, tmp_path
):
    settings = {**COPY, "steps": 4, "save_every": 2, "accumulate": 2, "batch_size": 2, **changes}
    settings["soar"] = {"points": 2, "guidance": 2.0, "aux_chunk": 3}
    whole = tiny_config(output=tmp_path / "whole", **settings)
    parts = tiny_config(output=tmp_path / "parts", **settings)
    again = tiny_config(output=tmp_path / "again", gradient_checkpointing=True, **settings)
    for config in (whole, again):
        tiny_train(config)

    def stop(stage, done, total, figures):
        if stage == "train" and done == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        tiny_train(parts, progress=stop)
    tiny_train(parts)
    expected = weights(whole.output, 4)
    for other in (parts, again):
        trained = weights(other.output, 4)
        assert all(torch.equal(expected[name], trained[name]) for name in expected)
    settings = json.loads((whole.output / CONFIG_FILE).read_text())["settings"]
    assert settings["working_copy"] is True


def test_where_it_would_do_nothing_or_cannot_be_it_is_refused(tiny_config, tiny_train, monkeypatch):
    with pytest.raises(SoarBenchError, match="set precision to bf16"):
        tiny_config(precision="fp32", working_copy=True)
    with pytest.raises(SoarBenchError, match="nft has passes of other weights: set it to false"):
        tiny_config(**COPY, method="nft", batch_size=24, rewards={"shapes-clipscore": 1.0}, soar={})
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    for run in (check, tiny_train):
        with pytest.raises(TrainingError, match="set working_copy to false, or launch with DDP"):
            run(tiny_config(**COPY))


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{}, FSDP2], ids=["ddp", "fsdp2"])
def test_two_processes_train_as_one_and_go_on_after_a_stop(
    environment, tiny_config, tiny_train, tmp_path
):
    settings = {
        **COPY,
        "steps": 3,
        "save_every": 2,
        "cache": tmp_path / "cache",
        "trackers": [],
        "optimizer": {"lr": 1e-2, "epsilon": 1e-3},
    }
    alone = tiny_config(output=tmp_path / "alone", batch_size=4, **settings)
    tiny_train(alone)
    two = tiny_config(output=tmp_path / "two", batch_size=2, **settings).model_dump(mode="json")
    parts = {**two, "output": str(tmp_path / "parts")}
    train_all(
        [{"settings": two}, {"settings": parts, "stop": 1}, {"settings": parts}], **environment
    )
    for own, others in zip(losses(alone.output), losses(tmp_path / "two"), strict=True):
        assert others == pytest.approx(own, rel=5e-3)
    expected, resumed = weights(tmp_path / "two", 3), weights(tmp_path / "parts", 3)
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


def test_precisions_follow_one_another_in_a_process_each_as_by_itself(
    tiny_config, tiny_train, tmp_path
):
    def trained(name, precision):
        config = tiny_config(precision=precision, steps=2, output=tmp_path / name)
        tiny_train(config)
        return losses(config.output)

    order = ["fp32", "bf16", "fp32"]
    first, rounded, again = (trained(str(n), precision) for n, precision in enumerate(order))
    assert first == again
    assert rounded != first
    assert rounded == pytest.approx(first, rel=0.02)


def test_an_accelerator_of_the_users_of_another_precision_is_left_alone(tiny_config, tiny_train):
    AcceleratorState._reset_state()
    users = accelerate.Accelerator(cpu=True, mixed_precision="bf16")
    try:
        with pytest.raises(TrainingError, match="in a process of its own"):
            tiny_train(tiny_config(precision="fp32"))
        assert users.mixed_precision == "bf16"
    finally:
        AcceleratorState._reset_state()

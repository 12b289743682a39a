"""The memory of a step, found without one, against what a real one keeps."""

from __future__ import annotations

import json
import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import sd35m
import torch
import yaml

from soar_bench.pipelines import Pipeline
from soar_bench.trainer.config import load_config
from soar_bench.trainer.memory import measure
from soar_bench.trainer.run import check
from training.checkpoint import read_checkpoint
from training.memory import SHARE, Place, choose, held, with_chunk
from training.space import Sizes
from training.types import Stopped, TrainingError


def kept_by_a_pass(transformer, count, side, tokens):
    """Bytes of distinct storages that a real pass saves for its backward pass."""
    size = transformer.config
    own = {p.untyped_storage().data_ptr() for p in transformer.parameters()}
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)
        return tensor

    alive = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        transformer(
            hidden_states=torch.randn(count, size.in_channels, side, side),
            timestep=torch.rand(count),
            encoder_hidden_states=torch.randn(count, tokens, size.joint_attention_dim),
            pooled_projections=torch.randn(count, size.pooled_projection_dim),
        )
    return sum(n for place, n in storages.items() if place not in own)


@pytest.mark.parametrize("method", ["sft", "soar"])
def test_activations_are_those_of_a_real_pass(method, tiny_config, tiny_pipeline):
    from soar_bench.pipelines.loading import load_pipeline

    config = tiny_config(method=method, soar={"points": 3, "aux_chunk": 8})
    pipeline = load_pipeline(tiny_pipeline)
    transformer = pipeline.transformer.requires_grad_(True).train()
    count = {"sft": 4, "soar": 8}[method]
    side = 64 // pipeline.vae_scale_factor
    real = kept_by_a_pass(transformer, count, side, pipeline.tokenizer_max_length + 14)
    measured = measure(Pipeline(tiny_pipeline), config)
    assert measured.activations == pytest.approx(real, rel=0.05)
    assert (
        measured.parameters == measured.trained == sum(p.numel() for p in transformer.parameters())
    )


def test_checkpointing_keeps_less_and_an_adapter_trains_less(tiny_config, tiny_pipeline):
    plain = measure(Pipeline(tiny_pipeline), tiny_config())
    again = measure(Pipeline(tiny_pipeline), tiny_config(gradient_checkpointing=True))
    assert again.activations < 0.8 * plain.activations
    adapter = measure(Pipeline(tiny_pipeline), tiny_config(lora={"rank": 2}))
    assert adapter.parameters == plain.parameters
    # Rank 2 times both sides of the eight square layers of width 32 in two blocks; the last
    # has no way out for its text.
    assert adapter.trained == 2 * (32 + 32) * (8 + 7)


GIB = 2**30


@pytest.fixture(scope="module")
def sd35m_measured(tiny_pipeline, tmp_path_factory):
    """The published recipe's memory on Stable Diffusion 3.5 Medium with 256 T5 tokens."""
    folder = sd35m.make(tmp_path_factory.mktemp("sd35m") / "base", tiny_pipeline, weights=False)
    config = load_config(None, {"base": str(folder), "data": "x", "max_sequence_length": 256})
    return config, measure(Pipeline(folder), config)


def test_the_estimate_of_sd35_medium_is_that_of_cudas_autocast(sd35m_measured):
    """Counted beforehand on tensors without memory, with layer_norm in float32 as on CUDA."""
    config, memory = sd35m_measured
    assert memory.sizes == Sizes(2_243_171_520, 2_243_171_520, 384 * 384 * 1536)
    assert memory.count == 24
    for count, expected in ((4, 20.9), (8, 37.7), (24, 104.7)):
        assert (memory.fixed + count * memory.each) / GIB == pytest.approx(expected, rel=0.01)
    assert held(config, memory.sizes) / GIB == pytest.approx(33.43 + 0.84, abs=0.01)


def test_the_published_recipe_fits_80_gib_by_itself_and_not_at_once(sd35m_measured):
    config, memory = sd35m_measured
    chunk, step = choose(config, lambda other: memory, Place(80 * GIB))
    assert (chunk, step.count) == (8, 8)
    assert choose(config, lambda other: memory, Place())[0] == 0, "a CPU takes all at once"
    at_once = with_chunk(config, 0)
    with pytest.raises(TrainingError) as refused:
        choose(at_once, lambda other: memory, Place(80 * GIB))
    assert str(refused.value) == (
        "a step needs about 138.9 GiB a process (34.3 of weights, gradients and optimizer, 104.7 "
        "of activations of a pass of 24), and of the device's 80.0 GiB 95% may be filled: set "
        "soar.aux_chunk: auto"
    )
    # Sixteen processes that divide weights, gradients and moments hold a sixteenth of them each.
    divided = Place(48 * GIB, 16, (True, True, True))
    assert choose(config, lambda other: memory, divided)[0] == 8


@pytest.mark.parametrize(
    ("gib", "words"),
    [
        (50, "set batch_size: 2 and accumulate: 2"),
        (45, "set batch_size: 1 and accumulate: 4"),
        (42, "set gradient_checkpointing: true"),
        (30, "set .*batch_size: 1, accumulate: 4 and optimizer.kind: adamw8bit"),
        (20, r"divide the weights among 4 GPUs \(configs/accelerate/fsdp2.yaml\) and set "
             "batch_size: 1 and accumulate: 4, or train an adapter: set lora.rank: 32, "
             "batch_size: 2 and accumulate: 2"),
        (1, "no change of settings that was tried fits: use a larger GPU"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_first_change_that_fits(sd35m_measured, gib, words):
    config, memory = sd35m_measured

    def measured(other):
        sizes = memory.sizes
        if other.lora.rank:
            sizes = replace(sizes, trained=19_000_000)
        if other.gradient_checkpointing:  # as it was measured for four samples
            return replace(memory, sizes=sizes, fixed=int(4.2 * GIB), each=int(0.28 * GIB))
        return replace(memory, sizes=sizes)

    with pytest.raises(TrainingError, match=f"{words}$"):
        choose(config, measured, Place(gib * GIB))


def test_a_step_fits_once_the_advice_is_followed(tiny_config, tiny_pipeline):
    """On devices from the whole step down to a part of the weights, each word of each advice."""
    soar = {"points": 3, "guidance": 2.0, "aux_chunk": 0}
    config = tiny_config(soar=soar, batch_size=2)
    measurements = {}

    def measured(other):
        key = (other.batch_size, other.gradient_checkpointing, other.lora.rank)
        measurements[key] = measurements.get(key) or measure(Pipeline(tiny_pipeline), other)
        return measurements[key]

    step = measured(config)
    whole = held(config, step.sizes) + step.activations
    seen = set()
    for memory in (int(whole / SHARE / share) for share in (1.4, 2, 4, 8, 11, 15)):
        with pytest.raises(TrainingError) as refused:
            choose(config, measured, Place(memory))
        for way in str(refused.value).partition("may be filled: ")[2].split(", or "):
            divided = re.search(r"among (\d+) GPUs", way)
            place = Place(memory, int(divided[1]), (True,) * 3) if divided else Place(memory)
            nested = config.model_dump(mode="json")
            for name, value in re.findall(r"([a-z_.]+): (\w+)", way.partition("set ")[2]):
                section, _, inner = name.rpartition(".")
                (nested[section] if section else nested)[inner] = yaml.safe_load(value)
                seen.add(name)
            if "use a larger GPU" not in way:
                choose(load_config(None, nested), measured, place)
            seen |= {"FSDP2"} if divided else set()
    assert {"soar.aux_chunk", "batch_size", "gradient_checkpointing", "FSDP2"} <= seen


def test_the_estimate_of_an_adapter_keeps_no_gradients_of_what_is_frozen(
    tiny_config, tiny_pipeline
):
    """Held: frozen weights in bfloat16, and 16 bytes for each trained value."""
    config = tiny_config(lora={"rank": 2}, precision="bf16")
    memory = measure(Pipeline(tiny_pipeline), config)
    sizes = memory.sizes
    frozen = 2 * (sizes.parameters + sizes.buffers)
    assert held(config, sizes) == frozen + 16 * sizes.trained
    whole = measure(Pipeline(tiny_pipeline), tiny_config(precision="bf16"))
    assert memory.fixed < whole.fixed


def test_what_auto_chose_is_recorded_and_holds_for_the_whole_run(
    tiny_config, tiny_train, tmp_path, monkeypatch
):
    """Also where the run goes on on a larger device: another chunk would round otherwise."""
    from training.parallel import Parallel
    from training.run import CONFIG_FILE

    soar = {"points": 3, "guidance": 2.0}
    config = tiny_config(steps=4, save_every=2, soar=soar)
    memory = measure(Pipeline(Path(config.base)), config)
    small = held(config, memory.sizes) + memory.of(config, 6).activations

    def on(memory):
        monkeypatch.setattr(Parallel, "place", lambda self: Place(int(memory / SHARE) + 99))

    def stop(stage, done, total, figures):
        if stage == "train" and done == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    on(small)
    with pytest.raises(Stopped):
        tiny_train(config, progress=stop)
    assert json.loads((config.output / CONFIG_FILE).read_text())["chosen"] == {"aux_chunk": 6}
    on(100 * small)
    plan = check(config, memory=int(100 * small))
    assert plan.chunk == 6
    assert any("soar.aux_chunk is 6" in line for line in plan.lines())
    words = "activations of a pass of 6.*: go on with it on GPUs as large as it began on, or name "
    with pytest.raises(TrainingError, match=words):  # four would fit
        check(config, memory=int(small / SHARE) - 99)
    checkpoint = tiny_train(config)
    assert read_checkpoint(checkpoint)["chosen"] == {"aux_chunk": 6}
    monkeypatch.undo()
    six = tiny_config(output=tmp_path / "six", steps=4, save_every=2, soar={**soar, "aux_chunk": 6})
    expected = tiny_train(six)
    assert read_checkpoint(checkpoint)["weights"] == read_checkpoint(expected)["weights"]
    on(small / 2)
    with pytest.raises(TrainingError, match=r"a step needs about .* 95% may be filled: "):
        tiny_train(tiny_config(output=tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_the_estimate_knows_the_bfloat16_copy_of_the_weights(sd35m_measured):
    """No casts among the activations, and 2 bytes per parameter beside the weights."""
    config, _ = sd35m_measured
    changed = config.model_copy(update={"working_copy": True})
    memory = measure(Pipeline(Path(config.base)), changed)
    for count, expected in ((4, 13.0), (8, 26.0), (24, 77.9)):
        assert (memory.fixed + count * memory.each) / GIB == pytest.approx(expected, rel=0.01)
    assert held(changed, memory.sizes) == held(config, memory.sizes) + 2 * memory.trained

"""The memory of a step, found without one, against what a real one keeps."""

from __future__ import annotations

import pytest
import torch

from soar_bench.pipelines import Pipeline
from soar_bench.trainer.memory import measure


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
    found = measure(Pipeline(tiny_pipeline), config)
    assert found.activations == pytest.approx(real, rel=0.05)
    assert found.parameters == found.trained == sum(p.numel() for p in transformer.parameters())


def test_checkpointing_keeps_less_and_an_adapter_trains_less(tiny_config, tiny_pipeline):
    plain = measure(Pipeline(tiny_pipeline), tiny_config())
    again = measure(Pipeline(tiny_pipeline), tiny_config(gradient_checkpointing=True))
    assert again.activations < 0.8 * plain.activations
    adapter = measure(Pipeline(tiny_pipeline), tiny_config(lora={"rank": 2}))
    assert adapter.parameters == plain.parameters
    # Rank 2 times both sides of the eight square layers of width 32 in two blocks; the last
    # has no way out for its text.
    assert adapter.trained == 2 * (32 + 32) * (8 + 7)

"""Training an adapter: what it is, what it leaves alone, and that others can read it."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from training.adapters import WEIGHTS_FILE
from training.checkpoint import read_checkpoint
from training.types import ATTENTION, Lora, TrainingError

RANK, ALPHA = 4, 8.0
ADAPTER = {"rank": RANK, "alpha": ALPHA}


def weights(checkpoint):
    return load_file(checkpoint / "lora" / WEIGHTS_FILE)


def test_an_adapter_is_all_that_is_trained_and_written(tiny_config, tiny_train):
    checkpoint = tiny_train(tiny_config(lora=ADAPTER))
    assert not (checkpoint / "transformer").exists()
    tensors = weights(checkpoint)
    assert all(name.startswith("transformer.transformer_blocks.") for name in tensors)
    for name, tensor in tensors.items():
        assert tensor.dtype == torch.float32
        # The last block drops what its text tokens ask for: nothing can be learned there.
        learns = "transformer_blocks.1.attn.add_q_proj.lora_B" not in name
        assert tensor.any() == learns, name
        assert RANK in tensor.shape
    # Two blocks; the last one has no way out for the text's half of the attention.
    assert len(tensors) == 2 * (2 * len(ATTENTION) - 1)
    story = read_checkpoint(checkpoint)
    assert story["config"]["lora"]["rank"] == RANK
    assert "peft" in story["versions"]


def test_diffusers_itself_reads_what_was_written_and_merges_to_w_plus_scaled_b_a(
    tiny_config, tiny_train, tiny_pipeline
):
    from soar_bench.pipelines.loading import load_pipeline

    checkpoint = tiny_train(tiny_config(lora=ADAPTER))
    pipeline = load_pipeline(tiny_pipeline)
    name = "transformer_blocks.0.attn.to_q"
    layer = pipeline.transformer.get_submodule(name)
    before = layer.weight.detach().clone()
    tensors = weights(checkpoint)
    a, b = (tensors[f"transformer.{name}.lora_{half}.weight"] for half in "AB")
    pipeline.load_lora_weights(checkpoint / "lora")
    pipeline.fuse_lora(components=["transformer"])
    after = pipeline.transformer.get_submodule(name).get_base_layer().weight
    torch.testing.assert_close(after, before + ALPHA / RANK * b @ a, rtol=1e-5, atol=1e-7)


def test_eval_resolves_it_without_being_told_anything(tiny_config, tiny_train, tiny_pipeline):
    from soar_bench.checkpoints import resolve

    config = tiny_config(lora=ADAPTER)
    checkpoint = tiny_train(config)
    by_run, by_folder = resolve(str(config.output)), resolve(str(checkpoint))
    assert by_run.form == "lora"
    assert by_run.digest == by_folder.digest
    assert by_run.base[0] == str(tiny_pipeline)
    # The bare file on its base is the same adapter.
    bare = resolve(str(checkpoint / "lora" / WEIGHTS_FILE), str(tiny_pipeline))
    assert bare.digest == by_run.digest


def test_the_images_of_the_checkpoint_are_those_of_the_trained_model(
    tiny_config, tiny_train, tiny_pipeline
):
    """The velocity of the loaded checkpoint is that of the model that was trained."""
    from soar_bench.checkpoints import resolve
    from soar_bench.checkpoints.loading import load
    from soar_bench.pipelines.loading import load_pipeline

    checkpoint = tiny_train(tiny_config(lora=ADAPTER))
    loaded = load(resolve(str(checkpoint)), torch.float32, torch.float32).transformer
    base = load_pipeline(tiny_pipeline).transformer
    size = loaded.config
    generator = torch.Generator().manual_seed(0)
    inputs = {
        "hidden_states": torch.randn(2, size.in_channels, 8, 8, generator=generator),
        "timestep": torch.tensor([100.0, 700.0]),
        "encoder_hidden_states": torch.randn(2, 5, size.joint_attention_dim, generator=generator),
        "pooled_projections": torch.randn(2, size.pooled_projection_dim, generator=generator),
    }
    with torch.no_grad():
        plain = base(**inputs).sample
        for name, tensor in weights(checkpoint).items():
            if name.endswith(".lora_A.weight"):
                layer = name.removeprefix("transformer.").removesuffix(".lora_A.weight")
                b = weights(checkpoint)[name.replace("lora_A", "lora_B")]
                base.get_submodule(layer).weight.data += ALPHA / RANK * b @ tensor
        expected = base(**inputs).sample
        sample = loaded(**inputs).sample
    assert (expected - plain).abs().max() > 1e-4
    torch.testing.assert_close(sample, expected, rtol=1e-4, atol=1e-5)


def test_before_the_first_step_an_adapter_changes_nothing(tiny_pipeline):
    from soar_bench.pipelines.loading import load_pipeline
    from training.adapters import add_adapter

    transformer = load_pipeline(tiny_pipeline).transformer
    size = transformer.config
    inputs = {
        "hidden_states": torch.randn(1, size.in_channels, 8, 8),
        "timestep": torch.tensor([500.0]),
        "encoder_hidden_states": torch.randn(1, 3, size.joint_attention_dim),
        "pooled_projections": torch.randn(1, size.pooled_projection_dim),
    }
    with torch.no_grad():
        before = transformer(**inputs).sample
        add_adapter(transformer, Lora(rank=RANK), seed=0)
        torch.testing.assert_close(transformer(**inputs).sample, before, rtol=0, atol=1e-6)
    trained = [p for p in transformer.parameters() if p.requires_grad]
    assert 0 < sum(p.numel() for p in trained) < sum(p.numel() for p in transformer.parameters())


def test_the_same_seed_starts_from_the_same_adapter(tiny_config, tiny_train, tmp_path):
    a = weights(tiny_train(tiny_config(output=tmp_path / "a", lora=ADAPTER)))
    torch.manual_seed(1234)
    b = weights(tiny_train(tiny_config(output=tmp_path / "b", lora=ADAPTER)))
    c = weights(tiny_train(tiny_config(output=tmp_path / "c", lora=ADAPTER, seed=9)))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(not torch.equal(a[name], c[name]) for name in a)


def test_a_target_that_the_transformer_lacks_is_refused_before_the_first_step(
    tiny_config, tiny_train
):
    with pytest.raises(TrainingError, match=r"ends in 'attn.to_x'; there are .*attn\.to_q"):
        tiny_train(tiny_config(lora={"rank": 2, "targets": ["attn.to_x"]}))


def test_settings_of_an_adapter_without_one_are_refused(tiny_config):
    from soar_bench.core.errors import SoarBenchError

    with pytest.raises(SoarBenchError, match=r"lora\.dropout.*set lora\.rank"):
        tiny_config(lora={"dropout": 0.1})

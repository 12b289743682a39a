"""Encoders: the parts of a pipeline by themselves, in the memory that there is."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Pipeline

from soar_bench.pipelines import EMBEDDED
from soar_bench.pipelines.loading import load_pipeline
from soar_bench.trainer.pipeline import BasePipeline
from training import encoders
from training.encoders import Encoders, encode_prompts
from training.types import Encoding, TrainingError

CPU = torch.device("cpu")
VAE_DIGEST = "ad07d7f446ddf508d40581b3bed0b6106192bfca7cb97dfc62b50574d405c8bf"
TEXT_DIGEST = "e36fa8dcb0ced8822483f1f5d5901ed5b2d7cf2f6da62be731bd942e9bdbfe12"


def test_other_weights_are_other_encodings(tiny_pipeline, tmp_path):
    import shutil

    other = tmp_path / "other"
    shutil.copytree(tiny_pipeline, other)
    settings = other / "vae" / "config.json"
    settings.write_text(settings.read_text().replace("scaling_factor", "scaling_factor "))
    one, two = (Encoders(BasePipeline(f), CPU) for f in (tiny_pipeline, other))
    assert one.identity(encoders.TEXT) == two.identity(encoders.TEXT)
    assert one.identity(encoders.VAE) != two.identity(encoders.VAE)


def test_images_are_encoded_as_many_at_once_as_memory_holds(tiny_pipeline, monkeypatch):
    """By the size of the memory, then halved where it still runs out, and remembered."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (7, 64, 64, 3), dtype=np.uint8)
    texts = [f"a star {n}" for n in range(5)]
    whole = Encoders(BasePipeline(tiny_pipeline), CPU)
    expected, captions = whole.images(pixels), whole.prompts(texts, 14)
    tried = []
    real = encoders.encode_images, encoders.encode_prompts

    def images(pipeline, part):
        tried.append(len(part))
        if len(part) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real[0](pipeline, part)

    def prompts(pipeline, part, tokens):
        if len(part) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real[1](pipeline, part, tokens)

    monkeypatch.setattr(encoders, "encode_images", images)
    monkeypatch.setattr(encoders, "encode_prompts", prompts)
    halved = Encoders(BasePipeline(tiny_pipeline), CPU)
    torch.testing.assert_close(halved.images(pixels), expected, rtol=1e-4, atol=1e-5)
    assert tried == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    for embeds, expected_embeds in zip(halved.prompts(texts, 14), captions, strict=True):
        torch.testing.assert_close(embeds, expected_embeds, rtol=1e-4, atol=1e-5)
    del tried[:]
    halved.images(pixels)
    assert tried == [1] * 7, "no second try of what did not fit"
    del tried[:]
    each = encoders.image_memory(BasePipeline(tiny_pipeline), (64, 64), half=False)
    monkeypatch.setattr(encoders, "_memory", lambda device: 3 * each)
    Encoders(BasePipeline(tiny_pipeline), CPU).images(pixels)
    assert tried == [2, 2, 2, 1]
    monkeypatch.setattr(encoders, "encode_images", lambda *given: images(None, [0] * 3))
    with pytest.raises(TrainingError, match=r"images of 64 x 64 .* set encoding.images to bf16"):
        Encoders(BasePipeline(tiny_pipeline), CPU).images(pixels)


def test_encoders_that_do_not_fit_are_told_in_a_sentence(tiny_pipeline, monkeypatch):
    """SD3.5's text encoders are 22 GiB in float32; in bfloat16 there is nothing left to set."""
    from diffusers import StableDiffusion3Pipeline

    def too_large(pipeline, *place):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(StableDiffusion3Pipeline, "to", too_large)
    single = Encoders(BasePipeline(tiny_pipeline), CPU)
    half = Encoders(BasePipeline(tiny_pipeline), CPU, Encoding(images="bf16", captions="bf16"))
    pixels = np.zeros((1, 64, 64, 3), np.uint8)
    with pytest.raises(TrainingError, match=r"text encoders do not fit .* encoding.captions to bf"):
        single.prompts(["a star"], 14)
    with pytest.raises(TrainingError, match=r"autoencoder does not fit .* encoding.images to bf16"):
        single.images(pixels)
    with pytest.raises(TrainingError, match="are encoded: use a larger device"):
        half.images(pixels)


def test_processes_of_one_machine_share_its_memory(monkeypatch):
    whole = encoders._memory(CPU)
    environment = {"WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8", "RANK": "0",
                   "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert encoders._memory(CPU) == whole // 8


def test_the_memory_of_encoding_is_what_was_measured(tmp_path):
    """SD3's autoencoder in float32: 64 images at 512 hold 40 GiB, at 1024 160 GiB."""
    pipeline = SimpleNamespace(config=lambda part: {"block_out_channels": [128, 256, 512, 512]})
    for side, gib in ((512, 40), (1024, 160)):
        assert 64 * encoders.image_memory(pipeline, (side, side), half=False) == gib * 2**30
    assert encoders.image_memory(pipeline, (512, 512), half=True) == 5 * 2**26


def test_encoding_in_bfloat16_is_another_encoding_near_the_first(tiny_pipeline):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    single = Encoders(BasePipeline(tiny_pipeline), CPU)
    half = Encoders(BasePipeline(tiny_pipeline), CPU, Encoding(images="bf16", captions="bf16"))
    for parts in (encoders.VAE, encoders.TEXT):
        assert single.identity(parts) != half.identity(parts)
    pairs = [(single.images(pixels), half.images(pixels))]
    pairs += zip(single.prompts(["a star"], 14), half.prompts(["a star"], 14), strict=True)
    for expected, rounded in pairs:
        assert rounded.dtype == torch.float32
        assert not torch.equal(rounded, expected)
        assert (rounded - expected).norm() < 0.05 * expected.norm()


def test_what_is_kept_in_half_precision_trains_the_same_under_bf16(tiny_pipeline):
    """The transformer's first layers round embeddings to bfloat16 in any case."""
    transformer = load_pipeline(tiny_pipeline).transformer
    generator = torch.Generator().manual_seed(0)
    config = transformer.config
    z = torch.randn(2, 4, 16, 16, generator=generator)
    embeds = torch.randn(2, 28, config.joint_attention_dim, generator=generator)
    pooled = torch.randn(2, config.pooled_projection_dim, generator=generator)

    def predict(embeds, pooled):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            return transformer(
                hidden_states=z,
                timestep=torch.tensor([300.0, 700.0]),
                encoder_hidden_states=embeds,
                pooled_projections=pooled,
            ).sample

    rounded = [e.bfloat16().float() for e in (embeds, pooled)]
    assert torch.equal(predict(embeds, pooled), predict(*rounded))
    assert not torch.equal(embeds, rounded[0])


def test_a_pipeline_loads_part_by_part_what_it_loads_as_a_whole(tiny_pipeline):
    whole = StableDiffusion3Pipeline.from_pretrained(
        tiny_pipeline, dtype=torch.float32, local_files_only=True
    )
    core = BasePipeline(tiny_pipeline).load(encoders.CORE)
    text = BasePipeline(tiny_pipeline).load(encoders.TEXT)
    vae = BasePipeline(tiny_pipeline).load(encoders.VAE)
    names = {"text_encoder": text, "text_encoder_2": text, "text_encoder_3": text}
    for name, loaded in {"transformer": core, "vae": vae, **names}.items():
        tensors = getattr(loaded, name).state_dict()
        for key, value in getattr(whole, name).state_dict().items():
            assert torch.equal(value, tensors[key])
    assert core.scheduler.config == whole.scheduler.config
    assert BasePipeline(tiny_pipeline).size_limits() == (2 * whole.vae_scale_factor, 64)
    assert core.vae is None
    assert core.tokenizer is None
    assert text.vae is None
    assert text.transformer is None
    assert vae.text_encoder_3 is None


def test_a_pipeline_without_a_third_text_encoder_embeds_the_same_in_parts(tiny_pipeline, tmp_path):
    whole = load_pipeline(tiny_pipeline)
    whole.register_modules(text_encoder_3=None, tokenizer_3=None)
    whole.save_pretrained(tmp_path / "two", safe_serialization=True)
    expected = encode_prompts(whole, ["a red star"], 14)
    embedded = Encoders(BasePipeline(tmp_path / "two"), CPU).prompts(["a red star"], 14)
    assert all(torch.equal(a, b) for a, b in zip(expected, embedded, strict=True))


def test_cached_encodings_keep_their_names():
    """Recorded before the shipped base's parts were read through soar_bench.pipelines."""
    base = BasePipeline(EMBEDDED["shapes"])
    assert base.digest_parts(encoders.VAE) == VAE_DIGEST
    assert base.digest_parts(encoders.TEXT) == TEXT_DIGEST

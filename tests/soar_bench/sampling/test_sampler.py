"""What a sampler makes is what the pipeline's own call makes from the same noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_pipelines import BUILD

from soar_bench.checkpoints import resolve
from soar_bench.core.errors import SoarBenchError
from soar_bench.pipelines.models import quieten
from soar_bench.sampling.noise import initial_noise, noise_key
from soar_bench.sampling.sampler import Sampler
from soar_bench.suites.types import PlannedSample, Prompt, Protocol

TEXTS = ("a red circle", "a blue star left of a green square", "two yellow hearts")
SAMPLES = [PlannedSample(Prompt(f"p{i}", text), i) for i, text in enumerate(TEXTS)]
SEED = 11
#: Classes are looked up here, so that the reference does not go through the code under test.
CLASSES = {
    "sd3": "StableDiffusion3Pipeline",
    "sd15": "StableDiffusionPipeline",
    "sdxl": "StableDiffusionXLPipeline",
    "flux": "FluxPipeline",
}
KINDS = tuple(CLASSES)


@pytest.fixture(scope="session")
def folders(tiny_pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("kinds")
    return {"sd3": tiny_pipeline} | {
        kind: build(tiny_pipeline, root / kind) for kind, build in BUILD.items()
    }


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path / "home"))


def protocol(kind: str, **changes: object) -> Protocol:
    settings = {"steps": 3, "guidance": 3.0, "resolution": 64 if kind == "sd3" else 16}
    return Protocol("quick", max_sequence_length=14, **{**settings, **changes})


def sample(name: Path | str, settings: Protocol, samples=SAMPLES, batch=8, base=None) -> np.ndarray:
    sampler = Sampler(resolve(str(name), base), settings, "cpu")
    if sampler.embeds:
        sampler.embed([*(s.prompt.text for s in samples), ""])
    parts = [samples[i : i + batch] for i in range(0, len(samples), batch)]
    return np.concatenate([sampler.sample(part, SEED) for part in parts])


def own(folder: Path, kind: str):
    """The pipeline as diffusers itself loads it."""
    import diffusers

    quieten()
    pipeline = getattr(diffusers, CLASSES[kind]).from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def own_call(
    pipeline, kind: str, planned: PlannedSample, side: int, **changes: object
) -> np.ndarray:
    """uint8 [H, W, 3] of the pipeline's own call with the prompt as text."""
    latents = side // pipeline.vae_scale_factor
    channels = 4
    noise = torch.from_numpy(
        initial_noise(SEED, planned.prompt.id, planned.index, (channels, latents, latents))
    )[None]
    if kind == "flux":
        noise = pipeline._pack_latents(noise, 1, channels, latents, latents)
    length = {"max_sequence_length": 14} if kind in ("sd3", "flux") else {}
    call = {
        "prompt": planned.prompt.text,
        "latents": noise,
        "num_inference_steps": 3,
        "guidance_scale": 3.0,
        "height": side,
        "width": side,
        "output_type": "np",
        **length,
        **changes,
    }
    with torch.inference_mode():
        return np.rint(pipeline(**call).images[0] * 255).astype(np.uint8)


def distance(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@pytest.mark.parametrize("kind", KINDS)
def test_images_are_those_of_the_pipelines_own_call(folders, kind):
    settings = protocol(kind)
    made = sample(folders[kind], settings)
    assert made.shape == (3, settings.resolution, settings.resolution, 3)
    assert made.dtype == np.uint8
    pipeline = own(folders[kind], kind)
    for image, planned in zip(made, SAMPLES, strict=True):
        assert distance(image, own_call(pipeline, kind, planned, settings.resolution)) <= 1
    assert distance(made[0], made[1]) > 1  # so that the comparison says something


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_depends_neither_on_its_batch_nor_on_its_order(folders, kind):
    together = sample(folders[kind], protocol(kind))
    alone = sample(folders[kind], protocol(kind), batch=1)
    backwards = sample(folders[kind], protocol(kind), samples=SAMPLES[::-1], batch=2)[::-1]
    assert distance(together, alone) <= 1
    assert distance(together, backwards) <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_resolution_the_pipelines_own_size_is_made(folders, kind):
    sides = {"sd3": 64, "sd15": 16, "sdxl": 16, "flux": 256}
    made = sample(folders[kind], protocol(kind, resolution=None, steps=1), samples=SAMPLES[:1])
    assert made.shape[1:3] == (sides[kind], sides[kind])


def test_the_vae_decodes_in_its_own_precision(folders):
    """Latents in bfloat16, pixels from a VAE in float32: neither is the other's precision."""
    settings = protocol("sd3", dtype="bfloat16")
    made = sample(folders["sd3"], settings, samples=SAMPLES[:1])[0]
    pipeline = own(folders["sd3"], "sd3")
    for part in ("transformer", "text_encoder", "text_encoder_2", "text_encoder_3"):
        getattr(pipeline, part).to(torch.bfloat16)
    noise = initial_noise(SEED, "p0", 0, (4, 16, 16))
    with torch.inference_mode():
        latents = pipeline(
            TEXTS[0],
            latents=torch.from_numpy(noise)[None].bfloat16(),
            num_inference_steps=3,
            guidance_scale=3.0,
            height=64,
            width=64,
            max_sequence_length=14,
            output_type="latent",
        ).images
        vae = pipeline.vae
        z = latents / vae.config.scaling_factor + vae.config.shift_factor
        pixels = vae.decode(z.float(), return_dict=False)[0]
    expected = ((pixels[0] / 2 + 0.5).clamp(0, 1).permute(1, 2, 0) * 255).round().byte().numpy()
    assert distance(made, expected) <= 1
    narrow = sample(
        folders["sd3"], protocol("sd3", dtype="bfloat16", vae_dtype="bfloat16"), SAMPLES[:1]
    )[0]
    assert distance(made, narrow) > 1


def test_only_the_half_that_works_is_in_memory(folders):
    sampler = Sampler(resolve(str(folders["sdxl"])), protocol("sdxl"), "cpu")
    assert sampler.embeds
    assert sampler._loaded is None
    sampler.embed(["", TEXTS[0]])
    assert sampler._loaded.unet is None
    assert sampler._loaded.vae is None
    assert sampler._loaded.text_encoder is not None
    sampler.sample(SAMPLES[:1], SEED)
    assert sampler._loaded.text_encoder is None
    assert sampler._loaded.text_encoder_2 is None
    assert sampler._loaded.unet is not None
    sampler.close()
    assert sampler._loaded is None


def test_a_stochastic_scheduler_draws_for_the_sample_alone(folders, tmp_path):
    import shutil

    from diffusers import EulerAncestralDiscreteScheduler

    folder = tmp_path / "ancestral"
    shutil.copytree(folders["sd15"], folder)
    EulerAncestralDiscreteScheduler().save_pretrained(folder / "scheduler")
    index = (folder / "model_index.json").read_text()
    (folder / "model_index.json").write_text(
        index.replace("DDIMScheduler", "EulerAncestralDiscreteScheduler")
    )
    together = sample(folder, protocol("sd15"))
    alone = sample(folder, protocol("sd15"), batch=1)
    assert distance(together, alone) <= 1
    pipeline = own(folder, "sd15")
    key = noise_key(SEED, "p1", 1)
    generator = torch.Generator("cpu").manual_seed(key % 2**63)
    expected = own_call(pipeline, "sd15", SAMPLES[1], 16, generator=[generator])
    assert distance(together[1], expected) <= 1


def test_images_that_are_not_numbers_are_refused(folders, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "broken"
    shutil.copytree(folders["sd3"], folder)
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["proj_out.bias"][:] = float("nan")
    save_file(tensors, weights)
    with pytest.raises(SoarBenchError, match="images that are not numbers"):
        sample(folder, protocol("sd3"), samples=SAMPLES[:1])


# ---- adapters and transformers


RANK, ALPHA = 2, 6


def matrices(model: torch.nn.Module, ends: tuple[str, ...], size: float = 0.3) -> dict:
    """Random A and B by module, for the modules whose names end so."""
    generator = torch.Generator().manual_seed(5)
    pairs = {}
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear) and name.endswith(ends):
            out, into = layer.weight.shape
            a = torch.randn(RANK, into, generator=generator) * size
            b = torch.randn(out, RANK, generator=generator) * size
            pairs[name] = (a, b)
    assert pairs
    return pairs


def merge(model: torch.nn.Module, pairs: dict, scale: float) -> None:
    """Adds scale * B @ A to the weights, by hand."""
    with torch.no_grad():
        for name, (a, b) in pairs.items():
            model.get_submodule(name).weight += scale * (b @ a)


def save_peft(folder: Path, pairs: dict, **settings: object) -> Path:
    import json

    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    tensors = {}
    for name, (a, b) in pairs.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = a
        tensors[f"base_model.model.{name}.lora_B.weight"] = b
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": sorted(pairs),
        **settings,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_a_peft_adapter_is_its_product_added_to_the_weights(folders, tmp_path):
    pipeline = own(folders["sd3"], "sd3")
    pairs = matrices(pipeline.transformer, ("attn.to_q", "attn.to_out.0", "ff.net.2"))
    adapter = save_peft(tmp_path / "lora", pairs)
    made = sample(adapter, protocol("sd3"), base=str(folders["sd3"]))
    base = sample(folders["sd3"], protocol("sd3"))
    merge(pipeline.transformer, pairs, ALPHA / RANK)
    for image, planned in zip(made, SAMPLES, strict=True):
        assert distance(image, own_call(pipeline, "sd3", planned, 64)) <= 1
    assert distance(made, base) > 1


def test_a_dora_adapter_in_pefts_layout_has_its_own_magnitudes(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    pipeline = own(folders["sd3"], "sd3")
    pairs = matrices(pipeline.transformer, ("attn.to_q",))
    adapter = save_peft(tmp_path / "dora", pairs, use_dora=True)
    tensors = load_file(adapter / "adapter_model.safetensors")
    with torch.no_grad():
        for number, (name, (a, b)) in enumerate(pairs.items()):
            weight = pipeline.transformer.get_submodule(name).weight
            magnitude = torch.linspace(0.5, 2 + number, weight.shape[0])
            tensors[f"base_model.model.{name}.lora_magnitude_vector"] = magnitude
            whole = weight + ALPHA / RANK * (b @ a)
            weight.copy_(magnitude[:, None] * whole / whole.norm(dim=1, keepdim=True))
    save_file(tensors, adapter / "adapter_model.safetensors")
    made = sample(adapter, protocol("sd3"), base=str(folders["sd3"]))
    for image, planned in zip(made, SAMPLES, strict=True):
        assert distance(image, own_call(pipeline, "sd3", planned, 64)) <= 1


@pytest.mark.parametrize("kind", ["sd3", "sdxl", "flux"])
def test_a_diffusers_adapter_is_its_product_added_to_the_weights(folders, tmp_path, kind):
    from safetensors.torch import save_file

    pipeline = own(folders[kind], kind)
    part = "unet" if kind == "sdxl" else "transformer"
    model = getattr(pipeline, part)
    pairs = matrices(model, (".to_q", ".to_k"))
    tensors = {}
    for name, (a, b) in pairs.items():
        tensors[f"{part}.{name}.lora_A.weight"] = a
        tensors[f"{part}.{name}.lora_B.weight"] = b
    file = tmp_path / "style.safetensors"
    save_file(tensors, file)
    made = sample(file, protocol(kind), base=str(folders[kind]))
    merge(model, pairs, 1.0)
    side = protocol(kind).resolution
    for image, planned in zip(made, SAMPLES, strict=True):
        assert distance(image, own_call(pipeline, kind, planned, side)) <= 1
    assert distance(made, sample(folders[kind], protocol(kind))) > 1


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_an_adapter_in_kohyas_names_changes_unet_and_text_encoders(folders, tmp_path, kind):
    from safetensors.torch import save_file

    pipeline = own(folders[kind], kind)
    models = {"lora_unet": pipeline.unet}
    if kind == "sd15":
        models["lora_te"] = pipeline.text_encoder
    else:
        models |= {"lora_te1": pipeline.text_encoder, "lora_te2": pipeline.text_encoder_2}
    tensors, merged = {}, []
    for prefix, model in models.items():
        ends = (".to_q",) if prefix == "lora_unet" else ("q_proj", "k_proj", "v_proj", "out_proj")
        pairs = matrices(model, ends)
        for name, (a, b) in pairs.items():
            full = name
            if prefix != "lora_unet" and not name.startswith("text_model."):
                full = f"text_model.{name}"
            key = f"{prefix}_{full.replace('.', '_')}"
            tensors[f"{key}.lora_down.weight"] = a
            tensors[f"{key}.lora_up.weight"] = b
            tensors[f"{key}.alpha"] = torch.tensor(float(ALPHA))
        merged.append((model, pairs))
    file = tmp_path / "kohya.safetensors"
    save_file(tensors, file)
    made = sample(file, protocol(kind), base=str(folders[kind]))
    for model, pairs in merged:
        merge(model, pairs, ALPHA / RANK)
    for image, planned in zip(made, SAMPLES, strict=True):
        assert distance(image, own_call(pipeline, kind, planned, 16)) <= 1


@pytest.mark.parametrize("kind", ["sd3", "flux", "sd15"])
def test_a_transformer_replaces_the_bases(folders, tmp_path, kind):
    pipeline = own(folders[kind], kind)
    part = "unet" if kind == "sd15" else "transformer"
    model = getattr(pipeline, part)
    merge(model, matrices(model, (".to_q", ".to_v")), 1.0)
    model.save_pretrained(tmp_path / part, max_shard_size="20KB")
    assert len(list((tmp_path / part).glob("*.safetensors"))) > 1
    made = sample(tmp_path, protocol(kind), base=str(folders[kind]))
    side = protocol(kind).resolution
    for image, planned in zip(made, SAMPLES, strict=True):
        assert distance(image, own_call(pipeline, kind, planned, side)) <= 1

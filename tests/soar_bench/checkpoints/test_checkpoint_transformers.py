"""Transformers as checkpoints: in folders and files, under both sets of names."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from checkpoint_files import WEIGHTS, change, original, refused, settings
from safetensors.torch import load_file, save_file

from soar_bench.checkpoints import (
    digest_pipeline,
    resolve,
)


def test_one_transformer_has_one_digest_however_it_lies(tiny_pipeline, transformer, tmp_path):
    from diffusers import SD3Transformer2DModel

    sharded = tmp_path / "sharded"
    model = SD3Transformer2DModel.from_pretrained(transformer)
    model.save_pretrained(sharded, max_shard_size="20KB")
    assert len(list(sharded.glob("*.safetensors"))) > 2
    single = tmp_path / "mine.safetensors"
    shutil.copy(transformer / WEIGHTS, single)
    names = (transformer, transformer.parent, sharded, single, transformer / WEIGHTS)
    checkpoints = [resolve(str(name), str(tiny_pipeline)) for name in names]
    assert {c.form for c in checkpoints} == {"transformer"}
    assert len({c.digest for c in checkpoints}) == 1
    assert {c.base for c in checkpoints} == {(str(tiny_pipeline), digest_pipeline(tiny_pipeline))}
    labels = [c.label for c in checkpoints]
    assert labels == [
        "run-transformer",
        "run",
        "sharded",
        "mine",
        f"run-transformer-{WEIGHTS[:-12]}",
    ]
    assert (
        checkpoints[0].digest
        != resolve(str(tiny_pipeline / "transformer"), str(tiny_pipeline)).digest
    )


@pytest.mark.parametrize("whole", [False, True])
def test_a_file_in_the_original_names_is_the_same_transformer(
    tiny_pipeline, transformer, tmp_path, whole
):
    from soar_bench.checkpoints.loading import load

    tensors = load_file(transformer / WEIGHTS)
    renamed = {f"model.diffusion_model.{k}": v for k, v in original(tensors).items()}
    if whole:  # with the other parts, which are not taken
        renamed["first_stage_model.decoder.conv_in.weight"] = torch.ones(4)
        renamed["text_encoders.t5xxl.logit_scale"] = torch.ones(1)
    file = tmp_path / "original.safetensors"
    save_file({k: v.contiguous() for k, v in renamed.items()}, file)
    checkpoint = resolve(str(file), str(tiny_pipeline))
    assert checkpoint.digest == resolve(str(transformer), str(tiny_pipeline)).digest
    loaded = load(
        checkpoint, torch.float32, torch.float32, ["transformer"]
    ).transformer.state_dict()
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


def test_a_base_has_to_be_named_and_to_be_a_pipeline(transformer, tiny_pipeline, tmp_path):
    refused("holds no whole pipeline: name the one it was trained from with --base", transformer)
    refused("the base .* is no whole pipeline itself", transformer, transformer / WEIGHTS)
    refused("no checkpoint's file or folder, or embedded base is named 'shape'", "shape")
    refused("did you mean shapes", transformer, "shape")


@pytest.mark.parametrize("form", ["folder", "file"])
def test_a_transformer_that_does_not_fit_its_base_is_refused(tiny_pipeline, transformer, form):
    name = transformer if form == "folder" else transformer / WEIGHTS

    def spoil(tensors: dict) -> None:
        for key in sorted(tensors)[:5]:
            del tensors[key]
        tensors["extra.weight"] = torch.ones(1)
        tensors["proj_out.bias"] = torch.ones(3)

    lost = sorted(load_file(transformer / WEIGHTS))[:3]
    change(transformer / WEIGHTS, spoil)
    message = refused("does not fit its base", name, tiny_pipeline)
    assert all(key in message for key in lost)
    assert "and 2 more" in message
    assert "proj_out.bias 3 instead of 16" in message
    assert "tensors that have no place: extra.weight" in message


def test_a_transformer_of_other_settings_is_refused(tiny_pipeline, transformer):
    settings(transformer / "config.json", pos_embed_max_size=16)
    refused("pos_embed_max_size is 16, not 8; name the base", transformer, tiny_pipeline)
    settings(transformer / "config.json", _class_name="FluxTransformer2DModel")
    refused("holds a FluxTransformer2DModel, its base", transformer, tiny_pipeline)


def test_settings_that_are_defaults_need_not_be_written(tiny_pipeline, transformer):
    file = transformer / "config.json"
    config = json.loads(file.read_text())
    assert config.pop("dual_attention_layers") == []
    file.write_text(json.dumps(config))
    assert resolve(str(transformer), str(tiny_pipeline)).form == "transformer"


def test_a_file_of_something_else_is_refused(tiny_pipeline, tmp_path):
    file = tmp_path / "other.safetensors"
    save_file({"layer.weight": torch.ones(3)}, file)
    refused("is not the SD3Transformer2DModel of", file, tiny_pipeline)
    file.write_bytes(b"")
    refused("is damaged: it is empty", file, tiny_pipeline)


@pytest.mark.parametrize("names", ["diffusers", "original"])
def test_quantized_weights_in_one_file_are_refused(tiny_pipeline, transformer, tmp_path, names):
    """Without their scales they would be other weights, and without a word."""
    tensors = load_file(transformer / WEIGHTS)
    if names == "original":
        tensors = {f"model.diffusion_model.{k}": v for k, v in original(tensors).items()}
    matrix = next(k for k, v in tensors.items() if v.ndim == 2 and k.endswith(".weight"))
    by = tensors[matrix].abs().max() / 448
    eight = {matrix: (tensors[matrix] / by).to(torch.float8_e4m3fn)}
    module = matrix.removesuffix("weight")
    for more, header in (
        (eight | {f"{module}scale_weight": by.reshape(1)}, None),
        (eight | {f"{module}weight_scale": by.reshape(1)}, None),
        (eight | {"weight_scale.all": by.reshape(1)}, None),
        (eight, {"scales": "{}"}),
        (eight, {"_quantization_metadata": "{}"}),
        ({matrix: tensors[matrix].round().to(torch.int8)}, None),
        ({f"{matrix}.absmax": torch.ones(1)}, None),
    ):
        file = tmp_path / "eight.safetensors"
        save_file({k: v.contiguous() for k, v in (tensors | more).items()}, file, header)
        refused("holds quantized weights, whose scales are not applied", file, tiny_pipeline)


def test_a_tensor_too_many_in_the_original_names_is_refused(tiny_pipeline, transformer, tmp_path):
    tensors = original(load_file(transformer / WEIGHTS)) | {"extra.weight": torch.ones(3)}
    file = tmp_path / "original.safetensors"
    save_file({k: v.contiguous() for k, v in tensors.items()}, file)
    refused("tensors that have no place in .*: extra.weight$", file, tiny_pipeline)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
@pytest.mark.parametrize("form", ["folder", "file"])
def test_a_wrappers_prefix_is_named(tiny_pipeline, transformer, form, prefix):
    file = transformer / WEIGHTS
    save_file({prefix + k: v for k, v in load_file(file).items()}, file)
    name = transformer if form == "folder" else file
    message = refused("was saved inside a wrapper", name, tiny_pipeline)
    assert f"remove {prefix} from the names" in message


def test_other_parts_and_formats_are_named(tiny_pipeline, tmp_path):
    refused("is a VAE and no transformer", tiny_pipeline / "vae" / WEIGHTS, tiny_pipeline)
    encoder = tiny_pipeline / "text_encoder_3" / "model.safetensors"
    refused("is a text encoder and no transformer", encoder, tiny_pipeline)
    for name in ("q4.gguf", "renamed.safetensors"):
        (tmp_path / name).write_bytes(b"GGUF\3\0\0\0" + bytes(100))
        message = refused("holds quantized weights in GGUF", tmp_path / name, tiny_pipeline)
        assert "torch.load" not in message


def test_a_folder_that_is_none_of_these_says_what_was_looked_for(tmp_path):
    message = refused("is no checkpoint", tmp_path)
    for looked in ("model_index.json", "checkpoint.json", "config.json", "adapter_config.json"):
        assert looked in message
    for name in ("a", "b"):
        save_file({"x": torch.ones(1)}, tmp_path / f"{name}.safetensors")
    refused("holds several weight files .a.safetensors, b.safetensors.: name one", tmp_path)

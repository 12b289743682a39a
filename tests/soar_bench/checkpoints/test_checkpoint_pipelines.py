"""Pipelines as checkpoints: identified by what makes images, refused if anything is lacking."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch
from checkpoint_files import WEIGHTS, change, header, refused, settings
from safetensors.torch import load_file
from tiny_pipelines import BUILD

from soar_bench.checkpoints import (
    EMBEDDED,
    Checkpoint,
    digest_pipeline,
    image_size,
    resolve,
)
from soar_bench.core.errors import SoarBenchError
from soar_bench.pipelines.weights import read_header
from soar_bench.suites.types import Protocol


def test_the_embedded_base_keeps_its_digest():
    """Committed records name it."""
    digest = "cf0ed91689ed3ebd16879c1449a58659882a6a60c514f15e9878f0eb54cc7d22"
    expected = Checkpoint("shapes", "shapes", "pipeline", EMBEDDED["shapes"], digest)
    assert resolve("shapes") == expected


def test_a_pipeline_is_identified_by_what_makes_the_images(tiny_pipeline, pipeline):
    here = resolve(str(pipeline))
    assert (here.form, here.label, here.base, here.weights) == ("pipeline", "pipeline", None, None)
    assert here.digest == digest_pipeline(tiny_pipeline)
    # What is never loaded does not count.
    (pipeline / "README.md").write_text("about it")
    (pipeline / "everything.safetensors").write_bytes(b"a copy of all parts")
    (pipeline / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"old format")
    shutil.copy(pipeline / "vae" / WEIGHTS, pipeline / "vae" / WEIGHTS.replace(".s", ".fp16.s"))
    settings(pipeline / "vae" / "config.json", _name_or_path="elsewhere")
    assert resolve(str(pipeline)).digest == here.digest
    settings(pipeline / "scheduler" / "scheduler_config.json", shift=7.0)
    other = resolve(str(pipeline)).digest
    assert other != here.digest
    change(pipeline / "vae" / WEIGHTS, lambda t: t["decoder.conv_out.bias"].add_(1))
    assert resolve(str(pipeline)).digest not in (other, here.digest)


def test_a_pipeline_that_has_only_a_variant_is_loaded_from_it(tiny_pipeline, pipeline):
    for folder, name in (("transformer", WEIGHTS), ("text_encoder_3", "model.safetensors")):
        (pipeline / folder / name).rename(pipeline / folder / name.replace(".s", ".fp16.s"))
    assert resolve(str(pipeline)).digest == digest_pipeline(tiny_pipeline)


@pytest.mark.parametrize("kind", list(BUILD))
def test_other_kinds_of_pipelines_are_checkpoints(tiny_pipeline, tmp_path, kind):
    checkpoint = resolve(str(BUILD[kind](tiny_pipeline, tmp_path / kind)))
    assert checkpoint.form == "pipeline"
    assert image_size(checkpoint, protocol(32)) == 32


@pytest.mark.parametrize("component", ["transformer", "vae", "text_encoder"])
def test_a_pipeline_that_lacks_tensors_is_refused(pipeline, component):
    name = "model.safetensors" if component == "text_encoder" else WEIGHTS
    lost = sorted(load_file(pipeline / component / name))[:4]
    change(pipeline / component / name, lambda t: [t.pop(key) for key in lost])
    message = refused(rf"{component} is not whole: it lacks .* and 1 more", pipeline)
    assert all(key in message for key in lost[:3])


def test_a_pipeline_with_a_wrong_shape_is_refused(pipeline):
    change(pipeline / "vae" / WEIGHTS, lambda t: t.update({"encoder.conv_in.bias": torch.ones(7)}))
    refused(
        "vae is not whole: it has a shape wrong: encoder.conv_in.bias 7 instead of 16", pipeline
    )


def test_a_pipeline_that_lacks_a_folder_or_a_vocabulary_is_refused(pipeline):
    for file in (pipeline / "tokenizer_3").iterdir():
        file.unlink()
    refused("tokenizer_3 holds no vocabulary: the copy is incomplete", pipeline)
    (pipeline / "tokenizer_3").rmdir()
    refused("lacks the folder tokenizer_3", pipeline)


def test_an_index_that_names_an_absent_shard_is_refused(pipeline):
    folder = pipeline / "transformer"
    (folder / WEIGHTS).unlink()
    weight_map = {"a": "diffusion_pytorch_model-00001-of-00001.safetensors"}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    refused("names diffusion_pytorch_model-00001-of-00001.safetensors, not in its", pipeline)
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": {"a": "../../x"}}))
    refused("which is outside its folder", pipeline)


@pytest.mark.parametrize("size", [0, 5, 2000, -1])
def test_a_file_that_is_cut_off_is_refused(pipeline, size):
    file = pipeline / "transformer" / WEIGHTS
    os.truncate(file, size if size >= 0 else file.stat().st_size - 1)
    refused(f"{WEIGHTS} is (damaged|cut off)", pipeline)


@pytest.mark.parametrize(
    ("class_name", "sentence"),
    [
        ("NoSuchPipeline", "holds a NoSuchPipeline, which diffusers .* does not have"),
        ("AutoencoderKL", "holds a AutoencoderKL, which diffusers .* does not have"),
        ("StableDiffusion3Img2ImgPipeline", "does not make images from text alone"),
        ("StableDiffusion3ControlNetPipeline", "does not make images from text alone"),
        ("WanPipeline", "does not make images from text alone"),
        ("DDPMPipeline", "does not make images from text alone"),
        (["code", "MyPipeline"], "wants to run code of its own .MyPipeline., which is never done"),
        (None, "names no _class_name"),
    ],
)
def test_a_pipeline_that_makes_no_images_from_text_is_refused(pipeline, class_name, sentence):
    settings(pipeline / "model_index.json", _class_name=class_name)
    (pipeline / "code.py").write_text("raise SystemExit('this ran')")
    refused(sentence, pipeline)


def test_a_component_that_no_library_has_is_refused(pipeline):
    settings(pipeline / "model_index.json", transformer=["code", "MyTransformer"])
    (pipeline / "transformer" / "code.py").write_text("raise SystemExit('this ran')")
    refused("wants code.MyTransformer as its transformer", pipeline)


def test_weights_in_a_format_that_may_run_code_are_refused(pipeline, tmp_path):
    file = pipeline / "vae" / WEIGHTS
    file.rename(file.with_suffix(".bin"))
    refused("diffusion_pytorch_model.bin is no safetensors file .* convert it", pipeline)
    for suffix in (".bin", ".ckpt", ".pt"):
        name = tmp_path / f"model{suffix}"
        torch.save({}, name)
        refused(f"model{suffix} is no safetensors file .* convert it to safetensors", name)


@pytest.mark.parametrize(
    ("component", "file", "tensor", "name"),
    [
        ("text_encoder_3", "model.safetensors", torch.ones(1), "shared.scale_weight"),
        ("text_encoder", "model.safetensors", torch.ones(1), "text_model.x.weight_scale"),
        ("transformer", WEIGHTS, torch.ones(1), "proj_out.weight.absmax"),
        ("vae", WEIGHTS, torch.ones(1), "encoder.conv_in.input_scale"),
        ("transformer", WEIGHTS, torch.ones(64, 32, dtype=torch.int8), "norm_out.linear.weight"),
        ("text_encoder_3", "model.safetensors", torch.ones(2, dtype=torch.uint8), "shared.x"),
    ],
)
def test_a_pipeline_with_quantized_weights_is_refused(pipeline, component, file, tensor, name):
    """Loaded without their scales, they would be other weights."""
    change(pipeline / component / file, lambda tensors: tensors.update({name: tensor}))
    refused(rf"holds quantized weights, whose scales are not applied here \({name}\)", pipeline)


@pytest.mark.parametrize("component", ["transformer", "vae", "text_encoder", "text_encoder_3"])
def test_a_pipeline_with_a_tensor_too_many_is_refused(pipeline, component):
    name = "model.safetensors" if "text" in component else WEIGHTS
    change(pipeline / component / name, lambda t: t.update({"extra.weight": torch.ones(1)}))
    refused(f"{component} is not whole: .* that have no place: extra.weight", pipeline)


def test_what_older_files_hold_besides_is_no_fault(pipeline, tiny_pipeline):
    def add(tensors: dict) -> None:
        tensors["text_model.embeddings.position_ids"] = torch.arange(16)[None]

    change(pipeline / "text_encoder" / "model.safetensors", add)
    assert resolve(str(pipeline)).digest != digest_pipeline(tiny_pipeline)


@pytest.mark.parametrize("component", ["transformer", "vae", "text_encoder", "text_encoder_3"])
def test_settings_that_ask_for_more_than_the_libraries_are_refused(pipeline, component):
    file = pipeline / component / "config.json"
    before = file.read_text()
    settings(file, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    refused(rf"{component} is quantized \(bitsandbytes\), which is not read", pipeline)
    file.write_text(before)
    settings(file, _attn_implementation="kernels-community/x")
    refused("asks for the attention 'kernels-community/x', which is not used", pipeline)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("model_index.json", '{"a":' * 100_000 + "1" + "}" * 100_000),
        ("transformer/config.json", "[" * 200_000),
        ("scheduler/scheduler_config.json", "[" * 200_000),
        ("model_index.json", '{"_class_name": []}'),
    ],
)
def test_settings_nested_too_deeply_are_damaged(pipeline, name, text):
    (pipeline / name).write_text(text)
    refused(f"{name} is damaged", pipeline)


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 200_000,
        [],
        {"a": None},
        {"a": ENTRY, "__metadata__": "text"},
        {"a": ENTRY, "__metadata__": [1]},
        {"a": ENTRY | {"shape": [-2, -1]}},
        {"a": ENTRY | {"shape": [2.0]}},
        {"a": ENTRY | {"shape": "2"}},
        {"a": ENTRY | {"dtype": "F4", "data_offsets": ["x", "y"]}},
        {"a": ENTRY | {"dtype": "Q8_0"}},
        {"a": ENTRY | {"dtype": 7}},
        {"a": ENTRY | {"data_offsets": [8, 0]}},
        {"a": ENTRY | {"data_offsets": [0]}},
    ],
)
def test_an_odd_header_is_damaged(tiny_pipeline, tmp_path, content):
    refused("is damaged", header(tmp_path / "odd.safetensors", content), tiny_pipeline)


def test_a_header_without_metadata_is_read(tmp_path):
    file = header(tmp_path / "a.safetensors", {"a": ENTRY, "__metadata__": None})
    assert read_header(file).shapes == {"a": (2,)}


# ---- sizes


def protocol(resolution: int | None) -> Protocol:
    return Protocol("p", steps=1, guidance=1.0, resolution=resolution, max_sequence_length=14)


def test_the_size_is_the_protocols_or_the_pipelines_own(tiny_pipeline):
    checkpoint = resolve(str(tiny_pipeline))
    assert image_size(checkpoint, protocol(None)) == 64  # 16 latents of 4 pixels
    assert image_size(checkpoint, protocol(32)) == 32
    for side, nearest in ((60, 56), (72, 64), (0, 8)):
        words = f"a multiple of 8 up to 64 pixels, not {side}: ask for a resolution of {nearest}$"
        with pytest.raises(SoarBenchError, match=words):
            image_size(checkpoint, protocol(side))

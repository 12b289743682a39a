"""Every form of checkpoint is found and identified; every wrong one is refused with a sentence."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
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

WEIGHTS = "diffusion_pytorch_model.safetensors"
PEFT_WEIGHTS = "adapter_model.safetensors"
MODULE = "transformer_blocks.0.attn.to_q"


@pytest.fixture(scope="module", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOAR_BENCH_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture()
def pipeline(tiny_pipeline: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(tiny_pipeline, tmp_path / "pipeline"))


@pytest.fixture()
def transformer(tiny_pipeline: Path, tmp_path: Path) -> Path:
    """A transformer's folder with other weights than the base's."""
    folder = Path(shutil.copytree(tiny_pipeline / "transformer", tmp_path / "run" / "transformer"))
    change(folder / WEIGHTS, lambda tensors: tensors["proj_out.bias"].add_(1))
    return folder


def change(file: Path, how: Callable[[dict], object]) -> None:
    tensors = load_file(file)
    how(tensors)
    save_file(tensors, file)


def settings(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def peft(folder: Path, tensors: dict | None = None, **changes: object) -> Path:
    """An adapter in peft's layout, on one layer of the tiny pipeline (32 wide), of rank 2."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors or pair(), folder / PEFT_WEIGHTS)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": [MODULE]}
    (folder / "adapter_config.json").write_text(json.dumps(config | changes))
    return folder


def pair(
    module: str = f"base_model.model.{MODULE}", a: float = 0.5, b: float = 0.5, **more
) -> dict:
    width, rank = more.get("width", 32), more.get("rank", 2)
    return {
        f"{module}.lora_A.weight": torch.full((rank, width), a),
        f"{module}.lora_B.weight": torch.full((width, rank), b),
    }


def refused(sentence: str, name: Path | str, base: Path | str | None = None) -> str:
    with pytest.raises(SoarBenchError, match=sentence) as error:
        resolve(str(name), None if base is None else str(base))
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- pipelines


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
    found = resolve(str(BUILD[kind](tiny_pipeline, tmp_path / kind)))
    assert found.form == "pipeline"
    assert image_size(found, protocol(32)) == 32


@pytest.mark.parametrize("component", ["transformer", "vae", "text_encoder"])
def test_a_pipeline_that_lacks_tensors_is_refused(pipeline, component):
    name = "model.safetensors" if component == "text_encoder" else WEIGHTS
    lost = sorted(load_file(pipeline / component / name))[:4]
    change(pipeline / component / name, lambda t: [t.pop(key) for key in lost])
    said = refused(rf"{component} is not whole: it lacks .* and 1 more", pipeline)
    assert all(key in said for key in lost[:3])


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


def header(file: Path, content: object) -> Path:
    """A safetensors file with this header and eight bytes of values."""
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    return file


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


# ---- transformers


def test_one_transformer_has_one_digest_however_it_lies(tiny_pipeline, transformer, tmp_path):
    from diffusers import SD3Transformer2DModel

    sharded = tmp_path / "sharded"
    model = SD3Transformer2DModel.from_pretrained(transformer)
    model.save_pretrained(sharded, max_shard_size="20KB")
    assert len(list(sharded.glob("*.safetensors"))) > 2
    single = tmp_path / "mine.safetensors"
    shutil.copy(transformer / WEIGHTS, single)
    names = (transformer, transformer.parent, sharded, single, transformer / WEIGHTS)
    found = [resolve(str(name), str(tiny_pipeline)) for name in names]
    assert {one.form for one in found} == {"transformer"}
    assert len({one.digest for one in found}) == 1
    assert {one.base for one in found} == {(str(tiny_pipeline), digest_pipeline(tiny_pipeline))}
    labels = [one.label for one in found]
    assert labels == [
        "run-transformer",
        "run",
        "sharded",
        "mine",
        f"run-transformer-{WEIGHTS[:-12]}",
    ]
    assert found[0].digest != resolve(str(tiny_pipeline / "transformer"), str(tiny_pipeline)).digest


def original(tensors: dict) -> dict:
    """SD3's own names for a transformer's tensors, put together from diffusers' by hand."""
    out = {
        "pos_embed": tensors["pos_embed.pos_embed"],
        "context_embedder.weight": tensors["context_embedder.weight"],
        "context_embedder.bias": tensors["context_embedder.bias"],
    }

    def swapped(tensor: torch.Tensor) -> torch.Tensor:
        """The last layer's modulation is (shift, scale) there and (scale, shift) here."""
        scale, shift = tensor.chunk(2)
        return torch.cat([shift, scale])

    blocks = 1 + max(int(k.split(".")[1]) for k in tensors if k.startswith("transformer_blocks."))
    for kind in ("weight", "bias"):
        out[f"x_embedder.proj.{kind}"] = tensors[f"pos_embed.proj.{kind}"]
        for here, there in (("t", "timestep"), ("y", "text")):
            for number in (1, 2):
                name = f"time_text_embed.{there}_embedder.linear_{number}.{kind}"
                out[f"{here}_embedder.mlp.{2 * number - 2}.{kind}"] = tensors[name]
        out[f"final_layer.linear.{kind}"] = tensors[f"proj_out.{kind}"]
        out[f"final_layer.adaLN_modulation.1.{kind}"] = swapped(tensors[f"norm_out.linear.{kind}"])
        for i in range(blocks):
            block, last = f"transformer_blocks.{i}", i == blocks - 1
            for part, norm, q, proj, ff in (
                ("x", "norm1", "to_{}", "to_out.0", "ff"),
                ("context", "norm1_context", "add_{}_proj", "to_add_out", "ff_context"),
            ):
                place = f"joint_blocks.{i}.{part}_block"
                whole = [tensors[f"{block}.attn.{q.format(x)}.{kind}"] for x in "qkv"]
                out[f"{place}.attn.qkv.{kind}"] = torch.cat(whole)
                modulation = tensors[f"{block}.{norm}.linear.{kind}"]
                if part == "context" and last:
                    modulation = swapped(modulation)
                out[f"{place}.adaLN_modulation.1.{kind}"] = modulation
                if part == "context" and last:
                    continue
                out[f"{place}.attn.proj.{kind}"] = tensors[f"{block}.attn.{proj}.{kind}"]
                out[f"{place}.mlp.fc1.{kind}"] = tensors[f"{block}.{ff}.net.0.proj.{kind}"]
                out[f"{place}.mlp.fc2.{kind}"] = tensors[f"{block}.{ff}.net.2.{kind}"]
    for i in range(blocks):
        attention = f"transformer_blocks.{i}.attn"
        for part, norm in (("x", "norm_{}"), ("context", "norm_added_{}")):
            for x in "qk":
                name = f"joint_blocks.{i}.{part}_block.attn.ln_{x}.weight"
                out[name] = tensors[f"{attention}.{norm.format(x)}.weight"]
    return out


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
    found = resolve(str(file), str(tiny_pipeline))
    assert found.digest == resolve(str(transformer), str(tiny_pipeline)).digest
    loaded = load(found, torch.float32, torch.float32, ["transformer"]).transformer.state_dict()
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
    said = refused("does not fit its base", name, tiny_pipeline)
    assert all(key in said for key in lost)
    assert "and 2 more" in said
    assert "proj_out.bias 3 instead of 16" in said
    assert "tensors that have no place: extra.weight" in said


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
    said = refused("was saved inside a wrapper", name, tiny_pipeline)
    assert f"remove {prefix} from the names" in said


def test_other_parts_and_formats_are_named(tiny_pipeline, tmp_path):
    refused("is a VAE and no transformer", tiny_pipeline / "vae" / WEIGHTS, tiny_pipeline)
    encoder = tiny_pipeline / "text_encoder_3" / "model.safetensors"
    refused("is a text encoder and no transformer", encoder, tiny_pipeline)
    for name in ("q4.gguf", "renamed.safetensors"):
        (tmp_path / name).write_bytes(b"GGUF\3\0\0\0" + bytes(100))
        said = refused("holds quantized weights in GGUF", tmp_path / name, tiny_pipeline)
        assert "torch.load" not in said


def test_a_folder_that_is_none_of_these_says_what_was_looked_for(tmp_path):
    said = refused("is no checkpoint", tmp_path)
    for looked in ("model_index.json", "checkpoint.json", "config.json", "adapter_config.json"):
        assert looked in said
    for name in ("a", "b"):
        save_file({"x": torch.ones(1)}, tmp_path / f"{name}.safetensors")
    refused("holds several weight files .a.safetensors, b.safetensors.: name one", tmp_path)


# ---- adapters


def test_an_adapter_has_one_digest_in_every_layout(tiny_pipeline, tmp_path):
    base = str(tiny_pipeline)
    direct = resolve(str(peft(tmp_path / "style")), base)
    assert (direct.form, direct.label, direct.weights) == ("lora", "style", tmp_path / "style")
    assert direct.base == (base, digest_pipeline(tiny_pipeline))
    for inside in ("lora", "transformer"):  # as Flow-GRPO and others save
        peft(tmp_path / inside / "checkpoint-20" / inside)
        found = resolve(str(tmp_path / inside / "checkpoint-20"), base)
        assert found.digest == direct.digest
        assert found.label.endswith(f"{inside}-checkpoint-20")
    # The same product in diffusers' layout, where alpha is in the metadata.
    metadata = {"transformer.r": 2, "transformer.lora_alpha": 4}
    metadata["transformer.target_modules"] = [MODULE]
    (tmp_path / "saved").mkdir()
    file = tmp_path / "saved" / "pytorch_lora_weights.safetensors"
    save_file(pair(f"transformer.{MODULE}"), file, {"lora_adapter_metadata": json.dumps(metadata)})
    assert resolve(str(file), base).digest == direct.digest
    assert resolve(str(file.parent), base).digest == direct.digest
    assert resolve(str(file.parent), base).label == "saved"


def test_an_adapters_settings_are_part_of_its_identity(tiny_pipeline, tmp_path):
    base = str(tiny_pipeline)
    adapters = [
        peft(tmp_path / "a"),
        peft(tmp_path / "b", lora_alpha=8),
        peft(tmp_path / "c", use_rslora=True),
        peft(tmp_path / "d", alpha_pattern={MODULE: 1}),
        peft(tmp_path / "e", pair(f"base_model.model.{MODULE}", a=0.25)),
    ]
    assert len({resolve(str(a), base).digest for a in adapters}) == len(adapters)
    # What does not decide the result does not count.
    same = peft(
        tmp_path / "f",
        lora_dropout=0.1,
        base_model_name_or_path="somewhere",
        task_type="FEATURE_EXTRACTION",
    )
    assert resolve(str(same), base).digest == resolve(str(adapters[0]), base).digest


def test_any_rank_is_read_from_the_adapter(tiny_pipeline, tmp_path):
    tensors = pair() | pair(f"base_model.model.{MODULE.replace('to_q', 'to_k')}", rank=5)
    names = [MODULE, MODULE.replace("to_q", "to_k")]
    adapter = peft(tmp_path / "a", tensors, target_modules=names, rank_pattern={names[1]: 5})
    assert resolve(str(adapter), str(tiny_pipeline)).form == "lora"


def test_an_adapter_finds_the_base_that_it_names(tiny_pipeline, tmp_path):
    here = peft(tmp_path / "a", base_model_name_or_path=str(tiny_pipeline))
    assert resolve(str(here)).base == (str(tiny_pipeline), digest_pipeline(tiny_pipeline))
    gone = peft(tmp_path / "b", base_model_name_or_path="org/gone")
    refused(r"it names org/gone, which is not here\): name the one .* with --base", gone)
    refused("holds no whole pipeline: name the one", peft(tmp_path / "c"))


@pytest.mark.parametrize(
    ("changes", "config"),
    [({"a": 0.0}, {}), ({"b": 0.0}, {}), ({}, {"lora_alpha": 0})],
    ids=["A", "B", "alpha"],
)
def test_an_adapter_that_changes_nothing_is_refused(tiny_pipeline, tmp_path, changes, config):
    adapter = peft(tmp_path / "a", pair(**changes), **config)
    refused("changes nothing: in every layer", adapter, tiny_pipeline)


def test_an_adapter_of_another_base_is_refused(tiny_pipeline, tmp_path):
    beyond = MODULE.replace("blocks.0", "blocks.7")
    far = peft(tmp_path / "a", pair(f"base_model.model.{beyond}"), target_modules=[beyond])
    refused(f"the base has no transformer.{beyond}", far, tiny_pipeline)
    wide = peft(tmp_path / "b", pair(width=48))
    said = refused("does not fit its base", wide, tiny_pipeline)
    assert f"transformer.{MODULE} is 32x32, its matrices make 48x48" in said
    file = tmp_path / "unet.safetensors"
    save_file(pair("unet.mid_block.attn.to_q"), file)
    refused("has tensors for no part of .* another kind of pipeline", file, tiny_pipeline)


def test_an_adapter_whose_tensors_and_settings_disagree_is_refused(tiny_pipeline, tmp_path):
    more = pair() | pair(f"base_model.model.{MODULE.replace('to_q', 'to_k')}")
    refused("does not fit", peft(tmp_path / "a", more), tiny_pipeline)
    fewer = peft(tmp_path / "b", target_modules=[MODULE, MODULE.replace("to_q", "to_k")])
    refused("does not fit", fewer, tiny_pipeline)
    refused("cannot be brought onto", peft(tmp_path / "c", r=3), tiny_pipeline)


def test_what_is_no_plain_lora_is_refused(tiny_pipeline, tmp_path):
    refused("of the kind LOHA", peft(tmp_path / "a", peft_type="LOHA"), tiny_pipeline)
    changed = peft(tmp_path / "b", init_lora_weights="pissa")
    refused("a base that was changed when training began", changed, tiny_pipeline)
    extra = pair() | {"base_model.model.proj_out.weight": torch.ones(16, 32)}
    refused("no LoRA's: transformer.proj_out.weight", peft(tmp_path / "c", extra), tiny_pipeline)
    half = pair()
    del half[f"base_model.model.{MODULE}.lora_B.weight"]
    refused("without its other half", peft(tmp_path / "d", half), tiny_pipeline)
    nan = peft(tmp_path / "e", pair(a=float("nan")))
    refused("holds values that are not numbers", nan, tiny_pipeline)
    pickled = peft(tmp_path / "f")
    (pickled / PEFT_WEIGHTS).rename(pickled / "adapter_model.bin")
    refused("adapter_model.bin is no safetensors file", pickled, tiny_pipeline)
    dora = tmp_path / "dora.safetensors"
    save_file(pair(f"transformer.{MODULE}") | {"x.dora_scale": torch.ones(1)}, dora)
    refused("is a DoRA, LoKr or LoHa adapter", dora, tiny_pipeline)


# ---- what soar-bench train writes


@pytest.fixture()
def trained(tiny_pipeline: Path, transformer: Path, tmp_path: Path) -> Path:
    from soar_bench.core.digests import digest_weights

    folder = tmp_path / "training" / "checkpoint-000006"
    shutil.copytree(transformer, folder / "transformer")
    story = {
        "schema": 1,
        "weights": digest_weights([transformer / WEIGHTS]),
        "base": {"name": str(tiny_pipeline), "digest": digest_pipeline(tiny_pipeline)},
        "name": "soar",
        "method": "soar",
        "step": 6,
        "seed": 3,
        "data": {"digest": "d"},
        "config": {},
    }
    (folder / "checkpoint.json").write_text(json.dumps(story))
    return folder


def test_a_training_run_is_its_last_checkpoint(trained, transformer, tiny_pipeline):
    found = resolve(str(trained.parent))
    assert found == Checkpoint(
        label="soar-seed3",
        name=str(trained.parent),
        form="transformer",
        pipeline=tiny_pipeline,
        digest=resolve(str(transformer), str(tiny_pipeline)).digest,
        base=(str(tiny_pipeline), digest_pipeline(tiny_pipeline)),
        weights=trained / "transformer",
        story=found.story,
    )
    assert found.story["step"] == 6


def test_copies_beside_a_runs_checkpoints_are_judged_only_by_name(trained):
    run = trained.parent
    for name in ("checkpoint-best", "checkpoint-999999-copy", "checkpoint-000007 (1)"):
        shutil.copytree(trained, run / name)
    assert resolve(str(run)).name == str(run)
    assert resolve(str(run)).weights == trained / "transformer"
    assert resolve(str(run / "checkpoint-best")).weights == run / "checkpoint-best/transformer"
    shutil.rmtree(trained)
    refused(f"holds some: name {run}/checkpoint-000007 .1., {run}/checkpoint-999999-copy", run)


def test_a_trained_checkpoint_stands_on_the_base_it_was_trained_from(trained, pipeline):
    assert resolve(str(trained), str(pipeline)).base is not None  # a copy is the same base
    change(pipeline / "vae" / WEIGHTS, lambda t: t["decoder.conv_out.bias"].add_(1))
    refused("was trained from another .*: restore that base, or name it", trained, pipeline)
    settings(trained / "checkpoint.json", base={"name": "/gone/away", "digest": "0"})
    refused("is named '/gone/away'", trained)


def test_a_trained_checkpoint_that_was_changed_is_refused(trained):
    change(trained / "transformer" / WEIGHTS, lambda t: t["proj_out.bias"].add_(1))
    refused("are not those that checkpoint.json names", trained)


# ---- what is remembered

WARM = """
import json, sys, time
start = time.perf_counter()
from soar_bench.checkpoints import resolve
found = resolve(*sys.argv[1:])
seconds = time.perf_counter() - start
heavy = sorted({"torch", "diffusers", "transformers", "peft"} & set(sys.modules))
print(json.dumps({"digest": found.digest, "heavy": heavy, "seconds": seconds}))
"""


def in_a_new_process(*arguments: str, home: Path) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", WARM, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "SOAR_BENCH_HOME": str(home)},
    )
    return json.loads(done.stdout)


def test_what_was_checked_is_not_read_again(tiny_pipeline, transformer, tmp_path, monkeypatch):
    home = tmp_path / "home"
    monkeypatch.setenv("SOAR_BENCH_HOME", str(home))
    adapter = peft(tmp_path / "style")
    base = str(tiny_pipeline)
    for name in (transformer, transformer / WEIGHTS, adapter):
        cold = resolve(str(name), base)
        warm = in_a_new_process(str(name), base, home=home)
        assert warm["digest"] == cold.digest
        assert warm["heavy"] == []


def test_a_change_is_seen(tiny_pipeline, pipeline):
    before = resolve(str(pipeline))
    change(pipeline / "vae" / WEIGHTS, lambda t: t["decoder.conv_out.bias"].add_(1))
    assert resolve(str(pipeline)).digest != before.digest
    (pipeline / "vae" / WEIGHTS).unlink()
    refused("vae holds no diffusion_pytorch_model.safetensors", pipeline)


def test_a_new_version_of_a_library_checks_again(tiny_pipeline, monkeypatch):
    from soar_bench.pipelines import folder, models

    resolve(str(tiny_pipeline))
    asked = []
    monkeypatch.setattr(models, "check_component", lambda _, component: asked.append(component))
    resolve(str(tiny_pipeline))
    assert asked == []
    monkeypatch.setattr(models, "versions", lambda: {"diffusers": "99"})
    monkeypatch.setattr(folder, "digest_weights", lambda _: pytest.fail("read again"))
    resolve(str(tiny_pipeline))
    assert "transformer" in asked


def test_a_damaged_memory_is_written_anew(tiny_pipeline, tmp_path, monkeypatch):
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path / "home"))
    digest = resolve(str(tiny_pipeline)).digest
    files = list((tmp_path / "home" / "checkpoints").glob("*.json"))
    assert files
    whole = {file: file.read_text() for file in files}
    for text in ("", "{", "[]", '{"state": null, "finding": "lies"}', '{"finding": 3}'):
        for file in files:
            file.write_text(text)
        assert resolve(str(tiny_pipeline)).digest == digest
        assert {file: file.read_text() for file in files} == whole


def test_where_nothing_can_be_remembered_everything_still_works(
    tiny_pipeline, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path / "file"))
    assert resolve(str(tiny_pipeline)).digest == digest_pipeline(tiny_pipeline)


# ---- sizes


def protocol(resolution: int | None) -> Protocol:
    return Protocol("p", steps=1, guidance=1.0, resolution=resolution, max_sequence_length=14)


def test_the_size_is_the_protocols_or_the_pipelines_own(tiny_pipeline):
    found = resolve(str(tiny_pipeline))
    assert image_size(found, protocol(None)) == 64  # 16 latents of 4 pixels
    assert image_size(found, protocol(32)) == 32
    for side, nearest in ((60, 56), (72, 64), (0, 8)):
        words = f"a multiple of 8 up to 64 pixels, not {side}: ask for a resolution of {nearest}$"
        with pytest.raises(SoarBenchError, match=words):
            image_size(found, protocol(side))

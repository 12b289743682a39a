"""LoRA files of other trainers: the same product, whatever their names, dtypes and headers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from checkpoint_files import MODULE, WEIGHTS, original, pair, refused
from safetensors.torch import load_file, save_file

from soar_bench.checkpoints import resolve
from soar_bench.checkpoints.adapters import check_adapter
from soar_bench.checkpoints.single_file import converted
from soar_bench.core.errors import SoarBenchError
from soar_bench.pipelines import Pipeline, pipeline_folder

RANK, ALPHA = 2, 8.0


def scales(pipeline: Path, tensors: dict, folder: Path, **header: str) -> set[float]:
    file = folder / "style.safetensors"
    save_file(tensors, file, header)
    return set(check_adapter(Pipeline(pipeline), file).scales.values())


@pytest.mark.parametrize(
    "header",
    [
        {"r": "2", "lora_alpha": "8"},
        {"transformer.r": "2", "transformer.lora_alpha": "8"},
        {"transformer.lora_alpha": "8", "text_encoder.lora_alpha": "1"},
        {"ss_network_dim": "2", "ss_network_alpha": "8.0", "ss_tag_frequency": '{"alpha": 3}'},
        {"rank": "2", "network_alpha": "8"},
        {"Lora_Alpha": "8"},
        {"config": json.dumps([{"lora_alpha": 8}])},
        {"ss_network_args": json.dumps({"conv_alpha": "1", "alpha": "8"})},
        {"config": json.dumps({"network": {"linear": 2, "linear_alpha": 8}})},
        {"adapter_config": json.dumps({"r": 2, "lora_alpha": 8, "alpha_pattern": {}})},
        {
            "lora_adapter_metadata": json.dumps(
                {
                    "transformer.r": 2,
                    "transformer.lora_alpha": 8,
                    "transformer.target_modules": [MODULE],
                }
            )
        },
    ],
)
def test_an_alpha_in_the_header_is_applied(tiny_pipeline, tmp_path, header):
    assert scales(tiny_pipeline, pair(f"transformer.{MODULE}"), tmp_path, **header) == {4.0}


def test_an_alpha_beside_the_matrices_goes_before_the_headers(tiny_pipeline, tmp_path):
    name = f"lora_transformer_{MODULE.replace('.', '_')}"
    tensors = {
        k.replace("lora_A", "lora_down").replace("lora_B", "lora_up"): v
        for k, v in pair(name).items()
    }
    tensors[f"{name}.alpha"] = torch.tensor(6.0)
    assert scales(tiny_pipeline, tensors, tmp_path, ss_network_alpha="8") == {3.0}


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ({"lora_alpha": "much"}, "states no single alpha in its header .much."),
        ({"lora_alpha": "8", "network_alpha": "4"}, "states no single alpha in its header .4, 8."),
        ({"lora_alpha": "8", "alpha_pattern": '{"x": 1}'}, "states alpha_pattern in its header"),
        ({"lora_alpha": "8", "use_rslora": "true"}, "states use_rslora in its header"),
        ({"ss_network_args": '{"rs_lora": "True"}'}, "states rs_lora in its header"),
        ({"scaling": "4.0"}, "states scaling in its header"),
        ({"config": "rank: 2\nlora_alpha: 8"}, "no single alpha in its header .config = rank: 2 l"),
        ({"lora_adapter_metadata": "{"}, "does not state transformer.lora_alpha"),
        ({"lora_adapter_metadata": '{"lora_alpha": 8}'}, "does not state transformer.lora_alpha"),
        (
            {"lora_adapter_metadata": '{"transformer.r": 2, "transformer.lora_alpha": "8"}'},
            "does not state transformer.lora_alpha in its header's lora_adapter_metadata",
        ),
    ],
)
def test_a_header_that_cannot_be_applied_is_refused(tiny_pipeline, tmp_path, header, sentence):
    file = tmp_path / "style.safetensors"
    save_file(pair(f"transformer.{MODULE}"), file, header)
    refused(sentence, file, tiny_pipeline)


def test_an_alpha_of_some_layers_and_another_in_the_header_are_refused(tiny_pipeline, tmp_path):
    tensors = pair(f"transformer.{MODULE}") | pair(f"transformer.{MODULE[:-1]}k")
    tensors[f"transformer.{MODULE}.alpha"] = torch.tensor(6.0)
    save_file(tensors, tmp_path / "style.safetensors", {"lora_alpha": "8"})
    refused("not for transformer.*to_k, and another", tmp_path / "style.safetensors", tiny_pipeline)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"lora_alpha": "8"}, "states no number as lora_alpha"),
        ({"use_dora": True}, "without the magnitudes of transformer.*to_q"),
        ({"modules_to_save": ["proj_out"]}, "whole layers beside its matrices"),
    ],
)
def test_settings_of_pefts_that_cannot_be_applied_are_refused(
    tiny_pipeline, tmp_path, settings, sentence
):
    save_file(pair(f"base_model.model.{MODULE}"), tmp_path / "adapter_model.safetensors")
    plain = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": [MODULE]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(plain | settings))
    refused(sentence, tmp_path, tiny_pipeline)


def test_eight_bit_floats_are_computed_with_in_full(tiny_pipeline, tmp_path):
    tensors = {k: v.to(torch.float8_e4m3fn) for k, v in pair(f"transformer.{MODULE}").items()}
    assert scales(tiny_pipeline, tensors, tmp_path) == {1.0}
    name = f"transformer.{MODULE}.lora_A"
    save_file(tensors | {f"{name}.weight_scale": torch.ones(1)}, tmp_path / "scaled.safetensors")
    refused("holds quantized weights", tmp_path / "scaled.safetensors", tiny_pipeline)


@pytest.mark.parametrize(
    ("prefix", "infix"),
    [
        ("", ""),
        ("", ".default"),
        ("transformer.", ".default"),
        ("diffusion_model.", ""),
        ("_orig_mod.", ""),
        ("module.", ""),
        ("transformer._orig_mod.", ""),
    ],
)
def test_pefts_own_names_are_the_same_adapter(tiny_pipeline, tmp_path, prefix, infix):
    plain, other = tmp_path / "plain.safetensors", tmp_path / "other.safetensors"
    save_file(pair(f"transformer.{MODULE}"), plain)
    tensors = {
        k.replace(".weight", f"{infix}.weight"): v for k, v in pair(f"{prefix}{MODULE}").items()
    }
    save_file(tensors, other)
    base = str(tiny_pipeline)
    assert resolve(str(other), base).digest == resolve(str(plain), base).digest


def test_pefts_matrices_without_their_settings_are_refused(tiny_pipeline, tmp_path):
    """Their alpha is in adapter_config.json alone."""
    save_file(pair(f"base_model.model.{MODULE}"), tmp_path / "adapter_model.safetensors")
    refused("adapter_config.json states the alpha", tmp_path, tiny_pipeline)


@pytest.mark.parametrize("style", ["kohya", "comfyui", "onetrainer"])
def test_sd3_adapters_of_other_trainers_are_their_product(tiny_pipeline, tmp_path, style):
    """Added to the weights in the original names, and converted, they are the same weights."""
    generator = torch.Generator().manual_seed(0)
    own = load_file(tiny_pipeline / "transformer" / WEIGHTS)
    weights = own if style == "onetrainer" else original(own)
    start = {
        "kohya": "lora_unet_",
        "comfyui": "diffusion_model.",
        "onetrainer": "lora_transformer_",
    }
    down, up = ("lora_A", "lora_B") if style == "comfyui" else ("lora_down", "lora_up")
    adapter, merged = {}, dict(weights)
    for name, weight in weights.items():
        if weight.ndim != 2 or not name.endswith(".weight"):
            continue
        module = name.removesuffix(".weight")
        key = start[style] + (module if style == "comfyui" else module.replace(".", "_"))
        a = torch.randn(RANK, weight.shape[1], generator=generator)
        b = torch.randn(weight.shape[0], RANK, generator=generator)
        adapter |= {f"{key}.{down}.weight": a, f"{key}.{up}.weight": b}
        adapter[f"{key}.alpha"] = torch.tensor(ALPHA)
        merged[name] = weight + ALPHA / RANK * (b @ a)
    assert len(adapter) > 30
    file, whole = tmp_path / "style.safetensors", tmp_path / "whole.safetensors"
    save_file(adapter, file)
    save_file({k: v.contiguous() for k, v in merged.items()}, whole)
    pipeline = Pipeline(tiny_pipeline)
    expected = merged if style == "onetrainer" else converted(pipeline, whole)
    brought = check_adapter(pipeline, file)
    changed = {name for name in own if not torch.equal(own[name], expected[name])}
    assert changed == {f"{name.removeprefix('transformer.')}.weight" for name in brought.scales}
    for name, scale in brought.scales.items():
        key = name.removeprefix("transformer.") + ".weight"
        product = (
            brought.tensors[f"{name}.lora_B.weight"] @ brought.tensors[f"{name}.lora_A.weight"]
        )
        torch.testing.assert_close(own[key] + scale * product, expected[key])


def test_an_sd3_adapter_changes_text_encoders_too(tiny_pipeline, tmp_path):
    layers = {
        "lora_te1_text_model_encoder_layers_0_self_attn_q_proj": ("text_encoder", "q_proj"),
        "lora_te2_text_model_encoder_layers_0_mlp_fc1": ("text_encoder_2", "fc1"),
        f"lora_unet_{MODULE.replace('.', '_')}": ("transformer", MODULE),
    }
    adapter = {}
    for name, (component, ending) in layers.items():
        file = next((tiny_pipeline / component).glob("*.safetensors"))
        weight = next(v for k, v in load_file(file).items() if k.endswith(f"{ending}.weight"))
        adapter[f"{name}.lora_down.weight"] = torch.ones(RANK, weight.shape[1])
        adapter[f"{name}.lora_up.weight"] = torch.ones(weight.shape[0], RANK)
        adapter[f"{name}.alpha"] = torch.tensor(ALPHA)
    file = tmp_path / "style.safetensors"
    save_file(adapter, file)
    brought = check_adapter(Pipeline(tiny_pipeline), file)
    assert {name.split(".")[0] for name in brought.scales} == {c for c, _ in layers.values()}
    assert set(brought.scales.values()) == {ALPHA / RANK}


@pytest.mark.parametrize(
    ("a", "b", "sentence"),
    [
        (
            torch.randn(4, 32),
            torch.randn(32, 8),
            "matrices of 4x32 and 32x8, which have no",
        ),
        (torch.ones(4), torch.ones(4), "matrices of 4 and 4, which have no product"),
    ],
)
def test_matrices_without_a_product_are_refused(tiny_pipeline, tmp_path, a, b, sentence):
    name = f"transformer.{MODULE}"
    file = tmp_path / "style.safetensors"
    save_file({f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}, file)
    refused(sentence, file, tiny_pipeline)


@pytest.mark.parametrize("alpha", [float("nan"), float("inf")])
def test_an_alpha_that_is_no_finite_number_is_refused(tmp_path, alpha):
    module = "transformer.transformer_blocks.0.attn.to_q"
    matrices = {
        f"{module}.lora_A.weight": torch.ones(4, 128),
        f"{module}.lora_B.weight": torch.ones(128, 4),
    }
    stated = {
        "transformer.r": 4,
        "transformer.lora_alpha": alpha,
        "transformer.target_modules": ["transformer_blocks.0.attn.to_q"],
    }
    file = tmp_path / "pytorch_lora_weights.safetensors"
    save_file(matrices, file, {"lora_adapter_metadata": json.dumps(stated)})
    with pytest.raises(SoarBenchError, match=r"alpha of transformer\..* is no finite number"):
        check_adapter(Pipeline(pipeline_folder("shapes")), file)


@pytest.mark.parametrize("trainer", ["lora_unet", "lycoris"])
def test_a_loha_is_named(tmp_path, trainer):
    name = f"{trainer}_joint_blocks_0_x_block_attn_qkv.hada_w1_a"
    save_file({name: torch.ones(4, 4)}, tmp_path / "loha.safetensors")
    with pytest.raises(SoarBenchError, match="DoRA, LoKr or LoHa"):
        resolve(str(tmp_path / "loha.safetensors"), "shapes")

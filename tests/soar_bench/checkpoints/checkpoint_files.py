"""Weights and adapters made by hand, and refusals of them."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from soar_bench.checkpoints import resolve
from soar_bench.core.errors import SoarBenchError

WEIGHTS = "diffusion_pytorch_model.safetensors"
PEFT_WEIGHTS = "adapter_model.safetensors"
MODULE = "transformer_blocks.0.attn.to_q"


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


def header(file: Path, content: object) -> Path:
    """A safetensors file with this header and eight bytes of values."""
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    return file


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

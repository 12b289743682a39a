"""Tiny CLIPs, as the hub and as open_clip lay them out, and the aesthetic head."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evaluators.aesthetic import HEAD_FILE, head
from evaluators.golden.fill import fill
from evaluators.openclip import Architecture
from soar_bench.core.torchvision import mend_torchvision

if TYPE_CHECKING:
    import torch

EMBEDDING = 32
_MERGES = ("t h", "th e</w>", "a t", "r e", "re d</w>", "o n</w>")
_BYTES = 256


def _alphabet() -> list[str]:
    """Return byte-pair encoding's printable characters for the 256 bytes (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(_BYTES) if b not in printable]
    characters = {b: chr(b) for b in printable}
    characters |= {b: chr(_BYTES + index) for index, b in enumerate(hidden)}
    return [characters[b] for b in (*printable, *hidden)]


def vocabulary() -> dict[str, int]:
    """Return all bytes, all bytes at a word's end, a few merges and CLIP's two special tokens."""
    letters = _alphabet()
    merged = ["".join(pair.split()) for pair in _MERGES]
    words = [*letters, *(f"{letter}</w>" for letter in letters), *merged]
    return {w: i for i, w in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}


_VISION = {"image_size": 32, "patch_size": 8, "vision_width": 64, "vision_layers": 2}
_TEXT = {"text_width": 32, "text_layers": 2, "text_heads": 2, "vocabulary": len(vocabulary())}
ARCHITECTURE = Architecture(embedding=EMBEDDING, **_VISION, vision_heads=4, **_TEXT)


def write_tokenizer(folder: Path) -> None:
    """Write ``vocab.json`` and ``merges.txt``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary()), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(_MERGES) + "\n", "utf-8")


def write_clip(
    folder: Path, activation: str = "quick_gelu", architecture: Architecture = ARCHITECTURE
) -> None:
    """Write a CLIP in the hub's layout, with its tokenizer; OpenAI's alone have ``quick_gelu``."""
    import torch
    from safetensors.torch import save_file

    mend_torchvision()
    from transformers import CLIPModel

    write_tokenizer(folder)
    config = architecture.config()
    config.text_config.hidden_act = config.vision_config.hidden_act = activation
    config.save_pretrained(folder)
    with torch.device("meta"):
        shapes = {name: tuple(t.shape) for name, t in CLIPModel(config).state_dict().items()}
    state = {name: torch.from_numpy(_value(name, shape)) for name, shape in shapes.items()}
    save_file(state, folder / "model.safetensors")


def open_clip_state(architecture: Architecture) -> dict[str, torch.Tensor]:
    """Return filled tensors by open_clip's names."""
    import torch

    a = architecture
    patches = (a.image_size // a.patch_size) ** 2
    shapes: dict[str, tuple[int, ...]] = {
        "logit_scale": (),
        "positional_embedding": (a.text_length, a.text_width),
        "text_projection": (a.text_width, a.embedding),
        "token_embedding.weight": (a.vocabulary, a.text_width),
        "visual.class_embedding": (a.vision_width,),
        "visual.positional_embedding": (patches + 1, a.vision_width),
        "visual.proj": (a.vision_width, a.embedding),
        "visual.conv1.weight": (a.vision_width, 3, a.patch_size, a.patch_size),
    }

    def layer(name: str, *shape: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]

    layer("visual.ln_pre", a.vision_width)
    layer("visual.ln_post", a.vision_width)
    layer("ln_final", a.text_width)
    towers = (("", a.text_layers, a.text_width), ("visual.", a.vision_layers, a.vision_width))
    for tower, layers, width in towers:
        for index in range(layers):
            block = f"{tower}transformer.resblocks.{index}"
            layer(f"{block}.ln_1", width)
            layer(f"{block}.ln_2", width)
            layer(f"{block}.attn.out_proj", width, width)
            layer(f"{block}.mlp.c_fc", 4 * width, width)
            layer(f"{block}.mlp.c_proj", width, 4 * width)
            shapes[f"{block}.attn.in_proj_weight"] = (3 * width, width)
            shapes[f"{block}.attn.in_proj_bias"] = (3 * width,)
    return {name: torch.from_numpy(_value(name, shape)) for name, shape in shapes.items()}


def write_open_clip(folder: Path) -> None:
    """Write weights and configuration as open_clip's repositories hold them. They have the
    vocabulary of its own tokenizer, which comes with the package.
    """
    from safetensors.torch import save_file

    shape = replace(ARCHITECTURE, vocabulary=49408)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(open_clip_state(shape), folder / "open_clip_model.safetensors")
    vision = {
        "image_size": shape.image_size, "layers": shape.vision_layers, "width": shape.vision_width,
        "head_width": shape.vision_width // shape.vision_heads, "patch_size": shape.patch_size,
    }  # fmt: skip
    text = {
        "context_length": shape.text_length, "vocab_size": shape.vocabulary,
        "width": shape.text_width, "heads": shape.text_heads, "layers": shape.text_layers,
    }  # fmt: skip
    model = {"embed_dim": shape.embedding, "vision_cfg": vision, "text_cfg": text}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}), "utf-8")


def write_hps(folder: Path, architecture: Architecture = ARCHITECTURE) -> None:
    """Write ``HPS_v2.1_compressed.pt``."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    state = {"state_dict": open_clip_state(architecture)}
    torch.save(state, folder / "HPS_v2.1_compressed.pt")


def write_aesthetic_head(folder: Path, embedding: int = EMBEDDING) -> None:
    """Write the published layers of the head, for embeddings of any width."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    shapes = {name: tuple(tensor.shape) for name, tensor in head(embedding).state_dict().items()}
    state = {name: torch.from_numpy(fill(name, shape)) for name, shape in shapes.items()}
    torch.save(state, folder / HEAD_FILE)


def _value(name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name == "logit_scale":
        return np.array(math.log(100), np.float32)  # what CLIP's training is clipped to
    return fill(name, shape)

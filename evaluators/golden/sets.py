"""Tiny DINOv2 and LPIPS in their published layouts; LPIPS at its own size, which is small."""

from __future__ import annotations

from pathlib import Path

from evaluators.golden.fill import fill
from evaluators.sets.lpips import HEADS_FILE, TRUNK_FILE, head_shapes, trunk_shapes
from soar_bench.core.torchvision import mend_torchvision


def write_dinov2(folder: Path) -> None:
    """Write ``config.json`` and ``model.safetensors``."""
    import torch
    from safetensors.torch import save_file

    mend_torchvision()
    from transformers import Dinov2Config, Dinov2Model

    folder.mkdir(parents=True, exist_ok=True)
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    config.save_pretrained(folder)
    with torch.device("meta"):
        shapes = {name: tuple(t.shape) for name, t in Dinov2Model(config).state_dict().items()}
    state = {name: torch.from_numpy(fill(name, shape)) for name, shape in shapes.items()}
    save_file(state, folder / "model.safetensors")


def write_lpips(folder: Path) -> None:
    """Write AlexNet's convolutions and the linear heads, which are never negative."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    trunk = {name: torch.from_numpy(fill(name, s)) for name, s in trunk_shapes().items()}
    heads = {name: torch.from_numpy(fill(name, s)).abs() for name, s in head_shapes().items()}
    torch.save(trunk, folder / TRUNK_FILE)
    torch.save(heads, folder / HEADS_FILE)

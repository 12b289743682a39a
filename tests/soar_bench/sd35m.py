"""A pipeline of Stable Diffusion 3.5 Medium's exact shape on disk, whose weights take no room.

Files are sparse: a safetensors header with every tensor's name, shape and place, and a length.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

TRANSFORMER: dict[str, Any] = {
    "_class_name": "SD3Transformer2DModel",
    "attention_head_dim": 64,
    "caption_projection_dim": 1536,
    "dual_attention_layers": list(range(13)),
    "in_channels": 16,
    "joint_attention_dim": 4096,
    "num_attention_heads": 24,
    "num_layers": 24,
    "out_channels": 16,
    "patch_size": 2,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 384,
    "qk_norm": "rms_norm",
    "sample_size": 128,
}
VAE: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "latent_channels": 16,
    "layers_per_block": 2,
    "scaling_factor": 1.5305,
    "shift_factor": 0.0609,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "use_post_quant_conv": False,
    "use_quant_conv": False,
}


def make(folder: Path, tokenizers: Path, weights: bool = True) -> Path:
    """Make the pipeline with the tokenizers of another one; its text encoders have no weights."""
    from soar_bench.pipelines import Pipeline
    from soar_bench.pipelines.models import empty_model

    folder.mkdir()
    for name in ("tokenizer", "tokenizer_2", "tokenizer_3", "scheduler"):
        shutil.copytree(tokenizers / name, folder / name)
    for name in ("tokenizer", "tokenizer_2"):
        file = folder / name / "tokenizer_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"model_max_length": 77}))
    index = json.loads((tokenizers / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index))
    for part, settings in (("transformer", TRANSFORMER), ("vae", VAE)):
        (folder / part).mkdir()
        (folder / part / "config.json").write_text(json.dumps(settings))
        if weights:
            model = empty_model(Pipeline(folder), part)
            sparse(folder / part / "diffusion_pytorch_model.safetensors", model.state_dict())
    return folder


def sparse(file: Path, tensors: dict[str, Any]) -> None:
    """Write a safetensors file of bfloat16 zeros that takes no room on the disk."""
    entries, end = {}, 0
    for name, tensor in tensors.items():
        size = 2 * tensor.numel()
        shape = list(tensor.shape)
        entries[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    header = json.dumps(entries).encode()
    with file.open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        stream.truncate(8 + len(header) + end)

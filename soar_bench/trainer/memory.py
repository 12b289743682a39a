"""Memory of a training step, measured by running a pass without computing anything."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soar_bench.pipelines import Pipeline
from soar_bench.pipelines.models import empty_model, model_class
from training.types import Config


@dataclass(frozen=True)
class Memory:
    """Sizes of a transformer in training."""

    #: of the transformer, its adapter apart
    parameters: int
    #: those that are trained
    trained: int
    #: bytes that the largest pass keeps for its backward pass, where everything is trained
    activations: int


def measure(pipeline: Pipeline, config: Config) -> Memory:
    """Run the largest pass of a step on tensors without memory, with attention as on GPUs.

    TrainingError if the adapter's targets do not exist.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from training.adapters import add_adapter

    settings, vae = pipeline.config("transformer"), pipeline.config("vae")
    outline = empty_model(pipeline, "transformer")
    parameters = trained = sum(p.numel() for p in outline.parameters())
    if config.lora.rank:
        add_adapter(outline, config.lora, 0)
        trained = sum(p.numel() for p in outline.parameters() if p.requires_grad)
    side = config.resolution // 2 ** (len(vae["block_out_channels"]) - 1)
    count, captions = _largest_pass(config), _tokens(pipeline.folder, config)
    with FakeTensorMode():
        transformer = model_class(pipeline, "transformer").from_config(settings)
        transformer.train()
        blocks = len(transformer.transformer_blocks)
        shapes = {
            "hidden_states": (settings["in_channels"], side, side),
            "timestep": (),
            "encoder_hidden_states": (captions, settings["joint_attention_dim"]),
            "pooled_projections": (settings["pooled_projection_dim"],),
        }
        inputs = {name: torch.empty(count, *shape) for name, shape in shapes.items()}
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
            kept = _kept(transformer, inputs)
            if config.gradient_checkpointing:
                transformer.enable_gradient_checkpointing()
                outside = _kept(transformer, inputs)
                tokens = captions + (side // 2) ** 2
                size = 2 if config.precision == "bf16" else 4
                entering = count * tokens * transformer.inner_dim * size
                # What goes into each block, and one block at a time made again.
                kept = outside + blocks * entering + (kept - outside) // blocks
    return Memory(parameters, trained, kept)


def _largest_pass(config: Config) -> int:
    """Samples or auxiliary points that go through the model at once."""
    soar, size = config.soar, config.batch_size
    if config.method == "defar" and config.defar.form == "defar":
        return 2 * size  # both passes of a sample are in one graph
    if config.method != "soar" or not soar.weight:
        return size
    points = soar.paths * soar.points * size
    return max(size, min(points, soar.aux_chunk or points))


def _tokens(folder: Path, config: Config) -> int:
    """Tokens of a caption: CLIP's and T5's, joined."""
    file = folder / "tokenizer" / "tokenizer_config.json"
    clip = json.loads(file.read_text("utf-8")).get("model_max_length", 77) if file.exists() else 77
    return int(clip) + config.max_sequence_length


def _kept(transformer: Any, inputs: dict[str, Any]) -> int:
    """Bytes that a pass keeps beside the parameters."""
    import torch

    storages: dict[int, Any] = {}

    def pack(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if not isinstance(tensor, torch.nn.Parameter):
            storages[storage._cdata] = storage
        return tensor

    own = {p.untyped_storage()._cdata for p in transformer.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        transformer(**inputs, return_dict=False)
    return sum(s.nbytes() for key, s in storages.items() if key not in own)

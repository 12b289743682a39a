"""The published file: names and shapes of its tensors, and their names in transformers.

Source: the package image-reward 1.5 (zai-org/ImageReward), whose model this is the state dict of.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

_VISION = "blip.visual_encoder."
_TEXT = "blip.text_encoder."
#: Width of a block's hidden layer over the block's width, in both transformers.
MLP_RATIO = 4
#: Places of the head's linear layers in the published sequence; the others were dropout.
HEAD_INDEX = (0, 2, 4, 6, 7)
#: Positions counted from 0, which old versions of transformers stored.
POSITION_IDS = _TEXT + "embeddings.position_ids"
#: BLIP's contrastive projections, which no score uses.
PROJECTIONS = ("blip.vision_proj", "blip.text_proj")
#: Tensors of the published file that the model does not have.
UNUSED = (POSITION_IDS, *(f"{name}.{kind}" for name in PROJECTIONS for kind in ("weight", "bias")))

#: The vision tower's names in the file, and in transformers' BlipVisionModel.
_RENAMED = (
    (r"^cls_token$", "embeddings.class_embedding"),
    (r"^pos_embed$", "embeddings.position_embedding"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"^norm\.", "post_layernorm."),
    (r"^blocks\.", "encoder.layers."),
    (r"\.norm([12])\.", r".layer_norm\1."),
    (r"\.attn\.qkv\.", ".self_attn.qkv."),
    (r"\.attn\.proj\.", ".self_attn.projection."),
)

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Architecture:
    """Sizes of the model; the defaults are ImageReward-v1.0's."""

    #: side of the square image, and of its patches, in pixels
    image_size: int = 224
    patch_size: int = 16
    vision_width: int = 1024
    vision_layers: int = 24
    vision_heads: int = 16
    text_width: int = 768
    text_layers: int = 12
    text_heads: int = 12
    #: rows of the position table; prompts are cut long before
    text_positions: int = 512
    #: BERT's 30522 tokens, [DEC] and [ENC]
    vocabulary: int = 30524
    #: outputs of the head's five linear layers
    head: tuple[int, int, int, int, int] = (1024, 128, 64, 16, 1)
    #: width of the unused contrastive projections
    projection: int = 256


OFFICIAL = Architecture()


def shapes(architecture: Architecture = OFFICIAL) -> dict[str, Shape]:
    """Return the shape of every tensor that decides a score, by its name in the published file."""
    a = architecture
    patches = (a.image_size // a.patch_size) ** 2
    return {
        f"{_VISION}cls_token": (1, 1, a.vision_width),
        f"{_VISION}pos_embed": (1, patches + 1, a.vision_width),
        f"{_VISION}patch_embed.proj.weight": (a.vision_width, 3, a.patch_size, a.patch_size),
        f"{_VISION}patch_embed.proj.bias": (a.vision_width,),
        **dict(_vision_blocks(a)),
        **dict(_norm(f"{_VISION}norm", a.vision_width)),
        f"{_TEXT}embeddings.word_embeddings.weight": (a.vocabulary, a.text_width),
        f"{_TEXT}embeddings.position_embeddings.weight": (a.text_positions, a.text_width),
        **dict(_norm(f"{_TEXT}embeddings.LayerNorm", a.text_width)),
        **dict(_text_layers(a)),
        **dict(_head(a)),
    }


def _linear(name: str, outputs: int, inputs: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _norm(name: str, width: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _vision_blocks(a: Architecture) -> Iterator[tuple[str, Shape]]:
    width, hidden = a.vision_width, MLP_RATIO * a.vision_width
    for index in range(a.vision_layers):
        block = f"{_VISION}blocks.{index}"
        yield from _norm(f"{block}.norm1", width)
        yield from _linear(f"{block}.attn.qkv", 3 * width, width)
        yield from _linear(f"{block}.attn.proj", width, width)
        yield from _norm(f"{block}.norm2", width)
        yield from _linear(f"{block}.mlp.fc1", hidden, width)
        yield from _linear(f"{block}.mlp.fc2", width, hidden)


def _text_layers(a: Architecture) -> Iterator[tuple[str, Shape]]:
    width, hidden = a.text_width, MLP_RATIO * a.text_width
    for index in range(a.text_layers):
        layer = f"{_TEXT}encoder.layer.{index}"
        for attention, source in (("attention", width), ("crossattention", a.vision_width)):
            yield from _linear(f"{layer}.{attention}.self.query", width, width)
            yield from _linear(f"{layer}.{attention}.self.key", width, source)
            yield from _linear(f"{layer}.{attention}.self.value", width, source)
            yield from _linear(f"{layer}.{attention}.output.dense", width, width)
            yield from _norm(f"{layer}.{attention}.output.LayerNorm", width)
        yield from _linear(f"{layer}.intermediate.dense", hidden, width)
        yield from _linear(f"{layer}.output.dense", width, hidden)
        yield from _norm(f"{layer}.output.LayerNorm", width)


def _head(a: Architecture) -> Iterator[tuple[str, Shape]]:
    widths = (a.text_width, *a.head)
    for index, (inputs, outputs) in zip(HEAD_INDEX, pairwise(widths), strict=True):
        yield from _linear(f"mlp.layers.{index}", outputs, inputs)


def transformers_name(name: str) -> str:
    """Return a tensor's name where the vision tower is a BlipVisionModel.

    The names of the text encoder and the head stay.
    """
    if not name.startswith(_VISION):
        return name
    inner = name.removeprefix(_VISION)
    for pattern, replacement in _RENAMED:
        inner = re.sub(pattern, replacement, inner)
    return _VISION + inner


def state_dict(
    architecture: Architecture, fill: Callable[[str, Shape], np.ndarray]
) -> dict[str, torch.Tensor]:
    """Return the tensors of the published file, unused ones too, for a model of these sizes.

    ``fill(name, shape)`` returns the float32 values of each tensor; positions are counted. Saved by
    ``torch.save`` as ``ImageReward.pt``, they are a file in the published layout.
    """
    import torch

    a = architecture
    vision, text = PROJECTIONS
    all_shapes = {
        **shapes(a),
        **dict(_linear(vision, a.projection, a.vision_width)),
        **dict(_linear(text, a.projection, a.text_width)),
    }
    state = {
        name: torch.from_numpy(np.array(fill(name, s), "float32")) for name, s in all_shapes.items()
    }
    wrong = [name for name, tensor in state.items() if tuple(tensor.shape) != all_shapes[name]]
    if wrong:
        raise ValueError(f"fill gave another shape for {', '.join(wrong[:3])}")
    return {**state, POSITION_IDS: torch.arange(a.text_positions)[None]}

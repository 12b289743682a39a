"""The published file: sizes of its model, and names of its tensors. Imports no torch.

Source: the package image-reward 1.5 (zai-org/ImageReward), whose model this is the state dict of.
"""

from __future__ import annotations

from dataclasses import dataclass

VISION = "blip.visual_encoder."
#: Width of a block's hidden layer over the block's width, in both transformers.
MLP_RATIO = 4
#: Places of the head's linear layers in the published sequence; the others were dropout.
HEAD_INDEX = (0, 2, 4, 6, 7)
#: Positions counted from 0, which old versions of transformers stored.
POSITION_IDS = "blip.text_encoder.embeddings.position_ids"
#: BLIP's contrastive projections, which no score uses.
PROJECTIONS = ("blip.vision_proj", "blip.text_proj")
#: Tensors of the published file that the model does not have.
UNUSED = (POSITION_IDS, *(f"{name}.{kind}" for name in PROJECTIONS for kind in ("weight", "bias")))

#: The vision tower's names in transformers' BlipVisionModel, and in the file.
_RENAMED = (
    ("embeddings.class_embedding", "cls_token"),
    ("embeddings.position_embedding", "pos_embed"),
    ("embeddings.patch_embedding.", "patch_embed.proj."),
    ("post_layernorm.", "norm."),
    ("encoder.layers.", "blocks."),
    (".layer_norm", ".norm"),
    (".self_attn.qkv.", ".attn.qkv."),
    (".self_attn.projection.", ".attn.proj."),
)


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


def published_name(name: str) -> str:
    """Return the file's name of a tensor, by the one it has in transformers' modules.

    Those of the text encoder and the head are the same.
    """
    if not name.startswith(VISION):
        return name
    name = name.removeprefix(VISION)
    for old, new in _RENAMED:
        name = name.replace(old, new)
    return VISION + name

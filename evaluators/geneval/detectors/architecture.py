"""Mask2Former with a Swin backbone: its sizes, and the keys of mmdet's checkpoints of it.

Source: open-mmlab/mmdetection, ``configs/mask2former``; arXiv 2112.01527 and 2103.14030.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Levels of the backbone's features that the deformable attention looks at, and points on each.
LEVELS, POINTS = 3, 4
PATCH = 4

_ENCODER = "panoptic_head.pixel_decoder.encoder.layers"
_DECODER = "panoptic_head.transformer_decoder.layers"


@dataclass(frozen=True)
class Architecture:
    """Sizes; the defaults are those of the official Swin-S."""

    #: channels of the backbone's first stage; they double with each stage
    embed_dim: int = 96
    #: blocks of each of the four stages
    depths: tuple[int, ...] = (2, 2, 18, 2)
    #: attention heads of each stage
    heads: tuple[int, ...] = (3, 6, 12, 24)
    #: side of the attention's window, in patches
    window: int = 7
    #: channels of both decoders; a multiple of 32, for the group norm
    channels: int = 256
    #: attention heads of both decoders
    decoder_heads: int = 8
    #: layers of the pixel decoder, and the width of their feed-forward part
    pixel_layers: int = 6
    pixel_width: int = 1024
    #: layers of the transformer decoder, and the width of their feed-forward part
    layers: int = 9
    width: int = 2048
    #: objects looked for
    queries: int = 100
    #: classes, without "no object"
    classes: int = 80

    def stage_channels(self) -> tuple[int, ...]:
        """Channels of the backbone's features, finest first."""
        return tuple(self.embed_dim * 2**stage for stage in range(len(self.depths)))


def official_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor in a checkpoint, by its mmdet 3 key."""
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(name: str, *shape: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = shape
        if bias:
            shapes[f"{name}.bias"] = shape[:1]

    def feed_forward(name: str, channels: int, width: int) -> None:
        layer(f"{name}.layers.0.0", width, channels)
        layer(f"{name}.layers.1", channels, width)

    a, c = architecture, architecture.channels
    stages = a.stage_channels()

    layer("backbone.patch_embed.projection", a.embed_dim, 3, PATCH, PATCH)
    layer("backbone.patch_embed.norm", a.embed_dim)
    for stage, (depth, heads, size) in enumerate(zip(a.depths, a.heads, stages, strict=True)):
        for block in range(depth):
            name = f"backbone.stages.{stage}.blocks.{block}"
            layer(f"{name}.norm1", size)
            layer(f"{name}.norm2", size)
            bias = f"{name}.attn.w_msa.relative_position"
            shapes[f"{bias}_bias_table"] = ((2 * a.window - 1) ** 2, heads)
            shapes[f"{bias}_index"] = (a.window**2, a.window**2)
            layer(f"{name}.attn.w_msa.qkv", 3 * size, size)
            layer(f"{name}.attn.w_msa.proj", size, size)
            feed_forward(f"{name}.ffn", size, 4 * size)
        if stage < len(stages) - 1:
            layer(f"backbone.stages.{stage}.downsample.norm", 4 * size)
            layer(f"backbone.stages.{stage}.downsample.reduction", 2 * size, 4 * size, bias=False)
        layer(f"backbone.norm{stage}", size)

    head = "panoptic_head"
    for level, size in enumerate(stages[:0:-1]):
        layer(f"{head}.pixel_decoder.input_convs.{level}.conv", c, size, 1, 1)
        layer(f"{head}.pixel_decoder.input_convs.{level}.gn", c)
    for index in range(a.pixel_layers):
        name = f"{_ENCODER}.{index}"
        samples = a.decoder_heads * LEVELS * POINTS
        layer(f"{name}.self_attn.sampling_offsets", 2 * samples, c)
        layer(f"{name}.self_attn.attention_weights", samples, c)
        for part in ("self_attn.value_proj", "self_attn.output_proj"):
            layer(f"{name}.{part}", c, c)
        feed_forward(f"{name}.ffn", c, a.pixel_width)
        for norm in range(2):
            layer(f"{name}.norms.{norm}", c)
    shapes[f"{head}.pixel_decoder.level_encoding.weight"] = (LEVELS, c)
    layer(f"{head}.pixel_decoder.lateral_convs.0.conv", c, stages[0], 1, 1, bias=False)
    layer(f"{head}.pixel_decoder.lateral_convs.0.gn", c)
    layer(f"{head}.pixel_decoder.output_convs.0.conv", c, c, 3, 3, bias=False)
    layer(f"{head}.pixel_decoder.output_convs.0.gn", c)
    layer(f"{head}.pixel_decoder.mask_feature", c, c, 1, 1)

    for index in range(a.layers):
        name = f"{_DECODER}.{index}"
        for part in ("cross_attn.attn", "self_attn.attn"):
            shapes[f"{name}.{part}.in_proj_weight"] = (3 * c, c)
            shapes[f"{name}.{part}.in_proj_bias"] = (3 * c,)
            layer(f"{name}.{part}.out_proj", c, c)
        feed_forward(f"{name}.ffn", c, a.width)
        for norm in range(3):
            layer(f"{name}.norms.{norm}", c)
    layer(f"{head}.transformer_decoder.post_norm", c)
    shapes[f"{head}.query_embed.weight"] = (a.queries, c)
    shapes[f"{head}.query_feat.weight"] = (a.queries, c)
    shapes[f"{head}.level_embed.weight"] = (LEVELS, c)
    layer(f"{head}.cls_embed", a.classes + 1, c)
    for index in (0, 2, 4):
        layer(f"{head}.mask_embed.{index}", c, c)
    return shapes


def is_computed(key: str) -> bool:
    """Return whether a checkpoint's tensor follows from the sizes alone."""
    return key.endswith(".relative_position_index")


def position_index(window: int) -> np.ndarray:
    """Return the entry of the bias table for each two patches: int64 [window^2, window^2]."""
    rows, columns = np.divmod(np.arange(window**2), window)
    dy, dx = (axis[:, None] - axis[None, :] + window - 1 for axis in (rows, columns))
    return dy * (2 * window - 1) + dx

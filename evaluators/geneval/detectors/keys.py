"""Convert mmdet's keys to transformers': the same Mask2Former under other names.

Query, key and value are one matrix in mmdet and three in transformers. Where Swin merges 2x2
patches, mmdet orders their values channel by channel, transformers patch by patch.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evaluators.geneval.detectors.architecture import Architecture, is_computed, official_shapes
from evaluators.loading import check_keys
from evaluators.types import EvaluatorError

if TYPE_CHECKING:
    import torch

_Renames = Sequence[tuple[str, str]]

_ENCODER = r"(pixel_decoder\.encoder\.layers\.\d+)"
_DECODER = r"(transformer_decoder\.layers\.\d+)"
#: mmdet 2, mmdet 3. mmdet 2 numbers attentions: in the decoder 0 looks at the picture (cross), 1 at
#: the other objects (self); in the pixel decoder there is self attention alone.
_STYLES = (
    (_ENCODER, "attentions.0", "self_attn"),
    (_DECODER, "attentions.0", "cross_attn"),
    (_DECODER, "attentions.1", "self_attn"),
    (_ENCODER, "ffns.0", "ffn"),
    (_DECODER, "ffns.0", "ffn"),
)

# Replacements in the keys of one part of the model, applied in order.
_FEED_FORWARD: _Renames = ((".ffn.layers.0.0.", ".fc1."), (".ffn.layers.1.", ".fc2."))
_SWIN = "model.pixel_level_module.encoder"
_BACKBONE: _Renames = (
    ("backbone.patch_embed.projection", f"{_SWIN}.swin.embeddings.patch_embeddings.projection"),
    ("backbone.patch_embed.norm", f"{_SWIN}.swin.embeddings.norm"),
    *((f"backbone.norm{i}", f"{_SWIN}.hidden_states_norms.stage{i + 1}") for i in range(4)),
    ("backbone.stages", f"{_SWIN}.swin.encoder.layers"),
    (".norm1.", ".layernorm_before."),
    (".norm2.", ".layernorm_after."),
    (".attn.w_msa.relative", ".attention.relative_position_bias.relative"),
    (".attn.w_msa.proj.", ".attention.o_proj."),
    (".attn.w_msa.", ".attention."),
    (".ffn.", ".mlp.ffn."),
    *_FEED_FORWARD,
)
_PIXEL_DECODER: _Renames = (
    ("panoptic_head.pixel_decoder", "model.pixel_level_module.decoder"),
    (".level_encoding.weight", ".level_embed"),
    (".mask_feature.", ".mask_projection."),
    (".input_convs.", ".input_projections."),
    (".lateral_convs.0.", ".adapter_1."),
    (".output_convs.0.", ".layer_1."),
    (".conv.", ".0."),
    (".gn.", ".1."),
    (".norms.0.", ".self_attn_layer_norm."),
    (".norms.1.", ".final_layer_norm."),
    *_FEED_FORWARD,
)
_HEAD: _Renames = (
    ("panoptic_head.cls_embed", "class_predictor"),
    ("panoptic_head.transformer_decoder", "panoptic_head.decoder"),
    ("panoptic_head", "model.transformer_module"),
    (".query_embed.", ".queries_embedder."),
    (".query_feat.", ".queries_features."),
    *((f".mask_embed.{2 * i}.", f".decoder.mask_predictor.mask_embedder.{i}.0.") for i in range(3)),
    (".post_norm.", ".layernorm."),
    ("_attn.attn.", "_attn."),
    (".norms.0.", ".cross_attn_layer_norm."),
    (".norms.1.", ".self_attn_layer_norm."),
    (".norms.2.", ".final_layer_norm."),
    *_FEED_FORWARD,
)
#: Names of the same tensors in transformers before its rewrite of Swin.
_OLD_SWIN: _Renames = (
    (f"{_SWIN}.swin.", f"{_SWIN}."),
    (".attention.q_proj.", ".attention.self.query."),
    (".attention.k_proj.", ".attention.self.key."),
    (".attention.v_proj.", ".attention.self.value."),
    (".attention.relative_position_bias.", ".attention.self."),
    (".attention.o_proj.", ".attention.output.dense."),
    (".mlp.fc1.", ".intermediate.dense."),
    (".mlp.fc2.", ".output.dense."),
)


def mmdet3_key(key: str) -> str:
    """Return a key of either style in mmdet 3's."""
    for where, old, new in _STYLES:
        key = re.sub(rf"{where}\.{re.escape(old)}\.", rf"\1.{new}.", key)
    return key


def mmdet2_key(key: str) -> str:
    """Return a key of mmdet 3 in mmdet 2's style."""
    for where, old, new in _STYLES:
        key = re.sub(rf"{where}\.{new}\.", rf"\1.{old}.", key)
    return key


def to_mmdet3(
    state: Mapping[str, torch.Tensor], architecture: Architecture, file: Path
) -> dict[str, torch.Tensor]:
    """Return the weights of a checkpoint of either style by mmdet 3's keys, less computed tensors.

    EvaluatorError if a key or a shape is not the architecture's.
    """
    what = "GenEval's Mask2Former"
    renamed = {mmdet3_key(key): tensor for key, tensor in state.items()}
    shapes = official_shapes(architecture)
    expected = {key: s for key, s in shapes.items() if key in renamed or not is_computed(key)}
    check_keys(expected, renamed, (), file, what, shown=1)
    if len(renamed) != len(state):
        raise EvaluatorError(
            f"{file} holds no weights of {what}: it mixes the keys of mmdet 2 and mmdet 3"
        )
    return {key: renamed[key] for key in shapes if not is_computed(key)}


def to_transformers(
    state: Mapping[str, torch.Tensor], names: Collection[str]
) -> dict[str, torch.Tensor]:
    """Return transformers' state dict of weights by mmdet 3's keys (see :func:`to_mmdet3`).

    ``names`` are the keys of transformers' model, which differ between its versions.
    """
    converted = {}
    for key, tensor in state.items():
        renames = _HEAD
        if key.startswith("backbone."):
            renames = _BACKBONE
        elif key.startswith("panoptic_head.pixel_decoder."):
            renames = _PIXEL_DECODER
        for name, value in _split(_renamed(key, renames), tensor):
            old = _renamed(name, _OLD_SWIN)
            converted[old if name not in names and old in names else name] = value
    return converted


def _renamed(key: str, renames: _Renames) -> str:
    for old, new in renames:
        key = key.replace(old, new)
    return key


def _split(name: str, tensor: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of transformers that hold one tensor of mmdet."""
    stacked = re.fullmatch(r"(.*)\.(?:qkv\.|self_attn\.in_proj_)(weight|bias)", name)
    if stacked:
        where, kind = stacked.groups()
        where += ".self_attn" if "in_proj" in name else ""
        for part, value in zip("qkv", tensor.chunk(3), strict=True):
            yield f"{where}.{part}_proj.{kind}", value
    elif ".downsample." in name:
        yield name, _merging(tensor)
    else:
        yield name, tensor


def _merging(tensor: torch.Tensor) -> torch.Tensor:
    """Reorder 2x2 patches in the last axis: (channel, row, column) to (column, row, channel)."""
    patches = tensor.reshape(*tensor.shape[:-1], -1, 2, 2)
    return patches.transpose(-1, -3).flatten(-3).contiguous()

"""Convert open_clip's state dicts, such as HPSv2.1's, to transformers' names.

The two libraries build the same CLIP; only names differ, and open_clip keeps query, key and value
in one matrix and its projections transposed. Source: mlfoundations/open_clip, ``transformer.py``.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from soar_bench.core.torchvision import mend_torchvision

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Architecture:
    """Sizes of an open_clip ViT model; the defaults are those of ViT-H-14."""

    embedding: int = 1024
    image_size: int = 224
    patch_size: int = 14
    vision_width: int = 1280
    vision_layers: int = 32
    vision_heads: int = 16
    text_width: int = 1024
    text_layers: int = 24
    text_heads: int = 16
    text_length: int = 77
    vocabulary: int = 49408

    def config(self) -> Any:
        """Return transformers' CLIPConfig of the same model."""
        mend_torchvision()
        from transformers import CLIPConfig, CLIPTextConfig, CLIPVisionConfig

        def encoder(width: int, layers: int, heads: int) -> dict[str, Any]:
            return {
                "hidden_size": width,
                "intermediate_size": 4 * width,
                "projection_dim": self.embedding,
                "num_hidden_layers": layers,
                "num_attention_heads": heads,
                "hidden_act": "gelu",
            }

        text = CLIPTextConfig(
            **encoder(self.text_width, self.text_layers, self.text_heads),
            vocab_size=self.vocabulary,
            max_position_embeddings=self.text_length,
            bos_token_id=self.vocabulary - 2,
            eos_token_id=self.vocabulary - 1,
        ).to_dict()
        vision = CLIPVisionConfig(
            **encoder(self.vision_width, self.vision_layers, self.vision_heads),
            image_size=self.image_size,
            patch_size=self.patch_size,
        ).to_dict()
        return CLIPConfig(text_config=text, vision_config=vision, projection_dim=self.embedding)


def clean(text: str) -> str:
    """Clean a prompt as open_clip's tokenizer does and transformers' does not.

    ftfy mends broken encodings and straightens curly quotes; HTML entities are resolved twice.
    """
    import ftfy

    return html.unescape(html.unescape(ftfy.fix_text(text))).strip()


_NAMES = {
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "logit_scale": "logit_scale",
}
_NORMS = {
    "ln_final": "text_model.final_layer_norm",
    "visual.ln_pre": "vision_model.pre_layrnorm",  # transformers' own spelling
    "visual.ln_post": "vision_model.post_layernorm",
}
_PROJECTIONS = {
    "text_projection": "text_projection.weight",
    "visual.proj": "visual_projection.weight",
}
_RESBLOCK = r"(visual\.)?transformer\.resblocks\.(\d+)\."
_BLOCK = re.compile(_RESBLOCK + r"(.+)\.(weight|bias)")
_BLOCK_PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_IN_PROJECTION = re.compile(_RESBLOCK + r"attn\.in_proj_(weight|bias)")


def to_transformers(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors of an open_clip CLIP, float32, by transformers' names.

    A key that open_clip does not use keeps its name, so that strict loading names it.
    """
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        tensor = tensor.float()
        stem, _, kind = name.rpartition(".")
        if name in _NAMES:
            renamed[_NAMES[name]] = tensor
        elif stem in _NORMS:
            renamed[f"{_NORMS[stem]}.{kind}"] = tensor
        elif name in _PROJECTIONS:
            renamed[_PROJECTIONS[name]] = tensor.T.contiguous()
        elif match := _IN_PROJECTION.fullmatch(name):
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                renamed[f"{_layer(match)}.self_attn.{part}_proj.{match[3]}"] = piece.clone()
        elif (match := _BLOCK.fullmatch(name)) and match[3] in _BLOCK_PARTS:
            renamed[f"{_layer(match)}.{_BLOCK_PARTS[match[3]]}.{match[4]}"] = tensor
        else:
            renamed[name] = tensor
    return renamed


def _layer(match: re.Match[str]) -> str:
    return f"{'vision' if match[1] else 'text'}_model.encoder.layers.{match[2]}"

"""Tiny pipelines of other kinds than the embedded base's, with random weights.

Tokenizers come from an SD3-format pipeline's folder, so that prompts are real ones.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

_LENGTH = 16


def _vae(channels: int = 4) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=16,
        shift_factor=0.1,
    )


def _clip(vocabulary: int, kind: type = CLIPTextModel) -> CLIPTextModel:
    return kind(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=_LENGTH,
            projection_dim=16,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            pad_token_id=vocabulary - 1,
        )
    )


def _clip_tokenizer(sd3: Path) -> tuple[CLIPTokenizer, int]:
    tokenizer = CLIPTokenizer.from_pretrained(sd3 / "tokenizer", model_max_length=_LENGTH)
    return tokenizer, json.loads((sd3 / "text_encoder/config.json").read_text())["vocab_size"]


def _unet(cross: int, **more: object) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=cross,
        attention_head_dim=2,
        norm_num_groups=4,
        **more,
    )


def sd15(sd3: Path, folder: Path) -> Path:
    torch.manual_seed(1)
    tokenizer, size = _clip_tokenizer(sd3)
    StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=_clip(size),
        tokenizer=tokenizer,
        unet=_unet(16),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def sdxl(sd3: Path, folder: Path) -> Path:
    torch.manual_seed(2)
    tokenizer, size = _clip_tokenizer(sd3)
    StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=_clip(size),
        text_encoder_2=_clip(size, CLIPTextModelWithProjection),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=_unet(
            32,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 16,
            use_linear_projection=True,
        ),
        scheduler=EulerDiscreteScheduler(),
    ).save_pretrained(folder)
    return folder


def flux(sd3: Path, folder: Path) -> Path:
    torch.manual_seed(3)
    tokenizer, size = _clip_tokenizer(sd3)
    t5_tokenizer = T5TokenizerFast.from_pretrained(sd3 / "tokenizer_3")
    t5 = T5Config(
        vocab_size=json.loads((sd3 / "text_encoder_3/config.json").read_text())["vocab_size"],
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
    )
    FluxPipeline(
        transformer=FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            pooled_projection_dim=16,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=True,
        ),
        vae=_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        text_encoder=_clip(size),
        tokenizer=tokenizer,
        text_encoder_2=T5EncoderModel(t5),
        tokenizer_2=t5_tokenizer,
    ).save_pretrained(folder)
    return folder


BUILD = {"sd15": sd15, "sdxl": sdxl, "flux": flux}

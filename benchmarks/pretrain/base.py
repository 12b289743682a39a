"""Puts the trained parts together into a genuine SD3-format pipeline."""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)

from benchmarks.pretrain.recipe import Architecture
from benchmarks.pretrain.text import TextEncoders


def build_transformer(
    settings: Architecture, vae: AutoencoderKL, texts: TextEncoders
) -> SD3Transformer2DModel:
    """A transformer with random weights whose blocks start as the identity.

    diffusers leaves the adaptive layer norms at random values; DiT and SD3 start them at zero, and
    without that a small model learns much more slowly.
    """
    torch.manual_seed(settings.seed)
    width = settings.heads * settings.head_width
    transformer = SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=vae.config.latent_channels,
        out_channels=vae.config.latent_channels,
        num_layers=settings.layers,
        attention_head_dim=settings.head_width,
        num_attention_heads=settings.heads,
        joint_attention_dim=texts.t5.config.d_model,
        caption_projection_dim=width,
        pooled_projection_dim=texts.width * len(texts.clip),
        pos_embed_max_size=8,
        qk_norm="rms_norm",
    )
    modulations = [transformer.norm_out.linear]
    for block in transformer.transformer_blocks:
        modulations += [block.norm1.linear, block.norm1_context.linear]
    for linear in [*modulations, transformer.proj_out]:
        torch.nn.init.zeros_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    return transformer


def assemble(
    settings: Architecture, vae: AutoencoderKL, texts: TextEncoders
) -> StableDiffusion3Pipeline:
    clip_tokenizer, clip_tokenizer_2, t5_tokenizer = texts.tokenizers
    return StableDiffusion3Pipeline(
        transformer=build_transformer(settings, vae, texts),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=settings.shift),
        vae=vae,
        text_encoder=texts.clip[0],
        tokenizer=clip_tokenizer,
        text_encoder_2=texts.clip[1],
        tokenizer_2=clip_tokenizer_2,
        text_encoder_3=texts.t5,
        tokenizer_3=t5_tokenizer,
    )

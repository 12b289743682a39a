"""The frozen parts of an SD3-format diffusers pipeline: loading it, prompts and images in."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from training.types import TrainingError

PIPELINE_CLASS = "StableDiffusion3Pipeline"


def check_pipeline(folder: Path) -> None:
    """Raises TrainingError unless ``folder`` is an SD3-format pipeline; loads no weights."""
    index = folder / "model_index.json"
    if not index.is_file():
        raise TrainingError(f"{folder} is not a diffusers pipeline: it has no model_index.json")
    try:
        name = json.loads(index.read_text("utf-8")).get("_class_name")
    except (ValueError, AttributeError) as error:
        raise TrainingError(f"{index} is not a pipeline's index: {error}") from None
    if name != PIPELINE_CLASS:
        raise TrainingError(f"{folder} holds a {name}; only {PIPELINE_CLASS} can be trained so far")


def load_pipeline(
    folder: Path, dtype: torch.dtype = torch.float32, without: Collection[str] = ()
) -> Any:
    """Loads a pipeline from a folder, never from a hub, in evaluation mode.

    The components named in ``without`` are not loaded; None stands in their place.
    """
    quieten()
    from diffusers import StableDiffusion3Pipeline

    check_pipeline(folder)
    try:
        pipeline = StableDiffusion3Pipeline.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            **dict.fromkeys(without),
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise TrainingError(f"the pipeline in {folder} cannot be loaded: {reason}") from None
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False).eval()
    return pipeline


def quieten() -> None:
    """Keeps the libraries' loading bars and advice off the screen; their errors still show."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()


def check_resolution(pipeline: Any, resolution: int) -> None:
    """Raises TrainingError if the pipeline cannot see square images of this side."""
    config = pipeline.transformer.config
    step = pipeline.vae_scale_factor * config.patch_size
    largest = step * config.pos_embed_max_size
    if resolution % step or resolution > largest:
        raise TrainingError(
            f"the pipeline works at multiples of {step} up to {largest} pixels, not at {resolution}"
        )


@torch.no_grad()
def encode_prompts(
    pipeline: Any, prompts: list[str], max_sequence_length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token embeddings float32 [B, L, D] and pooled embeddings float32 [B, P] of the prompts."""
    embeds, _, pooled, _ = pipeline.encode_prompt(
        prompt=prompts,
        prompt_2=None,
        prompt_3=None,
        do_classifier_free_guidance=False,
        max_sequence_length=max_sequence_length,
    )
    return embeds.float(), pooled.float()


@torch.no_grad()
def encode_images(pipeline: Any, images: np.ndarray) -> torch.Tensor:
    """The transformer's latents, float32 [B, C, h, w], of uint8 RGB images [B, H, W, 3]."""
    vae = pipeline.vae
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(vae.device, vae.dtype) / 127.5 - 1
    latents = vae.encode(pixels).latent_dist.mode().float()
    return (latents - vae.config.shift_factor) * vae.config.scaling_factor

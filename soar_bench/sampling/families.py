"""Differences between kinds of pipelines: where noise goes in, and how text is embedded once.

A pipeline that is not listed is called with prompts as text and one random generator per sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: By name: tensors of one prompt, without a batch axis.
Embedding = Mapping[str, Any]


@dataclass(frozen=True)
class Family:
    """Pipelines whose text is embedded beforehand, in batches of its own."""

    #: components that only embed text, which leave memory before images are made
    text: tuple[str, ...]
    #: (pipeline, texts, tokens) -> an embedding per text
    embed: Callable[[Any, list[str], int], list[dict[str, Any]]]
    #: (pipeline, the batch's embeddings, the empty text's) -> arguments of the pipeline's call
    arguments: Callable[[Any, Sequence[Embedding], Embedding], dict[str, Any]]


def _by_text(prompts: Any, pooled: Any) -> list[dict[str, Any]]:
    return [{"prompt": p, "pooled": q} for p, q in zip(prompts, pooled, strict=True)]


def _embed_sd3(pipeline: Any, texts: list[str], tokens: int) -> list[dict[str, Any]]:
    from training.encoders import encode_prompts

    return _by_text(*encode_prompts(pipeline, texts, tokens))


def _embed_sdxl(pipeline: Any, texts: list[str], _tokens: int) -> list[dict[str, Any]]:
    prompts, _, pooled, _ = pipeline.encode_prompt(texts, do_classifier_free_guidance=False)
    return _by_text(prompts, pooled)


def _embed_flux(pipeline: Any, texts: list[str], tokens: int) -> list[dict[str, Any]]:
    prompts, pooled, _ = pipeline.encode_prompt(texts, None, max_sequence_length=tokens)
    return _by_text(prompts, pooled)


def _flux(_pipeline: Any, batch: Sequence[Embedding], _empty: Embedding) -> dict[str, Any]:
    """FLUX takes guidance as a number and knows no negative prompt."""
    import torch

    return {
        "prompt_embeds": torch.stack([embedding["prompt"] for embedding in batch]),
        "pooled_prompt_embeds": torch.stack([embedding["pooled"] for embedding in batch]),
    }


def _sd3(pipeline: Any, batch: Sequence[Embedding], empty: Embedding) -> dict[str, Any]:
    def repeat(value: Any) -> Any:
        return value.expand(len(batch), *value.shape)

    return _flux(pipeline, batch, empty) | {
        "negative_prompt_embeds": repeat(empty["prompt"]),
        "negative_pooled_prompt_embeds": repeat(empty["pooled"]),
    }


def _sdxl(pipeline: Any, batch: Sequence[Embedding], empty: Embedding) -> dict[str, Any]:
    if pipeline.config.force_zeros_for_empty_prompt:  # its own way to say "no negative prompt"
        empty = {name: value.new_zeros(value.shape) for name, value in empty.items()}
    return _sd3(pipeline, batch, empty)


_TWO_ENCODERS = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
_THREE_ENCODERS = (*_TWO_ENCODERS, "text_encoder_3", "tokenizer_3")
FAMILIES: dict[str, Family] = {
    "StableDiffusion3Pipeline": Family(_THREE_ENCODERS, _embed_sd3, _sd3),
    "StableDiffusionXLPipeline": Family(_TWO_ENCODERS, _embed_sdxl, _sdxl),
    "FluxPipeline": Family(_TWO_ENCODERS, _embed_flux, _flux),
}

#: Pipelines whose call takes standard normal latents [B, C, h, w].
_PLAIN_LATENTS = (
    "StableDiffusionPipeline StableDiffusionXLPipeline StableDiffusion3Pipeline "
    "PixArtAlphaPipeline PixArtSigmaPipeline HunyuanDiTPipeline AuraFlowPipeline KolorsPipeline "
    "LatentConsistencyModelPipeline"
).split()


def latent_shape(name: str, channels: int, side: int) -> tuple[int, int, int] | None:
    """Return a sample's [C, h, w] from the denoiser's input channels and the latents' side; None
    where the pipeline has to draw noise itself.
    """
    if name in _PLAIN_LATENTS:
        return channels, side, side
    if name == "FluxPipeline":
        return channels // 4, side, side
    return None


def packed(name: str, noise: Any) -> Any:
    """Return noise [B, C, h, w] as the pipeline's call takes it: FLUX as [B, h/2 * w/2, C * 4]."""
    if name != "FluxPipeline":
        return noise
    b, c, h, w = noise.shape
    noise = noise.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return noise.reshape(b, h // 2 * (w // 2), c * 4)

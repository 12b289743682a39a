"""What differs between kinds of pipelines: where noise goes in, and how text is embedded once.

A pipeline that is not listed is called with prompts as text and one random generator a sample.
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
    #: (pipeline, texts, tokens) -> an embedding a text
    embed: Callable[[Any, list[str], int], list[dict[str, Any]]]
    #: (pipeline, the batch's embeddings, the empty text's) -> arguments of the pipeline's call
    arguments: Callable[[Any, Sequence[Embedding], Embedding], dict[str, Any]]


def _embed_sd3(pipeline: Any, texts: list[str], tokens: int) -> list[dict[str, Any]]:
    from training.encoders import encode_prompts

    found, pooled = encode_prompts(pipeline, texts, tokens)
    return [{"prompt": one, "pooled": two} for one, two in zip(found, pooled, strict=True)]


def _sd3(_pipeline: Any, batch: Sequence[Embedding], empty: Embedding) -> dict[str, Any]:
    return {
        "prompt_embeds": _stack(batch, "prompt"),
        "pooled_prompt_embeds": _stack(batch, "pooled"),
        "negative_prompt_embeds": _repeat(empty["prompt"], len(batch)),
        "negative_pooled_prompt_embeds": _repeat(empty["pooled"], len(batch)),
    }


def _embed_sdxl(pipeline: Any, texts: list[str], _tokens: int) -> list[dict[str, Any]]:
    found, _, pooled, _ = pipeline.encode_prompt(texts, do_classifier_free_guidance=False)
    return [{"prompt": one, "pooled": two} for one, two in zip(found, pooled, strict=True)]


def _sdxl(pipeline: Any, batch: Sequence[Embedding], empty: Embedding) -> dict[str, Any]:
    if pipeline.config.force_zeros_for_empty_prompt:  # its own way to say "no negative prompt"
        empty = {name: value.new_zeros(value.shape) for name, value in empty.items()}
    return _sd3(pipeline, batch, empty)


def _embed_flux(pipeline: Any, texts: list[str], tokens: int) -> list[dict[str, Any]]:
    found, pooled, _ = pipeline.encode_prompt(texts, None, max_sequence_length=tokens)
    return [{"prompt": one, "pooled": two} for one, two in zip(found, pooled, strict=True)]


def _flux(_pipeline: Any, batch: Sequence[Embedding], _empty: Embedding) -> dict[str, Any]:
    """FLUX takes guidance as a number and knows no negative prompt."""
    return {
        "prompt_embeds": _stack(batch, "prompt"),
        "pooled_prompt_embeds": _stack(batch, "pooled"),
    }


def _stack(batch: Sequence[Embedding], name: str) -> Any:
    import torch

    return torch.stack([one[name] for one in batch])


def _repeat(value: Any, times: int) -> Any:
    return value.expand(times, *value.shape)


FAMILIES: dict[str, Family] = {
    "StableDiffusion3Pipeline": Family(
        (
            "text_encoder",
            "text_encoder_2",
            "text_encoder_3",
            "tokenizer",
            "tokenizer_2",
            "tokenizer_3",
        ),
        _embed_sd3,
        _sd3,
    ),
    "StableDiffusionXLPipeline": Family(
        ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"), _embed_sdxl, _sdxl
    ),
    "FluxPipeline": Family(
        ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"), _embed_flux, _flux
    ),
}

#: Pipelines whose call takes standard normal latents [B, C, h, w].
_PLAIN_LATENTS = frozenset(
    {
        "StableDiffusion3Pipeline",
        "StableDiffusionPipeline",
        "StableDiffusionXLPipeline",
        "LatentConsistencyModelPipeline",
        "PixArtAlphaPipeline",
        "PixArtSigmaPipeline",
        "HunyuanDiTPipeline",
        "AuraFlowPipeline",
        "KolorsPipeline",
    }
)


def latent_shape(name: str, channels: int, side: int) -> tuple[int, int, int] | None:
    """[C, h, w] of one sample's noise in a pipeline of that class, given its denoiser's input
    channels and the latents' side; None where the pipeline has to draw it itself.
    """
    if name in _PLAIN_LATENTS:
        return channels, side, side
    if name == "FluxPipeline":
        return channels // 4, side, side
    return None


def as_taken(name: str, noise: Any) -> Any:
    """Noise [B, C, h, w] as the pipeline's call takes it: FLUX as [B, h/2 * w/2, C * 4]."""
    if name != "FluxPipeline":
        return noise
    b, c, h, w = noise.shape
    noise = noise.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return noise.reshape(b, h // 2 * (w // 2), c * 4)

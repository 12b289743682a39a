"""Captions and images to tensors, by the frozen parts of the pipeline that training is handed.

They are loaded when something has to be encoded, one half at a time, and leave memory after it.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from soar_bench.core.digests import digest_of
from soar_bench.core.distributed import described
from soar_bench.core.files import read_json
from soar_bench.core.memory import fitting_batch, out_of_memory, release
from training.memory import Memory
from training.space import Sizes
from training.types import DEFAULT_ENCODING, Config, Encoding, TrainingError

Tensors = tuple[torch.Tensor, ...]
PIPELINE_CLASS = "StableDiffusion3Pipeline"
CORE = ("transformer", "scheduler")
VAE = ("vae",)
TEXT = (
    *("text_encoder", "text_encoder_2", "text_encoder_3"),
    *("tokenizer", "tokenizer_2", "tokenizer_3"),
)


class Described(typing.Protocol):
    """A pipeline's folder with its settings."""

    @property
    def folder(self) -> Path: ...

    def config(self, component: str) -> dict[str, Any]:
        """Return the settings of a model."""
        ...


class TrainingPipeline(Described, typing.Protocol):
    """The pipeline that training starts from; the harness hands it over."""

    @property
    def class_name(self) -> str:
        """Name of the diffusers class."""
        ...

    def load(self, parts: Collection[str]) -> Any:
        """Load a diffusers pipeline of these components: float32, on the CPU, without gradients."""
        ...

    def digest_parts(self, parts: Collection[str]) -> str:
        """Return a digest of everything that the output of these components depends on."""
        ...

    def size_limits(self) -> tuple[int, int | None]:
        """Return the pixels that an image's side is a multiple of, and its largest side."""
        ...

    def sizes(self, config: Config) -> Sizes:
        """Return how much of the transformer a training with these settings holds."""
        ...

    def measure(self, config: Config) -> Memory:
        """Return the memory that a training with these settings takes."""
        ...


def check_class(pipeline: TrainingPipeline) -> None:
    """Raise TrainingError unless pipelines of this class can be trained."""
    name = pipeline.class_name
    if name != PIPELINE_CLASS:
        raise TrainingError(
            f"{pipeline.folder} holds a {name}; only {PIPELINE_CLASS} can be trained so far"
        )


def check_pipeline(pipeline: TrainingPipeline, side: int) -> None:
    """Raise TrainingError unless the pipeline can be trained on square images of this side."""
    check_class(pipeline)
    step, largest = pipeline.size_limits()
    if side % step or (largest is not None and side > largest):
        raise TrainingError(
            f"the pipeline works at multiples of {step} up to {largest} pixels, not at {side}"
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


def latent_shape(pipeline: Described, size: tuple[int, int]) -> tuple[int, int, int]:
    """Return the shape [C, h, w] of the latents of an image of ``size`` (width, height)."""
    settings = pipeline.config("vae")
    scale = 2 ** (len(settings["block_out_channels"]) - 1)
    return int(settings["latent_channels"]), size[1] // scale, size[0] // scale


def image_memory(pipeline: Described, size: tuple[int, int], half: bool) -> int:
    """Return about how many bytes the autoencoder holds at once for an image while it encodes.

    Five tensors of its widest level in pixels times channels: 0.63 GiB for SD3's at 512 x 512 in
    float32, as was measured.
    """
    levels = enumerate(pipeline.config("vae")["block_out_channels"])
    channels = max(width / 4**level for level, width in levels)
    return int(5 * channels * size[0] * size[1] * (2 if half else 4))


def _memory(device: torch.device) -> int:
    """Bytes of a GPU, or of the machine: a process's share of them."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return int(psutil.virtual_memory().total) // described().local_size


def caption_shapes(pipeline: Described, tokens: int) -> tuple[tuple[int, int], int]:
    """Return the shapes [L, D] and [P] of a caption's embeddings, with so many tokens for T5.

    The L tokens are CLIP's and T5's, joined.
    """
    settings = pipeline.config("transformer")
    file = pipeline.folder / "tokenizer" / "tokenizer_config.json"
    clip = read_json(file).get("model_max_length", 77) if file.exists() else 77
    length = int(clip) + tokens
    return (length, int(settings["joint_attention_dim"])), int(settings["pooled_projection_dim"])


@torch.no_grad()
def decode_images(vae: Any, latents: torch.Tensor) -> np.ndarray:
    """The images of latents float32 [B, C, h, w], uint8 RGB [B, H, W, 3], as sampling makes them.

    Raises TrainingError if they hold values that are no numbers.
    """
    scaled = latents.to(vae.device, vae.dtype) / vae.config.scaling_factor + vae.config.shift_factor
    pixels = (vae.decode(scaled, return_dict=False)[0].float() / 2 + 0.5).clamp(0, 1)
    if not bool(pixels.isfinite().all()):
        raise TrainingError(
            "the model made images that are not numbers: begin again from the last checkpoint with "
            "a smaller optimizer.lr"
        )
    return np.rint(pixels.permute(0, 2, 3, 1).cpu().numpy() * 255).astype(np.uint8)


class Encoders:
    """The halves of a pipeline that encode images and captions, one in memory at a time."""

    def __init__(
        self,
        pipeline: TrainingPipeline,
        device: torch.device,
        precision: Encoding = DEFAULT_ENCODING,
    ) -> None:
        self._pipeline, self._device = pipeline, device
        self._half = {VAE: precision.images == "bf16", TEXT: precision.captions == "bf16"}
        #: rows encoded at once, by kind, once more did not fit
        self._most: dict[str, int] = {}
        self._parts: tuple[str, ...] = ()
        self._loaded: Any = None
        self._identities: dict[tuple[str, ...], str] = {}

    def images(self, pixels: np.ndarray) -> torch.Tensor:
        """Latents float32 [B, C, h, w] of uint8 RGB images [B, H, W, 3], on the CPU."""
        loaded, (height, width) = self._with(VAE), pixels.shape[1:3]
        each = image_memory(self._pipeline, (width, height), self._half[VAE])
        at_once = fitting_batch(_memory(self._device), each)
        latents = self._in_parts(
            f"images of {width} x {height}", len(pixels), at_once,
            lambda part: (encode_images(loaded, pixels[part]).cpu(),),
        )  # fmt: skip
        return latents[0]

    def prompts(self, texts: list[str], tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings float32 [B, L, D] and [B, P], on the CPU."""
        loaded = self._with(TEXT)

        def encode(part: slice) -> Tensors:
            return tuple(e.cpu() for e in encode_prompts(loaded, texts[part], tokens))

        embeds, pooled = self._in_parts("captions", len(texts), len(texts), encode)
        return embeds, pooled

    def _in_parts(
        self,
        kind: str,
        count: int,
        at_once: int,
        encode: Callable[[slice], tuple[torch.Tensor, ...]],
    ) -> tuple[torch.Tensor, ...]:
        """Encode ``count`` rows, at most ``at_once`` of them together, fewer if memory runs out."""
        at_once = max(1, min(at_once, count, self._most.get(kind, count)))
        while True:
            try:
                rows = [encode(slice(i, i + at_once)) for i in range(0, count, at_once)]
                return tuple(map(torch.cat, zip(*rows, strict=True)))
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if at_once == 1:
                    parts = VAE if kind.startswith("images") else TEXT
                    raise self._too_large(f"one of the {kind} does", "it is", parts) from None
            release()
            at_once //= 2
            self._most[kind] = at_once

    def latent_bytes(self, size: tuple[int, int]) -> int:
        """Return the bytes of an image's latents, float32."""
        return 4 * math.prod(latent_shape(self._pipeline, size))

    def caption_bytes(self, tokens: int, kept: torch.dtype) -> int:
        """Return the bytes of a caption's embeddings in that type."""
        embeds, pooled = caption_shapes(self._pipeline, tokens)
        return kept.itemsize * (math.prod(embeds) + pooled)

    def identity(self, parts: tuple[str, ...]) -> str:
        """Return a digest of everything that the output of these components depends on."""
        if parts not in self._identities:
            # Another library or kind of device rounds differently.
            self._identities[parts] = digest_of(
                [self._pipeline.digest_parts(parts), torch.__version__, self._device.type]
                + ["bfloat16"] * self._half[parts]
            )
        return self._identities[parts]

    def release(self) -> None:
        """Free the memory of what was loaded."""
        self._parts, self._loaded = (), None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _with(self, parts: tuple[str, ...]) -> Any:
        if self._parts != parts:
            self.release()
            loaded = self._pipeline.load(parts)
            try:
                self._loaded = loaded.to(self._device, *[torch.bfloat16] * self._half[parts])
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                models = "text encoders do" if parts == TEXT else "autoencoder does"
                raise self._too_large(f"the pipeline's {models}", "data are", parts) from None
            self._parts = parts
        return self._loaded

    def _too_large(self, subject: str, during: str, parts: tuple[str, ...]) -> TrainingError:
        setting = f"encoding.{'images' if parts == VAE else 'captions'}"
        half = "" if self._half[parts] else f"set {setting} to bf16, or "
        return TrainingError(
            f"{subject} not fit the memory of {self._device.type} while {during} encoded: "
            f"{half}use a larger device"
        )

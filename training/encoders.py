"""The frozen halves of a pipeline that turn captions and images into tensors.

They are loaded when something has to be encoded, one at a time, and leave memory after it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import torch

from soar_bench.core.digests import digest_of, digest_weights, safetensors_in
from training.pipeline import (
    PIPELINE_CLASS,
    check_pipeline,
    encode_images,
    encode_prompts,
    load_pipeline,
)
from training.types import TrainingError

VAE = ("vae",)
TEXT = (
    "text_encoder",
    "text_encoder_2",
    "text_encoder_3",
    "tokenizer",
    "tokenizer_2",
    "tokenizer_3",
)


class Encoders(Protocol):
    """What makes latents and embeddings."""

    def images(self, pixels: np.ndarray) -> torch.Tensor:
        """Latents float32 [B, C, h, w] of uint8 RGB images [B, H, W, 3]."""
        ...

    def prompts(self, texts: list[str], tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings float32 [B, L, D] and [B, P]."""
        ...

    def identity(self, parts: tuple[str, ...]) -> str | None:
        """A digest of everything that what these parts make depends on; None if not known."""
        ...

    def release(self) -> None:
        """Frees what is in memory for encoding."""
        ...


class LoadedEncoders:
    """Those of a pipeline that is in memory; what they make is not kept on disk."""

    def __init__(self, pipeline: Any, device: torch.device) -> None:
        self._pipeline, self._device = pipeline, device

    def images(self, pixels: np.ndarray) -> torch.Tensor:
        return encode_images(self._pipeline.to(self._device), pixels).cpu()

    def prompts(self, texts: list[str], tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        embeds, pooled = encode_prompts(self._pipeline.to(self._device), texts, tokens)
        return embeds.cpu(), pooled.cpu()

    def identity(self, parts: tuple[str, ...]) -> str | None:
        return None

    def release(self) -> None:
        self._pipeline.to("cpu")


class Pipeline:
    """An SD3-format pipeline in a folder, of which each part is loaded when it is asked for.

    Raises TrainingError if the folder holds no such pipeline.
    """

    def __init__(self, folder: Path) -> None:
        check_pipeline(folder)
        self.folder = folder

    @cached_property
    def _core(self) -> Any:
        return load_parts(self.folder, ("transformer", "scheduler"))

    @property
    def transformer(self) -> Any:
        return self._core.transformer

    @property
    def scheduler(self) -> Any:
        return self._core.scheduler

    @cached_property
    def outline(self) -> Any:
        """What the configuration files say: enough for ``check_resolution``."""
        config = SimpleNamespace(**_json(self.folder / "transformer" / "config.json"))
        blocks = _json(self.folder / "vae" / "config.json")["block_out_channels"]
        return SimpleNamespace(
            vae_scale_factor=2 ** (len(blocks) - 1), transformer=SimpleNamespace(config=config)
        )

    def digest(self, parts: Iterable[str]) -> str:
        """SHA-256 of the weights, settings and vocabularies of these parts."""
        found = {}
        for part in parts:
            folder = self.folder / part
            if not folder.is_dir():
                continue
            weights = list(folder.glob("*.safetensors"))
            found[part] = [
                digest_weights(safetensors_in(folder)) if weights else "",
                {
                    file.name: hashlib.sha256(file.read_bytes()).hexdigest()
                    for file in sorted(folder.iterdir())
                    if file.suffix in (".json", ".txt", ".model")
                    and not file.name.endswith(".index.json")
                },
            ]
        return digest_of(found)


class FolderEncoders:
    """Those of a pipeline in a folder: one half in memory at a time."""

    def __init__(self, pipeline: Pipeline, device: torch.device) -> None:
        self._pipeline, self._device = pipeline, device
        self._parts: tuple[str, ...] = ()
        self._loaded: Any = None
        self._identities: dict[tuple[str, ...], str] = {}

    def images(self, pixels: np.ndarray) -> torch.Tensor:
        return encode_images(self._with(VAE), pixels).cpu()

    def prompts(self, texts: list[str], tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        embeds, pooled = encode_prompts(self._with(TEXT), texts, tokens)
        return embeds.cpu(), pooled.cpu()

    def identity(self, parts: tuple[str, ...]) -> str | None:
        if parts not in self._identities:
            # Another library or kind of device rounds differently.
            self._identities[parts] = digest_of(
                [self._pipeline.digest(parts), torch.__version__, self._device.type]
            )
        return self._identities[parts]

    def release(self) -> None:
        self._parts, self._loaded = (), None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _with(self, parts: tuple[str, ...]) -> Any:
        if self._parts != parts:
            self.release()
            self._loaded = load_parts(self._pipeline.folder, parts).to(self._device)
            self._parts = parts
        return self._loaded


def load_parts(folder: Path, parts: tuple[str, ...]) -> Any:
    """A pipeline of these parts of a folder alone, in float32 and evaluation mode.

    Where there is no third text encoder, the pipeline asks the transformer for its width: then the
    transformer comes along with the text encoders.
    """
    index = _json(folder / "model_index.json")
    names = [name for name, value in index.items() if isinstance(value, list)]
    if parts == TEXT and index.get("text_encoder_3", [None])[0] is None:
        parts = (*TEXT, "transformer")
    # An absent part must be called absent, or diffusers misses it.
    return load_pipeline(
        folder, without=[n for n in names if n not in parts or index[n][0] is None]
    )


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{file} cannot be read as a {PIPELINE_CLASS}'s: {error}") from None
    if not isinstance(content, dict):
        raise TrainingError(f"{file} holds no settings")
    return content

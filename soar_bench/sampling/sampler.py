"""Images of a checkpoint: noise and prompts in, pixels out, through the pipeline's own call.

Pipelines with large text encoders (those of :mod:`soar_bench.sampling.families`) are loaded in two
halves, text first, so that memory holds the larger half and not both.
"""

from __future__ import annotations

import gc
import inspect
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import Any
from weakref import ref

import numpy as np

from soar_bench.checkpoints import Checkpoint, image_size
from soar_bench.core.errors import SoarBenchError
from soar_bench.pipelines import Pipeline
from soar_bench.sampling.families import FAMILIES, latent_shape, packed
from soar_bench.sampling.noise import initial_noise, noise_key
from soar_bench.suites.types import PlannedSample, Protocol


class Sampler:
    """One checkpoint under one protocol on one device, loaded when images are asked for."""

    def __init__(self, checkpoint: Checkpoint, protocol: Protocol, device: str) -> None:
        self._checkpoint, self._protocol, self._device = checkpoint, protocol, device
        self._class_name = Pipeline(checkpoint.pipeline).class_name
        self._family = FAMILIES.get(self._class_name)
        self._embeddings: dict[str, dict[str, Any]] = {}
        #: the half of the pipeline in memory, and its name
        self._loaded: Any = None
        self._half = ""
        #: ends the loan of a pipeline in memory
        self._borrowed = ExitStack()

    @property
    def embeds(self) -> bool:
        """Whether prompts are embedded beforehand, with :meth:`embed`."""
        return self._family is not None

    def embed(self, texts: Sequence[str]) -> None:
        """Embed these texts as one batch and keep the result on the CPU."""
        if self._family is None or all(text in self._embeddings for text in texts):
            return
        pipeline = self._need("text")
        tokens = self._protocol.max_sequence_length
        with self._no_gradients():
            embeddings = self._family.embed(pipeline, list(texts), tokens)
        for text, embedding in zip(texts, embeddings, strict=True):
            self._embeddings[text] = {
                name: value.to("cpu", self._dtype, copy=True) for name, value in embedding.items()
            }

    def sample(self, samples: Sequence[PlannedSample], seed: int) -> np.ndarray:
        """Make the images of these samples as one batch, uint8 RGB [B, H, W, 3].

        ``seed`` is the suite's. Where :attr:`embeds`, the samples' texts and the empty one have to
        be embedded before. SoarBenchError if an image holds values that are not numbers.
        """
        images = self._call(samples, seed)
        if not np.isfinite(images).all():
            raise SoarBenchError(
                f"{self._checkpoint.name} made images that are not numbers: its weights are "
                f"damaged or {self._protocol.dtype} is too narrow for them"
            )
        return np.rint(images * 255).astype(np.uint8)

    def try_out(self, sample: PlannedSample, seed: int) -> None:
        """Do with one sample what :meth:`sample` does, in two steps alone: as much memory."""
        self._call([sample], seed, num_inference_steps=2)

    def _call(self, samples: Sequence[PlannedSample], seed: int, **other: Any) -> np.ndarray:
        """Call the pipeline, with other settings than the protocol's; floats in [0, 1]."""
        pipeline = self._need("image")
        arguments = self._words(pipeline, samples) | self._noise(pipeline, samples, seed)
        with self._no_gradients():
            return np.asarray(pipeline(**arguments, **{**self._settings, **other}).images)

    def close(self) -> None:
        """Free the memory of weights and embeddings."""
        self._embeddings.clear()
        self._let_go()

    @property
    def _dtype(self) -> Any:
        import torch

        return getattr(torch, self._protocol.dtype)

    @cached_property
    def _side(self) -> int:
        return image_size(self._checkpoint, self._protocol)

    @cached_property
    def _settings(self) -> dict[str, Any]:
        """Settings of the protocol that the pipeline's call takes."""
        call = inspect.signature(type(self._loaded).__call__).parameters
        settings: dict[str, Any] = {
            "num_inference_steps": self._protocol.steps,
            "guidance_scale": self._protocol.guidance,
            "height": self._side,
            "width": self._side,
            # PixArt and others would make the nearest size of their training, and resize it.
            "use_resolution_binning": False,
        }
        if self._family is None:  # otherwise the text is embedded already
            settings["max_sequence_length"] = self._protocol.max_sequence_length
        return {"output_type": "np"} | {k: v for k, v in settings.items() if k in call}

    def _words(self, pipeline: Any, samples: Sequence[PlannedSample]) -> dict[str, Any]:
        if self._family is None:
            return {"prompt": [sample.prompt.text for sample in samples]}
        batch = [self._on_device(self._embeddings[sample.prompt.text]) for sample in samples]
        return self._family.arguments(pipeline, batch, self._on_device(self._embeddings[""]))

    def _on_device(self, embedding: dict[str, Any]) -> dict[str, Any]:
        return {name: value.to(self._device) for name, value in embedding.items()}

    def _noise(self, pipeline: Any, samples: Sequence[PlannedSample], seed: int) -> dict[str, Any]:
        """Latents where the call takes them, and a generator per sample for everything else:
        both decided by the sample alone, and drawn on the CPU.
        """
        import torch

        keys = [noise_key(seed, sample.prompt.id, sample.index) for sample in samples]
        generators = [torch.Generator("cpu").manual_seed(key % 2**63) for key in keys]
        drawn: dict[str, Any] = {"generator": generators}
        denoiser = getattr(pipeline, Pipeline(self._checkpoint.pipeline).denoiser)
        scale = getattr(pipeline, "vae_scale_factor", 1)
        channels = getattr(denoiser.config, "in_channels", 0)
        shape = latent_shape(self._class_name, channels, self._side // scale)
        if shape is not None:
            noise = [initial_noise(seed, s.prompt.id, s.index, shape) for s in samples]
            latents = packed(self._class_name, torch.from_numpy(np.stack(noise)))
            drawn["latents"] = latents.to(self._device, self._dtype)
        return drawn

    def _need(self, half: str) -> Any:
        """Return the half that embeds text or makes images; the other one leaves memory.

        Both are one where text is not embedded beforehand, or an adapter changes text encoders.
        """
        if self._one_half:
            half = "whole"
        if self._half != half:
            self._let_go()
            parts = None
            if half != "whole" and self._family is not None:
                components = Pipeline(self._checkpoint.pipeline).components
                text = self._family.text
                parts = [name for name in components if (name in text) == (half == "text")]
            self._loaded, self._half = self._load(parts), half
        return self._loaded

    def _load(self, parts: list[str] | None) -> Any:
        import torch

        from soar_bench.checkpoints.in_memory import borrowed
        from soar_bench.checkpoints.loading import load

        dtype, vae_dtype = self._dtype, getattr(torch, self._protocol.vae_dtype)
        if self._checkpoint.loaded is not None:
            owner = self._checkpoint.loaded.pipeline
            pipeline = self._borrowed.enter_context(borrowed(owner, self._device, dtype, vae_dtype))
        else:
            pipeline = load(self._checkpoint, dtype, vae_dtype, parts).to(self._device)
        if vae_dtype != dtype and getattr(pipeline, "vae", None) is not None:
            _decode_in_own_precision(pipeline.vae)
        return pipeline

    def _no_gradients(self) -> Any:
        import torch

        # A model that is lent goes back to training, for which inference tensors are no use.
        return torch.no_grad() if self._checkpoint.loaded else torch.inference_mode()

    @cached_property
    def _one_half(self) -> bool:
        from soar_bench.checkpoints.loading import changes_text

        whole = self._family is None or self._checkpoint.loaded is not None
        return whole or changes_text(self._checkpoint)

    def _let_go(self) -> None:
        import torch

        if self._loaded is None:
            return
        models = [
            ref(c) for c in self._loaded.components.values() if isinstance(c, torch.nn.Module)
        ]
        self._loaded, self._half = None, ""
        self._borrowed.close()
        # To look for circles takes as long as a picture or two: only where a model is on one, and
        # is not its owner's.
        if self._checkpoint.loaded is None and any(model() is not None for model in models):
            gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _decode_in_own_precision(vae: Any) -> None:
    """Let a VAE take latents of another precision than its own, as pipelines hand them over."""
    decode = vae.decode

    def decode_cast(latents: Any, *arguments: Any, **settings: Any) -> Any:
        return decode(latents.to(vae.dtype), *arguments, **settings)

    vae.decode = decode_cast

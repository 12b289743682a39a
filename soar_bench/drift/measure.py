"""One checkpoint after the other on the same samples and noise; what was measured is kept.

Errors of a device that is out of memory pass through.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from soar_bench.checkpoints import Checkpoint, image_size
from soar_bench.core.digests import digest_of
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.files import replace_atomically
from soar_bench.drift.figures import Probe
from soar_bench.pipelines import Pipeline
from soar_bench.sampling.noise import initial_noise
from soar_bench.suites.types import Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from soar_bench.drift.samples import Encoded
    from soar_bench.scoring.scores import Observer
    from training.data import Source
    from training.objectives.flow import Velocity

#: Raised when what is measured changes, so that kept figures of the older way are not used.
VERSION = 1
#: Where the samples' figures are kept, inside the output folder.
KEPT = "samples"

_PIPELINE = "StableDiffusion3Pipeline"
_SCHEDULER = "FlowMatchEulerDiscreteScheduler"
#: Settings of the scheduler under which its table or its step is another than the probe's.
_OTHERWISE = ("use_dynamic_shifting", "stochastic_sampling", "invert_sigmas")
#: The arrays of a probe that are kept.
_ARRAYS = ("sigmas", "timesteps", "ideal", "own", "moved")


@dataclass(frozen=True)
class Settings:
    """Everything besides the checkpoint that decides the figures."""

    #: its steps, guidance, side, tokens and precision are used
    protocol: Protocol
    #: steps of the walks after which errors are measured
    rolled: tuple[int, ...] = (1, 2, 4)
    #: of the initial noise
    seed: int = 0
    #: samples of the data that are passed over, and how many follow
    skip: int = 0
    samples: int = 256

    def __post_init__(self) -> None:
        least = min(self.rolled, default=0)
        if least < 1:
            raise SoarBenchError("walks are of one step at least: name their lengths as 1,2,4")
        if self.protocol.steps < least + 2:
            raise SoarBenchError(
                f"{self.protocol.steps} sampler steps leave no walk of {least} between two "
                f"levels that are neither noise nor clean: take at least {least + 2} steps"
            )
        if self.samples < 2:
            raise SoarBenchError("one sample has no standard error: take at least 2 samples")

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths of walks that fit into the sampler, each once, rising."""
        return tuple(sorted({m for m in self.rolled if m <= self.protocol.steps - 2}))

    def as_json(self, name: str, source: Source) -> dict[str, Any]:
        """Return the settings for drift.json, with the data by name and digest."""
        return {
            "data": {"name": name, "digest": source.digest}, "skip": self.skip,
            "samples": self.samples, "noise_seed": self.seed, "steps_rolled": list(self.lengths),
            "protocol": {"name": self.protocol.name, **self.protocol.settings()},
            "version": VERSION,
        }  # fmt: skip


def check(checkpoint: Checkpoint, settings: Settings) -> None:
    """Raise SoarBenchError unless the probe is defined for the checkpoint; loads no weights."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    pipeline = Pipeline(checkpoint.pipeline)
    if pipeline.class_name != _PIPELINE:
        raise SoarBenchError(
            f"{checkpoint.name} is a {pipeline.class_name}: drift is defined for flow matching in "
            f"SD3's format, a {_PIPELINE}"
        )
    scheduler = pipeline.components.get("scheduler", ("", "none"))[1]
    if scheduler != _SCHEDULER:
        raise SoarBenchError(
            f"{checkpoint.name} samples with {scheduler}: drift is defined for the Euler steps of "
            f"{_SCHEDULER}"
        )
    loaded = FlowMatchEulerDiscreteScheduler.from_pretrained(
        pipeline.folder, subfolder="scheduler", local_files_only=True
    )
    for name in _OTHERWISE:
        if loaded.config.get(name):
            raise SoarBenchError(
                f"the scheduler of {checkpoint.name} has {name}, with which its steps are not the "
                "plain Euler steps that drift is defined for"
            )
    image_size(checkpoint, settings.protocol)


class Measurement:
    """Probes checkpoints one after the other. Pictures and captions are encoded once for all that
    share frozen parts.
    """

    def __init__(
        self,
        settings: Settings,
        source: Source,
        output: Path,
        device: str,
        batch_size: int = 32,
        observe: Observer = lambda stage, done, total: None,
    ) -> None:
        from soar_bench.drift.samples import Part

        self._settings, self._output, self._device = settings, output, device
        self._batch_size, self._observe = batch_size, observe
        self._part = Part(source, settings.skip, settings.samples)
        self._encoded: tuple[str, Encoded] | None = None

    def probe(self, checkpoint: Checkpoint) -> Probe:
        """Return what was measured of a checkpoint before, or measure it now and keep it."""
        file = self._file(checkpoint)
        if not file.exists():
            measured = self._measure(checkpoint)
            with replace_atomically(file) as aside:
                np.savez(aside, **measured)
        try:
            with np.load(file, allow_pickle=False) as kept:
                rolled = tuple(int(m) for m in kept["rolled"])
                return Probe(checkpoint, rolled=rolled, **{name: kept[name] for name in _ARRAYS})
        except (ValueError, KeyError, OSError, EOFError, BadZipFile) as error:
            raise SoarBenchError(f"{file} is damaged ({error}): delete it") from None

    def _file(self, checkpoint: Checkpoint) -> Path:
        settings = self._settings
        identity = {
            "version": VERSION, "protocol": settings.protocol.settings(),
            "rolled": settings.lengths, "seed": settings.seed, "data": self._part.digest,
            "checkpoint": checkpoint.digest,
        }  # fmt: skip
        return self._output / KEPT / f"{checkpoint.digest[:12]}-{digest_of(identity)[:12]}.npz"

    def _measure(self, checkpoint: Checkpoint) -> dict[str, Any]:
        import torch

        from soar_bench.drift.walk import inner_levels, probe

        settings, encoded = self._settings, self._encode(checkpoint)
        model = Model(checkpoint, settings.protocol, self._device)
        _, channels, height, width = encoded.latents.shape
        shape = channels, height, width
        errors = []
        for start in range(0, len(self._part), self._batch_size):
            batch = range(start, min(start + self._batch_size, len(self._part)))
            names = [f"drift-{self._part.first + number}" for number in batch]
            noise = np.stack([initial_noise(settings.seed, name, 0, shape) for name in names])
            z0 = encoded.latents[batch.start : batch.stop].to(self._device, torch.float32)
            z1 = torch.from_numpy(noise).to(self._device)
            velocity = model.velocity(encoded, batch)
            guidance = settings.protocol.guidance
            errors.append(probe(velocity, z0, z1, model.sigmas, guidance, settings.lengths))
            self._observe(checkpoint.label, batch.stop, len(self._part))
        sigmas = model.sigmas[inner_levels(model.sigmas)]
        ideal, own, moved = (np.concatenate(arrays, -1) for arrays in zip(*errors, strict=True))
        ends = [own[m, steps:] for m, steps in enumerate(settings.lengths)]
        if not all(np.isfinite(values).all() for values in [ideal, *ends]):
            raise SoarBenchError(
                f"{checkpoint.name} predicts values that are not numbers: its weights are damaged "
                f"or {settings.protocol.dtype} is too narrow for them"
            )
        return {
            "sigmas": sigmas.double().cpu().numpy(),
            "timesteps": (sigmas * model.train_timesteps).double().cpu().numpy(),
            "rolled": np.array(settings.lengths), "ideal": ideal, "own": own, "moved": moved,
        }  # fmt: skip

    def _encode(self, checkpoint: Checkpoint) -> Encoded:
        """Return the samples as the checkpoint's frozen parts see them; the last are kept."""
        import torch

        from soar_bench.checkpoints.loading import changes_text, load
        from soar_bench.drift.samples import encode

        protocol = self._settings.protocol
        own_text = changes_text(checkpoint)
        key = f"{checkpoint.pipeline.resolve()} {checkpoint.digest if own_text else ''}"
        if self._encoded is None or self._encoded[0] != key:
            pipeline = Pipeline(checkpoint.pipeline)
            parts = None
            # An adapter with parts for text encoders is brought onto all it changes at once, and a
            # pipeline without a T5 encoder asks its transformer for the width of a token.
            if not own_text and "text_encoder_3" in pipeline.components:
                parts = [name for name in pipeline.components if name != pipeline.denoiser]
            dtype = getattr(torch, protocol.dtype)
            loaded = load(checkpoint, dtype, getattr(torch, protocol.vae_dtype), parts)
            side, tokens = image_size(checkpoint, protocol), protocol.max_sequence_length
            observe = partial(self._observe, "encode")
            encoded = encode(self._part, loaded.to(self._device), side, tokens, dtype, observe)
            self._encoded = key, encoded
        return self._encoded[1]


class Model:
    """A checkpoint's transformer as a velocity, with its sampler's table."""

    def __init__(self, checkpoint: Checkpoint, protocol: Protocol, device: str) -> None:
        import torch

        from soar_bench.checkpoints.loading import load

        self._dtype, self._device = getattr(torch, protocol.dtype), device
        denoiser = Pipeline(checkpoint.pipeline).denoiser
        loaded = load(checkpoint, self._dtype, self._dtype, [denoiser, "scheduler"])
        self._transformer = getattr(loaded, denoiser).to(device)
        loaded.scheduler.set_timesteps(protocol.steps)
        #: float32 [N + 1], on the device
        self.sigmas: Tensor = loaded.scheduler.sigmas.to(device, torch.float32)
        self.train_timesteps = int(loaded.scheduler.config.num_train_timesteps)

    def velocity(self, encoded: Encoded, batch: range) -> Velocity:
        """Return the velocity on the captions of these samples."""
        embeddings = {
            conditional: [
                part.to(self._device, self._dtype)
                for part in encoded.embeddings(batch, conditional)
            ]
            for conditional in (True, False)
        }

        def predict(z: Tensor, sigma: Tensor, rows: Tensor, conditional: bool) -> Any:
            embeds, pooled = (part[rows] for part in embeddings[conditional])
            return self._transformer(
                hidden_states=z.to(self._dtype),
                timestep=sigma * self.train_timesteps,
                encoder_hidden_states=embeds,
                pooled_projections=pooled,
                return_dict=False,
            )[0]

        return predict

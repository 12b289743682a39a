"""One checkpoint after the other on the same samples and noise; what was measured is kept.

Errors of a device that is out of memory pass through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
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

    from soar_bench.drift.samples import Samples
    from training.data import Source

#: Raised when what is measured changes, so that kept figures of the older way are not used.
VERSION = 1
#: Where the samples' figures are kept, inside the output folder.
KEPT = "samples"

_PIPELINE = "StableDiffusion3Pipeline"
_SCHEDULER = "FlowMatchEulerDiscreteScheduler"
#: Settings of the scheduler under which its table or its step is another than the probe's.
_OTHERWISE = ("use_dynamic_shifting", "stochastic_sampling", "invert_sigmas")

#: Called with what is being done, samples done and samples in all.
Observer = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Settings:
    """What decides the figures besides the checkpoint."""

    #: its steps, guidance, side, tokens and precision are used
    protocol: Protocol
    #: steps of the walks after which errors are measured
    rolled: tuple[int, ...] = (1, 2, 4)
    #: of the noise
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
        """The lengths that fit into the sampler, each once, rising."""
        return tuple(sorted({m for m in self.rolled if m <= self.protocol.steps - 2}))


def check(checkpoint: Checkpoint, settings: Settings) -> None:
    """SoarBenchError unless the probe is defined for the checkpoint; loads no weights."""
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
        self._samples: tuple[str, Samples] | None = None

    def probe(self, checkpoint: Checkpoint) -> Probe:
        """What was measured before, or measured now and kept."""
        file = self._file(checkpoint)
        if not file.exists():
            measured = self._measure(checkpoint)
            with replace_atomically(file) as aside:
                np.savez(aside, **measured)
        try:
            with np.load(file, allow_pickle=False) as kept:
                return Probe(
                    checkpoint,
                    kept["sigmas"],
                    kept["timesteps"],
                    tuple(int(m) for m in kept["rolled"]),
                    kept["ideal"],
                    kept["own"],
                    kept["moved"],
                )
        except (ValueError, KeyError, OSError, EOFError, BadZipFile) as error:
            raise SoarBenchError(f"{file} is damaged ({error}): delete it") from None

    def _file(self, checkpoint: Checkpoint) -> Path:
        identity = {
            "version": VERSION,
            "protocol": self._settings.protocol.settings(),
            "rolled": self._settings.lengths,
            "seed": self._settings.seed,
            "data": self._part.digest,
            "checkpoint": checkpoint.digest,
        }
        return self._output / KEPT / f"{checkpoint.digest[:12]}-{digest_of(identity)[:12]}.npz"

    def _measure(self, checkpoint: Checkpoint) -> dict[str, Any]:
        import torch

        from soar_bench.drift.walk import inner_levels, probe

        samples = self._encode(checkpoint)
        model = Model(checkpoint, self._settings.protocol, self._device)
        channels, height, width = (int(size) for size in samples.latents.shape[1:])
        guidance, lengths = self._settings.protocol.guidance, self._settings.lengths
        errors = []
        for batch in self._batches():
            noise = [
                initial_noise(
                    self._settings.seed,
                    f"drift-{self._part.first + number}",
                    0,
                    (channels, height, width),
                )
                for number in batch
            ]
            z0 = samples.latents[batch.start : batch.stop].to(self._device, torch.float32)
            z1 = torch.from_numpy(np.stack(noise)).to(self._device)
            velocity = model.velocity(samples, batch)
            errors.append(probe(velocity, z0, z1, model.sigmas, guidance, lengths))
            self._observe(checkpoint.label, batch.stop, len(self._part))
        levels = inner_levels(model.sigmas)
        measured = {
            "sigmas": model.sigmas[levels].double().cpu().numpy(),
            "timesteps": (model.sigmas[levels] * model.train_timesteps).double().cpu().numpy(),
            "rolled": np.array(self._settings.lengths),
            "ideal": np.concatenate([e.ideal for e in errors], axis=-1),
            "own": np.concatenate([e.own for e in errors], axis=-1),
            "moved": np.concatenate([e.moved for e in errors], axis=-1),
        }
        ends = [measured["own"][m, steps:] for m, steps in enumerate(self._settings.lengths)]
        if not all(np.isfinite(values).all() for values in [measured["ideal"], *ends]):
            raise SoarBenchError(
                f"{checkpoint.name} predicts values that are not numbers: its weights are damaged "
                f"or {self._settings.protocol.dtype} is too narrow for them"
            )
        return measured

    def _batches(self) -> Iterator[range]:
        count = len(self._part)
        for start in range(0, count, self._batch_size):
            yield range(start, min(start + self._batch_size, count))

    def _encode(self, checkpoint: Checkpoint) -> Samples:
        """The samples as the checkpoint's frozen parts see them; those of the last one are kept."""
        import torch

        from soar_bench.checkpoints.loading import changes_text, load
        from soar_bench.drift.samples import encode

        protocol = self._settings.protocol
        own_text = changes_text(checkpoint)
        key = f"{checkpoint.pipeline.resolve()} {checkpoint.digest if own_text else ''}"
        if self._samples is None or self._samples[0] != key:
            pipeline = Pipeline(checkpoint.pipeline)
            parts = None
            # An adapter with parts for text encoders is brought onto all it changes at once, and a
            # pipeline without a T5 encoder asks its transformer for the width of a token.
            if not own_text and "text_encoder_3" in pipeline.components:
                parts = [name for name in pipeline.components if name != pipeline.denoiser]
            dtype = getattr(torch, protocol.dtype)
            loaded = load(checkpoint, dtype, getattr(torch, protocol.vae_dtype), parts)
            samples = encode(
                self._part,
                loaded.to(self._device),
                image_size(checkpoint, protocol),
                protocol.max_sequence_length,
                dtype,
                lambda done, total: self._observe("encode", done, total),
            )
            self._samples = key, samples
        return self._samples[1]


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
        self._scheduler = loaded.scheduler

    @cached_property
    def sigmas(self) -> Tensor:
        """float32 [N + 1], on the device."""
        import torch

        table: Tensor = self._scheduler.sigmas.to(self._device, torch.float32)
        return table

    @property
    def train_timesteps(self) -> int:
        return int(self._scheduler.config.num_train_timesteps)

    def velocity(self, samples: Samples, batch: range) -> Any:
        """The velocity on these samples' captions; see training.objectives.Velocity."""
        both = {
            conditional: [
                part.to(self._device, self._dtype)
                for part in samples.embeddings(batch, conditional)
            ]
            for conditional in (True, False)
        }

        def predict(z: Tensor, sigma: Tensor, rows: Tensor, conditional: bool) -> Any:
            embeds, pooled = (part[rows] for part in both[conditional])
            return self._transformer(
                hidden_states=z.to(self._dtype),
                timestep=sigma * self.train_timesteps,
                encoder_hidden_states=embeds,
                pooled_projections=pooled,
                return_dict=False,
            )[0]

        return predict


def told(settings: Settings, name: str, source: Source) -> dict[str, Any]:
    """The settings for the record."""
    return {
        "data": {"name": name, "digest": source.digest},
        "skip": settings.skip,
        "samples": settings.samples,
        "noise_seed": settings.seed,
        "steps_rolled": list(settings.lengths),
        "protocol": {"name": settings.protocol.name, **settings.protocol.settings()},
        "version": VERSION,
    }

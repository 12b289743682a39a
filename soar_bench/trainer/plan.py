"""The plan of a training run: its sizes and cost before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from soar_bench.pipelines.lengths import Cut, words
from training.checkpoint import CHECKPOINT_FILE, checkpoint_folder, latest_checkpoint
from training.data.checking import Checked
from training.memory import Memory, Place, held
from training.space import rollout_bytes
from training.types import REWARDED, Config

_GIB = 2**30


@dataclass(frozen=True)
class TrainPlan:
    """One run, resolved and checked, not started."""

    config: Config
    memory: Memory
    #: captioned images, every one of which can be read
    checked: Checked
    place: Place
    #: auxiliary points per pass; 0: all of a micro-batch
    chunk: int = 0
    #: text encoders that read only the beginning of some captions
    cut: Sequence[Cut] = ()
    #: a likely mistake in the settings, in a sentence
    remark: str = ""
    #: pipeline or checkpoint that it starts from
    start: str = ""
    #: a sentence on prompts that no image is made of, or that teach nothing
    left_out: str = ""
    #: a sentence on an evaluation at another guidance than that of rollouts
    apart: str = ""

    @property
    def samples(self) -> int:
        return len(self.checked.source)

    @property
    def epochs(self) -> float:
        """Number of times that each sample is seen."""
        return self.config.steps * self._step / self.samples

    @property
    def processes(self) -> int:
        return self.place.processes

    @property
    def held(self) -> int:
        """Bytes of weights, gradients and optimizer in one process."""
        return held(self.config, self.memory.sizes, self.place)

    @property
    def rollout(self) -> int:
        """Bytes of a process's samples of a rollout."""
        return rollout_bytes(self.config, self.memory.latent)

    @property
    def _step(self) -> int:
        """Samples of an optimizer step."""
        return self.config.batch_size * self.config.accumulate * self.processes

    def _fits(self) -> list[str]:
        """How the step was made to fit the device, where its memory is known."""
        if self.place.memory is None:
            return []
        device = f"{self.place.memory / _GIB:.1f} GiB"
        words = f"# a pass of {self.memory.count} fits a device of {device}"
        auto = self.config.soar.aux_chunk == "auto" and self.config.method == "soar"
        return [words + (f": soar.aux_chunk is {self.chunk or 'all points'}" if auto else "")]

    @property
    def state(self) -> str:
        """How far the run in the output folder is."""
        output = self.config.output
        if (checkpoint_folder(output, self.config.steps) / CHECKPOINT_FILE).exists():
            return "finished: nothing would be done"
        last = latest_checkpoint(output)
        if last is not None:
            return f"begun: {last.name} is its last checkpoint"
        return "begun" if output.exists() else "new"

    def _rollouts(self) -> list[str]:
        """How samples are made, where the objective makes its own."""
        config = self.config
        if config.method not in REWARDED:
            return []
        settings = config.rollouts
        images = self._step * settings.updates
        return [
            f"# a rollout every {settings.updates} step{'s' if settings.updates > 1 else ''}: "
            f"{images // settings.group} prompts x {settings.group} images in {settings.steps} "
            f"sampler steps, {self.rollout / _GIB:.2f} GiB a process, beside the VAE and "
            "the rewards' own models",
        ]

    def as_json(self) -> dict[str, Any]:
        """For a program: the resolved settings, and what follows from them."""
        return {
            "settings": self.config.model_dump(mode="json"),
            "start": self.start,
            "output": str(self.config.output),
            "state": self.state,
            "samples": self.samples,
            "epochs": self.epochs,
            "processes": self.processes,
            "parameters": self.memory.parameters,
            "trained": self.memory.trained,
            "bytes": {
                "held": self.held,
                "activations": self.memory.activations,
                "rollout": self.rollout,
            },
        }

    def lines(self) -> list[str]:
        """For a person: the resolved settings as YAML, and what follows from them."""
        settings, sizes = self.config.model_dump(mode="json"), self.memory
        return [
            yaml.safe_dump(settings, sort_keys=False, allow_unicode=True).rstrip(),
            "",
            *([f"# starts from {self.start}"] if self.start != self.config.base else []),
            f"# {sizes.trained:,} parameters are trained"
            + (f" beside {sizes.parameters:,} frozen ones" if self.config.lora.rank else "")
            + f", on {self.samples:,} samples",
            f"# {self.config.steps:,} steps of {self._step} samples in {self.processes} "
            f"process{'es' if self.processes > 1 else ''}: {self.epochs:.3g} times the data",
            f"# {self.held / _GIB:.2f} GiB of weights, gradients and optimizer, and about "
            f"{sizes.activations / _GIB:.2f} GiB of activations per process",
            *self._fits(),
            *self._rollouts(),
            *(f"# {sentence}" for sentence in (self.remark, self.apart, self.left_out) if sentence),
            *(f"# {words(self.cut, self.samples, 'caption')}" for _ in self.cut[:1]),
            f"# {self.config.output}: {self.state}",
        ]

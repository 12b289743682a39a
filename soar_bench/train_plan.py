"""What a training run would be, found out before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from training.checkpoint import checkpoint_folder, latest_checkpoint
from training.types import Config

#: Bytes a trained parameter takes in float32: itself, its gradient, AdamW's two moments.
_TRAINED = 16
#: And one more copy for the moving average.
_AVERAGE = 4
_GIB = 2**30


@dataclass(frozen=True)
class TrainPlan:
    """One run, resolved and checked, not started."""

    config: Config
    #: trained parameters
    parameters: int
    #: captioned images
    samples: int
    processes: int

    @property
    def epochs(self) -> float:
        """How often every sample is seen."""
        seen = self.config.steps * self.config.batch_size * self.processes
        return seen * getattr(self.config, "accumulate", 1) / self.samples

    @property
    def memory(self) -> int:
        """Bytes of weights, gradients and optimizer in one process; activations come on top."""
        each = _TRAINED + (_AVERAGE if self.config.ema_decay else 0)
        return self.parameters * each

    @property
    def state(self) -> str:
        """What the output folder holds of this run."""
        output = self.config.output
        if checkpoint_folder(output, self.config.steps).exists():
            return "finished: nothing would be done"
        last = latest_checkpoint(output)
        if last is not None:
            return f"begun: {last.name} is its last checkpoint"
        return "begun" if output.exists() else "new"

    def lines(self) -> list[str]:
        """For a person: the resolved settings as YAML, and what follows from them."""
        settings = self.config.model_dump(mode="json")
        return [
            yaml.safe_dump(settings, sort_keys=False, allow_unicode=True).rstrip(),
            "",
            f"# {self.parameters:,} parameters are trained, on {self.samples:,} samples",
            f"# {self.config.steps:,} steps of {self.config.batch_size} samples in "
            f"{self.processes} process{'es' if self.processes > 1 else ''}: {self.epochs:.3g} "
            "times the data",
            f"# {self.memory / _GIB:.2f} GiB of weights, gradients and optimizer a process, "
            "without activations",
            f"# {self.config.output}: {self.state}",
        ]


def outputs_of(output: Path | None, seeds: list[int]) -> list[Path | None]:
    """An output folder a seed: ``{seed}`` in its name stands for the seed.

    ValueError if several seeds would share one folder.
    """
    if output is None or len(seeds) == 1:
        return [Path(str(output).replace("{seed}", str(s))) if output else None for s in seeds]
    if "{seed}" not in str(output):
        raise ValueError
    return [Path(str(output).replace("{seed}", str(seed))) for seed in seeds]

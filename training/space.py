"""Sizes of a training on disk: its checkpoints, its resume states, and the peak of both.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from training.types import COPIES, Config

#: Bytes per value of a weight in float32.
SINGLE = 4
#: Bytes per parameter of AdamW's two moments, by the optimizer's name.
MOMENTS = {"adamw": 8, "adamw8bit": 2}


@dataclass(frozen=True)
class Sizes:
    """Sizes of a transformer in training, in values."""

    #: of the transformer, its adapter apart
    parameters: int
    #: of them those that are trained, or of its adapter
    trained: int
    #: of the buffers that a checkpoint of the whole transformer holds beside its parameters
    buffers: int

    def checkpoint(self, config: Config) -> int:
        """Return the bytes of a checkpoint: the adapter, or all weights and buffers."""
        return SINGLE * (self.trained if config.lora.rank else self.parameters + self.buffers)

    def state(self, config: Config) -> int:
        """Return the bytes of a resume state: trained weights, moments, the average and copies."""
        copies = bool(config.ema_decay) + COPIES.get(config.method, (0, 0))[1]
        weights = SINGLE * (1 + copies)
        return self.trained * (weights + MOMENTS[config.optimizer.kind])


def peak(config: Config, sizes: Sizes, first: int, existing: Collection[int]) -> int:
    """Return the most bytes that a run will have on its disk beyond those that are there now.

    The run goes on after ``first`` steps, with the checkpoints of the steps ``existing`` (and a
    state, if ``first`` is not 0). At each save it writes the checkpoint and then the state, of
    which the older one goes once the new one is whole; then checkpoints that need not stay go.
    The last save writes no state.
    """
    checkpoint, state = sizes.checkpoint(config), sizes.state(config)
    stay = config.keep_last + bool(config.keep_best)
    held, states, used, most = set(existing), int(first > 0), 0, 0
    saves = range(
        (first // config.save_every + 1) * config.save_every, config.steps, config.save_every
    )
    for step in (*saves, config.steps):
        most = max(most, used + checkpoint)  # written aside before it takes another's place
        used += 0 if step in held else checkpoint
        held.add(step)
        if step < config.steps:
            most = max(most, used + state)
            used += 0 if states else state
            states = 1
        if config.keep_last and len(held) > stay:
            used -= (len(held) - stay) * checkpoint
            held = set(sorted(held)[-stay:])
    return most

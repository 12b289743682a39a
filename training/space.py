"""Sizes of a training on disk: its checkpoints, its resume states, and the peak of both.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from training.types import COPIES, REWARDED, Config

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


def rollout_bytes(config: Config, latent: int) -> int:
    """Return the bytes of a process's samples of a rollout, and of the states it trains on.

    Of each sample flow-grpo keeps the last state and those around its trained steps, nft the last
    state and the noise of its trained levels; ``latent`` are the bytes of one, in float32.
    """
    if config.method not in REWARDED:
        return 0
    rollouts = config.rollouts
    kept = 1 + config.nft.trained_levels
    if config.method == "flow-grpo":
        kept = 2 + (config.flow_grpo.window or config.flow_grpo.trained_steps)
    images = config.batch_size * config.accumulate * rollouts.updates
    return latent * images * kept


def peak(
    config: Config, sizes: Sizes, first: int, existing: Collection[int], samples: int = 0
) -> int:
    """Return the most bytes that a run will have on its disk beyond those that are there now.

    The run goes on after ``first`` steps, with the checkpoints of the steps ``existing`` (and a
    state, if ``first`` is not 0), of which those that need not stay go at once. At each save it
    writes the checkpoint and then the state, of which the older one goes once the new one is whole;
    then checkpoints that need not stay go. The last save writes no state. A state amid a rollout
    has the ``samples`` of all processes, in bytes.
    """
    checkpoint, weights = sizes.checkpoint(config), sizes.state(config)
    stay = config.keep_last + bool(config.keep_best)
    updates = config.rollouts.updates if config.method in REWARDED else 1

    def state(step: int) -> int:
        return weights + (samples if step % updates else 0) if step else 0

    def staying(steps: Collection[int]) -> set[int]:
        return set(sorted(steps)[-stay:] if config.keep_last else steps)

    held, newest, most = staying(existing), first, 0
    used = (len(held) - len(existing)) * checkpoint
    saves = range(
        (first // config.save_every + 1) * config.save_every, config.steps, config.save_every
    )
    for step in (*saves, config.steps):
        most = max(most, used + checkpoint)  # written aside before it takes another's place
        used += 0 if step in held else checkpoint
        held.add(step)
        if step < config.steps:
            most = max(most, used + state(step))
            used += state(step) - state(newest)
            newest = step
        used -= (len(held) - len(staying(held))) * checkpoint
        held = staying(held)
    return most

"""Objectives on images that the model makes itself: what they share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.copies import Copies
from training.rollouts import Maker, Rollouts, Samples

#: Names of copies of the weights: those that training began with, and those that make samples.
REFERENCE, OLD = "reference", "old"


@dataclass
class OnRollouts(Maker):
    """An objective of which a step sees some of a rollout's samples, in several passes each."""

    rollouts: Rollouts
    copies: Copies
    #: of the sampler, from 1 down to 0: steps + 1 of them
    levels: Sequence[float]
    seed: int

    def batches(self, step: int) -> list[Samples]:
        return self.rollouts.at(step, self)

    @abstractmethod
    def passes(self, batch: Samples) -> int:
        """Return the number of states of each sample that are trained on, a pass each."""

    def counts(self, batches: Sequence[Samples]) -> list[float]:
        """Return the number of trained states of samples that count."""
        return [float(sum(b.tensors["used"].sum().item() * self.passes(b) for b in batches))]

    def divisor(self, counts: Sequence[float]) -> float:
        return max(counts[0], 1.0)

    def stepped(self, done: int) -> None:
        """Do nothing: the next rollout is the current model's."""

    def state(self, done: int) -> Mapping[str, Any]:
        return self.rollouts.state() if self.has_state(done) else {}

    def has_state(self, done: int) -> bool:
        return done % self.rollouts.settings.updates != 0

    def load(self, state: Mapping[str, Any]) -> None:
        self.rollouts.load(state)

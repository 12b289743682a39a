"""Objectives on the data's own pictures: SFT, SOAR and DEFAR, as the loop asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from training.defar import defar_term
from training.defar import draw as draw_defar
from training.method import Pass, Stateless
from training.objectives import (
    LossSums,
    count_points,
    count_terms,
    draw_soar,
    normaliser,
    soar_terms,
)
from training.sections import Defar, Soar
from training.step import AnyDraws, Batch, Draw

#: From a step's number and what an objective draws to this process's micro-batches of the step.
Batches = Callable[[int, Draw], list[Batch]]


@dataclass(frozen=True)
class SoarObjective(Stateless):
    """SOAR; with weight 0, SFT."""

    settings: Soar
    #: of the sampler
    shift: float
    draw_batches: Batches
    #: whether the base prediction is the conditional half of the rollout; see ``soar_terms``
    reuse: bool = True

    def batches(self, step: int) -> list[Batch]:
        def draw(z1: torch.Tensor, t0: torch.Tensor, generator: torch.Generator) -> AnyDraws:
            return draw_soar(z1, t0, self.settings, generator)

        return self.draw_batches(step, draw)

    def counts(self, batches: Sequence[Batch]) -> list[float]:
        """Return n_base and n_aux."""
        points = [count_points(batch.draws.t0, self.settings) for batch in batches]
        return [sum(base for base, _ in points), sum(auxiliary for _, auxiliary in points)]

    def divisor(self, counts: Sequence[float]) -> float:
        return normaliser(self.settings.weight, *counts)

    def passes(self, batch: Batch) -> int:
        return count_terms(len(batch.z0), self.settings)

    def run(self, batch: Batch) -> Iterator[Pass]:
        terms = soar_terms(
            batch.velocity, batch.z0, batch.draws, self.shift, self.settings, self.reuse
        )
        for term in terms:
            weight = self.settings.weight if term.auxiliary else 1
            yield Pass(weight * term.sum, {"auxiliary" if term.auxiliary else "base": term.sum})

    def figures(self, sums: Mapping[str, float], counts: Sequence[float]) -> dict[str, float]:
        base, auxiliary = sums["base"], sums.get("auxiliary", 0.0)
        n_base, n_auxiliary = counts
        total = LossSums(torch.tensor(base), torch.tensor(auxiliary), 0, 0)
        return {
            "loss": total.loss(self.settings.weight, n_base, n_auxiliary).item(),
            "loss_base": base / n_base,
            "loss_auxiliary": auxiliary / max(n_auxiliary, 1),
        }


@dataclass(frozen=True)
class DefarObjective(Stateless):
    """DEFAR, or ReflexFlow."""

    settings: Defar
    #: of the sampler
    shift: float
    draw_batches: Batches

    def batches(self, step: int) -> list[Batch]:
        def draw(z1: torch.Tensor, t0: torch.Tensor, generator: torch.Generator) -> AnyDraws:
            return draw_defar(z1, t0, self.settings, generator)

        return self.draw_batches(step, draw)

    def counts(self, batches: Sequence[Batch]) -> list[float]:
        """Return the number of samples."""
        return [sum(len(batch.z0) for batch in batches)]

    def divisor(self, counts: Sequence[float]) -> float:
        return counts[0]

    def passes(self, batch: Batch) -> int:
        return 1

    def run(self, batch: Batch) -> Iterator[Pass]:
        term = defar_term(batch.velocity, batch.z0, batch.draws, self.shift, self.settings)
        loss = term.flow + self.settings.direction_weight * term.direction
        yield Pass(loss, {"base": term.base, "flow": term.flow, "direction": term.direction})

    def figures(self, sums: Mapping[str, float], counts: Sequence[float]) -> dict[str, float]:
        means = {name: value / counts[0] for name, value in sums.items()}
        return {
            "loss": means["flow"] + self.settings.direction_weight * means["direction"],
            "loss_base": means["base"],
            "loss_flow": means["flow"],
            "loss_direction": means["direction"],
        }

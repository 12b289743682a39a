"""DEFAR and ReflexFlow.

DEFAR: Huang et al., arXiv 2606.28226 (ECCV 2026); ReflexFlow: its withdrawn form, arXiv 2512.04904.
docs/method.md derives both in these names and says which parts were read from third parties.
Latents are float32 [B, C, H, W], noise levels float32 [B]; see training/objectives/flow.py.

Their time runs from noise (0) to data (1): level sigma is 1 - t, and their velocity is minus ours.
The direction from a state to the data, ``z0 - z``, is therefore the direction of ``-v``, and ours
to compare with ``v`` is ``z - z0``. For a straight path ``v = (z - z0) / sigma``: the same
direction, so that the perfect velocity has no direction term.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from training.draws import Random
from training.objectives.flow import Velocity, interpolate, ode_step, shift_sigma
from training.objectives.objective import Pass, Stateless
from training.sections import Defar
from training.step import AnyDraws, Batch, DrawBatches

#: Smallest norm that a vector is divided by.
_SMALLEST_NORM = 1e-8


@dataclass(frozen=True)
class DefarDraws:
    """Everything random in the objective of B samples, drawn beforehand."""

    z1: Tensor  # [B, C, H, W], the noise end of each sample's line
    t0: Tensor  # [B] in (0, 1], the sampler's time; or the level itself where levels are uniform
    fraction: Tensor  # [B] in (0, 1]: sigma_1 / sigma_0
    steps: int  # of ReflexFlow's rollout, for all samples

    def samples(self, which: slice) -> DefarDraws:
        """Those of some of the samples."""
        return DefarDraws(self.z1[which], self.t0[which], self.fraction[which], self.steps)

    def to(self, device: torch.device) -> DefarDraws:
        return DefarDraws(
            self.z1.to(device), self.t0.to(device), self.fraction.to(device), self.steps
        )


@dataclass(frozen=True)
class DefarTerm:
    """Sums over samples."""

    #: of |W (v - (z1 - z0))|^2, averaged over the latent's elements
    flow: Tensor
    #: of |u(v) - u(z - z0)|^2 off the line, where u has length 1
    direction: Tensor
    #: of |v - (z1 - z0)|^2, averaged over elements, without a graph
    base: Tensor


def draw_defar(z1: Tensor, t0: Tensor, settings: Defar, random: Random) -> DefarDraws:
    """Draw what is needed beside noise ``z1`` [B, C, H, W] and times ``t0`` [B]."""
    uniform, fraction = 1 - random.uniform(), 1 - random.uniform()
    steps = 1 + random.integer(settings.max_offset)
    return DefarDraws(z1, uniform if settings.uniform_levels else t0, fraction, steps)


def unit(vector: Tensor) -> Tensor:
    """Each sample's vector at length 1: float32 [B, C, H, W]."""
    vector = vector.float()
    norm = torch.linalg.vector_norm(vector, dim=(1, 2, 3), keepdim=True)
    return vector / norm.clamp(min=_SMALLEST_NORM)


def direction_error(v: Tensor, z: Tensor, z0: Tensor) -> Tensor:
    """Squared distance between the directions of ``v`` and of the way back to the data, [B]."""
    return (unit(v) - unit(z - z0)).square().sum(dim=(1, 2, 3))


def defar_term(
    velocity: Velocity, z0: Tensor, draws: DefarDraws, shift: float, settings: Defar
) -> DefarTerm:
    """The objective of one batch, as ``settings.form`` says."""
    rows = torch.arange(len(z0), device=z0.device)
    form = _one_step if settings.form == "defar" else _several_steps
    return form(velocity, z0, draws, shift, settings, rows)


def _one_step(
    velocity: Velocity, z0: Tensor, draws: DefarDraws, shift: float, settings: Defar, rows: Tensor
) -> DefarTerm:
    """DEFAR: one step of the current model, whose gradient is kept, to a lower level."""
    sigma0 = draws.t0 if settings.uniform_levels else shift_sigma(draws.t0, shift)
    sigma1 = sigma0 * draws.fraction
    z = interpolate(z0, draws.z1, sigma0)
    v = velocity(z, sigma0, rows, True).to(z0)
    stepped = ode_step(z, v, sigma0, sigma1)
    v_stepped = velocity(stepped, sigma1, rows, True).to(z0)
    weight = torch.ones_like(v)
    if settings.compensation:
        with torch.no_grad():
            v_ideal = velocity(interpolate(z0, draws.z1, sigma1), sigma1, rows, True).to(z0)
            weight = 1 + settings.compensation * (v_stepped - v_ideal).abs()
    error = v - (draws.z1 - z0)
    return DefarTerm(
        _mean_square(weight * error),
        direction_error(v_stepped, stepped, z0).sum(),
        _mean_square(error.detach()),
    )


def _several_steps(
    velocity: Velocity, z0: Tensor, draws: DefarDraws, shift: float, settings: Defar, rows: Tensor
) -> DefarTerm:
    """ReflexFlow: steps of the sampler without gradient or guidance down to the level."""
    times = _times(draws, shift, settings)
    levels = [shift_sigma(t, shift) for t in times]
    ideal = interpolate(z0, draws.z1, levels[-1])
    with torch.no_grad():
        z = interpolate(z0, draws.z1, levels[0])
        for sigma, sigma_next in pairwise(levels):
            z = ode_step(z, velocity(z, sigma, rows, True).to(z0), sigma, sigma_next)
        v_ideal = velocity(ideal, levels[-1], rows, True).to(z0)
    v = velocity(z, levels[-1], rows, True).to(z0)
    bias = (v.detach() - v_ideal).abs()
    mean = bias.mean(dim=(1, 2, 3), keepdim=True).clamp(min=_SMALLEST_NORM)
    weight = 1 + settings.compensation * bias / mean
    target = draws.z1 - z0
    return DefarTerm(
        _mean_square(weight * (v - target)),
        direction_error(v, z, z0).sum(),
        _mean_square(v_ideal - target),
    )


def _times(draws: DefarDraws, shift: float, settings: Defar) -> list[Tensor]:
    """The sampler's times of the rollout, each [B], from its start down to the sample's own."""
    t = draws.t0
    if settings.uniform_levels:  # the time at which the sampler has that level
        t = t / (shift - (shift - 1) * t)
    return [(t + k / settings.rollout_steps).clamp(max=1) for k in range(draws.steps, -1, -1)]


def _mean_square(error: Tensor) -> Tensor:
    return error.square().mean(dim=(1, 2, 3)).sum()


@dataclass(frozen=True)
class DefarObjective(Stateless):
    """DEFAR, or ReflexFlow."""

    settings: Defar
    #: of the sampler
    shift: float
    draw_batches: DrawBatches

    def batches(self, step: int) -> list[Batch]:
        def draw(z1: Tensor, t0: Tensor, random: Random) -> AnyDraws:
            return draw_defar(z1, t0, self.settings, random)

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

"""SFT and SOAR (Qin et al., arXiv 2604.12617; docs/method.md derives it in these names).

All but the class at the end are pure functions over a velocity model: latents are float32
[B, C, H, W], noise levels float32 [B] in [0, 1], whatever the precision of the model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.draws import Random
from training.objectives.flow import (
    Velocity,
    corrected_target,
    guided,
    interpolate,
    ode_step,
    shift_sigma,
    wide,
)
from training.objectives.objective import Pass, Stateless
from training.sections import Soar, Update
from training.step import AnyDraws, Batch, DrawBatches

#: entries of the training table of the sampler's levels
TABLE_LENGTH = 1000


@dataclass(frozen=True)
class Draws:
    """Everything random in the objective of B samples, drawn beforehand."""

    z1: Tensor  # [B, C, H, W], the noise end of each sample's line
    t0: Tensor  # [B] in (0, 1)
    fractions: Tensor  # [M, K, B] in (0, 1]: where each auxiliary level lies in its range
    path_noise: Tensor  # [M - 1, B, C, H, W], what the stochastic steps add
    new_noise: Tensor | None = None  # [M, B, C, H, W], the ends of re-noising; None: z1 of all

    def samples(self, which: slice) -> Draws:
        """Those of some of the samples."""
        return Draws(
            self.z1[which], self.t0[which], self.fractions[:, :, which], self.path_noise[:, which],
            None if self.new_noise is None else self.new_noise[:, which],
        )  # fmt: skip

    def to(self, device: torch.device) -> Draws:
        return Draws(
            self.z1.to(device), self.t0.to(device), self.fractions.to(device),
            self.path_noise.to(device),
            None if self.new_noise is None else self.new_noise.to(device),
        )  # fmt: skip


@dataclass(frozen=True)
class Points:
    """States at which the model is supervised, and what it should say there. P of them."""

    z: Tensor  # [P, C, H, W]
    sigma: Tensor  # [P] in (0, 1]
    rows: Tensor  # int64 [P], the sample each belongs to
    target: Tensor  # [P, C, H, W], a velocity
    weight: Tensor  # [P]; 0 leaves a point out of the sum

    def split(self, size: int) -> Iterator[Points]:
        """In order, ``size`` at a time; 0 is all at once."""
        count = len(self.z)
        for start in range(0, count, size or count):
            part = slice(start, start + (size or count))
            yield Points(
                self.z[part], self.sigma[part], self.rows[part], self.target[part],
                self.weight[part],
            )  # fmt: skip


@dataclass(frozen=True)
class Term:
    """One forward pass's part of the loss: the sum over its points of |v - target|^2."""

    sum: Tensor
    auxiliary: bool


@dataclass(frozen=True)
class LossSums:
    """Sums over points of batches, to be divided by counts over all batches and processes."""

    #: sum over samples of |v - (z1 - z0)|^2, averaged over the latent's elements
    base: Tensor
    #: sum over auxiliary points of |v - v_corr|^2, likewise
    auxiliary: Tensor
    base_points: int
    auxiliary_points: int

    def loss(self, weight: float, base_points: float, auxiliary_points: float) -> Tensor:
        """(base + lambda auxiliary) / (n_base + lambda n_aux), the counts taken over everything."""
        total = normaliser(weight, base_points, auxiliary_points)
        if weight == 0:
            return self.base / total
        return (self.base + weight * self.auxiliary) / total


def normaliser(weight: float, base_points: float, auxiliary_points: float) -> float:
    """n_base + lambda n_aux."""
    return base_points + weight * auxiliary_points if weight else base_points


def draw_paths(z1: Tensor, settings: Soar, random: Random) -> tuple[Tensor, Tensor]:
    """``fractions`` and ``path_noise`` of :class:`Draws` for the samples of ``z1``.

    The ODE path's come first, so that it is the same whatever the number of paths.
    """
    # In (0, 1]: a level of exactly 0, by which the target would divide, cannot be drawn.
    fractions = [1 - random.uniform(settings.points)]
    noise = [torch.empty(len(z1), 0, *z1.shape[1:])]
    for _ in range(settings.paths - 1):
        noise.append(random.normal(1, *z1.shape[1:]))
        fractions.append(1 - random.uniform(settings.points))
    return torch.stack(fractions).movedim(1, 2), torch.cat(noise, 1).movedim(0, 1)


def draw_soar(z1: Tensor, t0: Tensor, settings: Soar, random: Random) -> Draws:
    """Draw what is needed beside noise ``z1`` [B, C, H, W] and times ``t0`` [B]."""
    fractions, path_noise = draw_paths(z1, settings, random)
    new_noise = None
    if not settings.shared_noise:  # drawn last, so that all else stays as it was
        new_noise = random.normal(settings.paths, *z1.shape[1:]).movedim(0, 1)
    return Draws(z1, t0, fractions, path_noise, new_noise)


def stochastic_step(
    z: Tensor,
    v: Tensor,
    sigma: Tensor,
    sigma_next: Tensor,
    noise: Tensor,
    update: Update,
    noise_scale: float,
    sigma_max: float,
) -> Tensor:
    """A sampler's step down from ``sigma`` to ``sigma_next`` that adds ``noise``: [B, C, H, W].

    With the ends that v points at, ``z0_hat = z - sigma v`` and ``z1_hat = z + (1 - sigma) v``,
    d = sigma - sigma', noise e and its scale eta:

    - ``simple``: ``z - d v + eta sqrt(d) e``. Noise on top: variance grows by eta^2 d.
    - ``sde``: ``(1 - sigma') z0_hat + sigma' e``. All noise is new; eta has no say.
    - ``flow_sde``: ``z - d (v + c z1_hat) + eta sqrt(sigma d / (1 - sigma)) e`` with
      ``c = eta^2 / (2 (1 - sigma))``: one Euler-Maruyama step of the SDE with the flow's marginals
      (Flow-GRPO, arXiv 2505.05470). Exact as d goes to 0; a step of size d has
      ``(2 c + c^2) d^2`` too much variance about a point mass.
    - ``cps``: ``(1 - sigma') z0_hat + sigma' (cos(theta) z1_hat + sin(theta) e)`` with
      ``theta = eta pi / 2``: part of the noise is new and its share of the state stays sigma'
      (Flow-CPS, arXiv 2509.05952).

    ``flow_sde`` divides by 1 - sigma; levels above ``sigma_max``, the second of the sampler's
    table, count as that one there.
    """
    d, s, s_next = wide(sigma - sigma_next), wide(sigma), wide(sigma_next)
    if update == "simple":
        return z - d * v + noise_scale * d.sqrt() * noise
    clean = z - s * v  # z0_hat
    if update == "sde":
        return (1 - s_next) * clean + s_next * noise
    noisy = z + (1 - s) * v  # z1_hat
    if update == "cps":
        theta = noise_scale * math.pi / 2
        mixed = math.cos(theta) * noisy + math.sin(theta) * noise
        return (1 - s_next) * clean + s_next * mixed
    rest = 1 - s.clamp(max=sigma_max)
    drift = v + noise_scale**2 / (2 * rest) * noisy
    return z - d * drift + noise_scale * (s / rest * d).sqrt() * noise


def renoise(z: Tensor, sigma: Tensor, z1: Tensor, sigma_new: Tensor) -> Tensor:
    """Move a state of level sigma on a straight line toward the same noise z1, to level sigma_new.

    Where the state is ideal the result is ideal: ``renoise(z_s, s, z1, s') = z_s'``.
    """
    a = (sigma_new - sigma) / (1 - sigma)
    return (1 - wide(a)) * z + wide(a) * z1


def next_time(t0: Tensor, rollout_steps: int) -> Tensor:
    """Where the rollout's step ends: ``max(t0 - 1/N, 0)``."""
    return (t0 - 1 / rollout_steps).clamp(min=0)


def count_points(t0: Tensor, settings: Soar) -> tuple[int, int]:
    """n_base and n_aux of samples at times ``t0``, which are known before any pass of the model.

    A sample has K points on each of its M paths, or on the ODE path alone where that ends at 0.
    """
    if settings.weight == 0:
        return len(t0), 0
    goes_on = int((next_time(t0, settings.rollout_steps) > 0).sum())
    return len(t0), settings.points * (len(t0) + (settings.paths - 1) * goes_on)


def count_terms(samples: int, settings: Soar) -> int:
    """How many terms :func:`soar_terms` gives for so many samples, whatever was drawn."""
    if settings.weight == 0:
        return 1
    points = settings.paths * settings.points * samples
    return 1 + math.ceil(points / (settings.chunk or points))


def rollout(
    z: Tensor, v: Tensor, sigma: Tensor, sigma_next: Tensor, shift: float, draws: Draws,
    settings: Soar,
) -> Tensor:  # fmt: skip
    """The states after one step on each path, the ODE's first: [M, B, C, H, W].

    Samples whose step ends at 0 have the ODE's state on every path.
    """
    paths = [ode_step(z, v, sigma, sigma_next)]
    top = float(shift_sigma(torch.tensor(1 - 1 / TABLE_LENGTH), shift))
    for noise in draws.path_noise:
        off = stochastic_step(
            z, v, sigma, sigma_next, noise, settings.update, settings.noise_scale, top
        )
        paths.append(torch.where(wide(sigma_next > 0), off, paths[0]))
    return torch.stack(paths)


def upper_level(sigma0: Tensor, settings: Soar) -> Tensor:
    """Where a point's level ends: 1, or ``min(upper_ratio sigma_0, 1)``: [B]."""
    if settings.upper_ratio is None:
        return torch.ones_like(sigma0)
    return (settings.upper_ratio * sigma0).clamp(max=1)


def auxiliary_points(
    z: Tensor, sigma: Tensor, z0: Tensor, draws: Draws, settings: Soar, upper: Tensor
) -> Points:
    """K points on each path from the rollout's states ``z`` [M, B, C, H, W] of levels [B].

    Levels are uniform between the state's, or ``sigma_floor`` where that is higher, and ``upper``
    [B]. There are M * K * B points; those of stochastic paths that end at 0 are left out by weight,
    so that shapes do not depend on what was drawn.
    """
    paths, count = len(z), len(z0)
    low = sigma.clamp(min=settings.sigma_floor)
    level = (low + (torch.maximum(upper, low) - low) * draws.fractions).flatten()  # [M * K * B]
    rows = torch.arange(count, device=z0.device).repeat(paths * settings.points)
    z_sigma1 = z.repeat_interleave(settings.points, dim=0).flatten(0, 1)
    if draws.new_noise is None:
        z1 = draws.z1[rows]
    else:
        z1 = draws.new_noise.repeat_interleave(settings.points, dim=0).flatten(0, 1)
    z_new = renoise(z_sigma1, sigma[rows], z1, level)
    weight = torch.ones(paths, settings.points, count, device=z0.device)
    weight[1:] = (sigma > 0).to(weight)
    return Points(z_new, level, rows, corrected_target(z_new, level, z0[rows]), weight.flatten())


def squared_error(prediction: Tensor, points: Points) -> Tensor:
    """Mean over the latent's elements, then the weighted sum over points: a scalar."""
    error = (prediction.to(points.target.dtype) - points.target).square().mean(dim=(1, 2, 3))
    return (points.weight * error).sum()


def soar_terms(
    velocity: Velocity, z0: Tensor, draws: Draws, shift: float, settings: Soar, reuse: bool = True
) -> Iterator[Term]:
    """The SOAR objective on one batch, a forward pass at a time.

    First the base term; with ``settings.weight == 0`` that is all, and it is SFT. Then auxiliary
    points, ``settings.chunk`` at a time. Whoever takes the next term may have run backward on
    the ones before, and then no more than one pass's activations are ever held. The sum of the
    gradients is that of all terms at once; the rollout between them keeps none.

    ``z0`` clean latents [B, C, H, W]; ``shift`` the sampler's. ``reuse`` takes the base prediction
    as the conditional half of the rollout's step; say False where a pass with gradients is not what
    the sampler would do, as with dropout: ``velocity`` is then asked again with gradients off.
    """
    rows = torch.arange(len(z0), device=z0.device)
    sigma0 = shift_sigma(draws.t0, shift)
    z_sigma0 = interpolate(z0, draws.z1, sigma0)
    base = Points(z_sigma0, sigma0, rows, draws.z1 - z0, torch.ones_like(sigma0))
    v_base = velocity(z_sigma0, sigma0, rows, True)
    yield Term(squared_error(v_base, base), auxiliary=False)
    if settings.weight == 0:
        return

    with torch.no_grad():
        # One guided step of the current model down its own sampler. The base prediction is the
        # conditional half: same weights, same state.
        v_cfg = (v_base.detach() if reuse else velocity(z_sigma0, sigma0, rows, True)).to(z0)
        if settings.guidance != 1:
            v_uncond = velocity(z_sigma0, sigma0, rows, False).to(z0)
            v_cfg = guided(v_cfg, v_uncond, settings.guidance)
        sigma1 = shift_sigma(next_time(draws.t0, settings.rollout_steps), shift)
        z_sigma1 = rollout(z_sigma0, v_cfg, sigma0, sigma1, shift, draws, settings)
        upper = upper_level(sigma0, settings)
        points = auxiliary_points(z_sigma1, sigma1, z0, draws, settings, upper)
    for part in points.split(settings.chunk):
        prediction = velocity(part.z, part.sigma, part.rows, True)
        yield Term(squared_error(prediction, part), auxiliary=True)


@dataclass(frozen=True)
class SoarObjective(Stateless):
    """SOAR; with weight 0, SFT."""

    settings: Soar
    #: of the sampler
    shift: float
    draw_batches: DrawBatches
    #: whether the base prediction is the conditional half of the rollout; see ``soar_terms``
    reuse: bool = True

    def batches(self, step: int) -> list[Batch]:
        def draw(z1: Tensor, t0: Tensor, random: Random) -> AnyDraws:
            return draw_soar(z1, t0, self.settings, random)

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

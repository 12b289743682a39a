"""SFT and SOAR as pure functions over a velocity model.

Rectified flow: ``z_sigma = (1 - sigma) z0 + sigma z1`` goes from the clean latent z0 (sigma = 0) to
noise z1 (sigma = 1) at the velocity ``z1 - z0``. SOAR: Qin et al., arXiv 2604.12617; docs/method.md
derives it in these names. Latents are float32 [B, C, H, W], noise levels float32 [B] in [0, 1].
Nothing here knows of pipelines, devices, files or processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from training.types import NoiseLevels, Soar


class Velocity(Protocol):
    """The model: the velocity at states ``z`` [B, C, H, W] of noise levels ``sigma`` [B].

    Row i is conditioned on caption ``rows[i]`` of the batch, or on no caption where ``conditional``
    is false.
    """

    def __call__(self, z: Tensor, sigma: Tensor, rows: Tensor, conditional: bool) -> Tensor: ...


@dataclass(frozen=True)
class LossSums:
    """Sums over points of a batch, to be divided by counts over all batches and processes."""

    #: sum over samples of |v - (z1 - z0)|^2, averaged over the latent's elements
    base: Tensor
    #: sum over auxiliary points of |v - v_corr|^2, likewise
    auxiliary: Tensor
    base_points: int
    auxiliary_points: int

    def loss(self, weight: float, base_points: float, auxiliary_points: float) -> Tensor:
        """(base + lambda auxiliary) / (n_base + lambda n_aux), the counts taken over everything."""
        if weight == 0:
            return self.base / base_points
        return (self.base + weight * self.auxiliary) / (base_points + weight * auxiliary_points)


def shift_sigma(t: Tensor, shift: float) -> Tensor:
    """The sampler's noise level at time t: ``shift t / (1 + (shift - 1) t)`` (SD3, eq. 23)."""
    return shift * t / (1 + (shift - 1) * t)


def _wide(sigma: Tensor) -> Tensor:
    return sigma[:, None, None, None]  # [B] -> [B, 1, 1, 1]


def interpolate(z0: Tensor, z1: Tensor, sigma: Tensor) -> Tensor:
    """The ideal state of noise level sigma on the straight line from z0 to z1."""
    return (1 - _wide(sigma)) * z0 + _wide(sigma) * z1


def draw_time(count: int, levels: NoiseLevels, generator: torch.Generator) -> Tensor:
    """Logit-normal times t in (0, 1), float32 [count], on the generator's device."""
    normal = torch.randn(count, generator=generator, device=generator.device)
    return torch.sigmoid(levels.logit_mean + levels.logit_std * normal)


def guided(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance: ``v_uncond + w (v_cond - v_uncond)``."""
    return unconditional + scale * (conditional - unconditional)


def renoise(z: Tensor, sigma: Tensor, z1: Tensor, sigma_new: Tensor) -> Tensor:
    """Moves a state of level sigma on a straight line toward the same noise z1, to level sigma_new.

    Where the state is ideal the result is ideal: ``renoise(z_s, s, z1, s') = z_s'``.
    """
    a = (sigma_new - sigma) / (1 - sigma)
    return (1 - _wide(a)) * z + _wide(a) * z1


def corrected_target(z: Tensor, sigma: Tensor, z0: Tensor) -> Tensor:
    """v_corr: the velocity whose straight path leads from the state ``z`` back to z0."""
    return (z - z0) / _wide(sigma)


def _squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean over the latent's elements, then the sum over points: a float32 scalar."""
    return (prediction.float() - target).square().mean(dim=(1, 2, 3)).sum()


def _auxiliary_levels(sigma1: Tensor, settings: Soar, generator: torch.Generator) -> Tensor:
    """K levels for each sample, uniform between its sigma_1 (or the floor) and 1: [K * B]."""
    low = sigma1.clamp(min=settings.sigma_floor).repeat(settings.points)
    # In (0, 1]: a level of exactly 0, by which the target would divide, cannot be drawn.
    fraction = 1 - torch.rand(len(low), generator=generator, device=generator.device)
    return low + (1 - low) * fraction.to(low.device)


def soar_loss(
    velocity: Velocity,
    z0: Tensor,
    z1: Tensor,
    t0: Tensor,
    shift: float,
    settings: Soar,
    generator: torch.Generator,
) -> LossSums:
    """The SOAR objective on one batch; with ``settings.weight == 0`` it is SFT and nothing more.

    ``z0`` clean latents, ``z1`` noise [B, C, H, W]; ``t0`` the samples' times [B]; ``shift`` the
    sampler's; ``generator`` draws the auxiliary levels.
    """
    rows = torch.arange(len(z0), device=z0.device)
    sigma0 = shift_sigma(t0, shift)
    z_sigma0 = interpolate(z0, z1, sigma0)
    v_base = velocity(z_sigma0, sigma0, rows, True)
    base = _squared_error(v_base, z1 - z0)
    if settings.weight == 0:
        return LossSums(base, torch.zeros_like(base), len(z0), 0)

    with torch.no_grad():
        # One guided step of the current model down its own sampler. The base prediction is the
        # conditional half: same weights, same state.
        v_cfg = v_base.detach().float()
        if settings.guidance != 1:
            v_uncond = velocity(z_sigma0, sigma0, rows, False).float()
            v_cfg = guided(v_cfg, v_uncond, settings.guidance)
        sigma1 = shift_sigma((t0 - 1 / settings.rollout_steps).clamp(min=0), shift)
        z_sigma1 = z_sigma0 + _wide(sigma1 - sigma0) * v_cfg

        many = rows.repeat(settings.points)  # [K * B]
        sigma = _auxiliary_levels(sigma1, settings, generator)
        z = renoise(z_sigma1[many], sigma1[many], z1[many], sigma)
        v_corr = corrected_target(z, sigma, z0[many])
    auxiliary = _squared_error(velocity(z, sigma, many, True), v_corr)
    return LossSums(base, auxiliary, len(z0), len(many))

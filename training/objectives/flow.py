"""Rectified flow: states, noise levels, velocities and the sampler's step.

``z_sigma = (1 - sigma) z0 + sigma z1`` goes from the clean latent z0 (sigma = 0) to noise z1
(sigma = 1) at the velocity ``z1 - z0``. Latents are float32 [B, C, H, W], noise levels float32 [B]
in [0, 1], whatever the precision of the model. docs/method.md has all of it in these names.
"""

from __future__ import annotations

import typing

import torch
from torch import Tensor

from training.draws import Random
from training.types import NoiseLevels


class Velocity(typing.Protocol):
    """The model: the velocity at states ``z`` [B, C, H, W] of noise levels ``sigma`` [B].

    Row i is conditioned on caption ``rows[i]`` of the batch, or on no caption where ``conditional``
    is false.
    """

    def __call__(self, z: Tensor, sigma: Tensor, rows: Tensor, conditional: bool) -> Tensor: ...


def shift_sigma(t: Tensor, shift: float) -> Tensor:
    """The sampler's noise level at time t: ``shift t / (1 + (shift - 1) t)`` (SD3, eq. 23).

    At t = i / 1000 this is the sampler's own table; between entries it is the table's formula.
    """
    return shift * t / (1 + (shift - 1) * t)


def wide(sigma: Tensor) -> Tensor:
    """Return levels [B] as [B, 1, 1, 1], to be multiplied with latents."""
    return sigma[:, None, None, None]


def interpolate(z0: Tensor, z1: Tensor, sigma: Tensor) -> Tensor:
    """The ideal state of noise level sigma on the straight line from z0 to z1."""
    return (1 - wide(sigma)) * z0 + wide(sigma) * z1


def draw_time(levels: NoiseLevels, random: Random) -> Tensor:
    """Logit-normal times t in (0, 1), one per sample: float32 [B]."""
    return torch.sigmoid(levels.logit_mean + levels.logit_std * random.normal())


def guided(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance: ``v_uncond + w (v_cond - v_uncond)``."""
    return unconditional + scale * (conditional - unconditional)


def ode_step(z: Tensor, v: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """The sampler's own Euler step: ``z + (sigma' - sigma) v``."""
    return z + wide(sigma_next - sigma) * v


def corrected_target(z: Tensor, sigma: Tensor, z0: Tensor) -> Tensor:
    """v_corr: the velocity whose straight path leads from the state ``z`` back to z0."""
    return (z - z0) / wide(sigma)

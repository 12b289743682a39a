"""DiffusionNFT's loss as pure functions (Zheng et al., arXiv 2509.16117).

States and velocities are float32 [B, C, H, W], noise levels float32 [B] in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

#: Smallest weight that a squared error is divided by.
_SMALLEST = 1e-5


@dataclass(frozen=True)
class NftLoss:
    """The parts of the loss of each sample: [B]."""

    policy: Tensor
    #: squared distance to the reference's velocity, a mean over elements
    drift: Tensor
    #: squared distance to the old policy's velocity, likewise, without a graph
    contrast: Tensor


def optimality(advantage: Tensor, clip: float) -> Tensor:
    """Return r in [0, 1], the share of the positive branch: 1/2 where the advantage is 0."""
    return (advantage / clip).clamp(-1, 1) / 2 + 0.5


def nft_loss(
    v: Tensor,
    v_old: Tensor,
    v_reference: Tensor,
    z: Tensor,
    sigma: Tensor,
    z0: Tensor,
    r: Tensor,
    beta: float,
    scale: float,
) -> NftLoss:
    """The loss at states ``z`` on the lines from samples ``z0`` to new noise, with shares r [B].

    ``v+ = b v + (1 - b) v_old`` and ``v- = (1 + b) v_old - b v`` lie on both sides of the old
    policy; ``policy = scale (r |z0_hat+ - z0|^2 / (w+ b) + (1 - r) |z0_hat- - z0|^2 / (w- b))``
    with ``z0_hat = z - sigma v`` and ``w = mean |z0_hat - z0|`` without gradient.
    """
    positive = beta * v + (1 - beta) * v_old
    negative = (1 + beta) * v_old - beta * v
    branches = r * _error(positive, z, sigma, z0) + (1 - r) * _error(negative, z, sigma, z0)
    return NftLoss(
        scale * branches / beta,
        (v - v_reference).square().mean(dim=(1, 2, 3)),
        (v.detach() - v_old).square().mean(dim=(1, 2, 3)),
    )


def _error(v: Tensor, z: Tensor, sigma: Tensor, z0: Tensor) -> Tensor:
    """Squared distance of the end that v points at from z0, over its size: [B]."""
    error = z - sigma[:, None, None, None] * v - z0
    with torch.no_grad():
        weight = error.double().abs().mean(dim=(1, 2, 3)).clamp(min=_SMALLEST).to(error.dtype)
    return error.square().mean(dim=(1, 2, 3)) / weight


def old_decay(step: int, flat: int, rate: float, largest: float) -> float:
    """Return d of ``old <- d old + (1 - d) current`` after so many optimizer steps."""
    return 0.0 if step < flat else min(rate * (step - flat), largest)

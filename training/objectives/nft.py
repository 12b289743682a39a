"""DiffusionNFT (Zheng et al., arXiv 2509.16117): its loss as pure functions, its objective.

States and velocities are float32 [B, C, H, W], noise levels float32 [B] in [0, 1].
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from training.draws import key
from training.objectives.flow import interpolate
from training.objectives.objective import Pass
from training.objectives.on_rollouts import OLD, REFERENCE, OnRollouts
from training.rollouts import Noise, Samples, walk
from training.sections import Nft
from training.step import Batch

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


@dataclass
class NftObjective(OnRollouts):
    """DiffusionNFT."""

    settings: Nft

    def policy(self) -> AbstractContextManager[None]:
        return self.copies.as_weights(OLD)

    def sample(self, batch: Batch, noise: Noise, number: int) -> dict[str, Tensor]:
        """Make samples by the plain sampler; draw the levels and noise that they are seen at."""
        z0 = walk(batch, noise(), self.levels, self.settings.guidance)
        count = self.settings.trained_levels
        order = random.Random(key(self.seed, "levels", number))
        levels = torch.tensor(order.sample(list(self.levels[:-1]), count)).expand(len(z0), -1)
        drawn = torch.stack([noise() for _ in range(count)], dim=1)
        return {"z0": z0, "levels": levels, "noise": drawn}

    def passes(self, batch: Samples) -> int:
        return batch.tensors["levels"].shape[1]

    def run(self, batch: Samples) -> Iterator[Pass]:
        s, t = self.settings, batch.tensors
        z0, weight = t["z0"], t["used"].float()
        levels, noise = t["levels"].unbind(dim=1), t["noise"].unbind(dim=1)
        states = [interpolate(z0, e, x) for e, x in zip(noise, levels, strict=True)]
        others = []
        for name in (OLD, REFERENCE):
            with self.copies.as_weights(name), torch.no_grad():
                seen = zip(states, levels, strict=True)
                others.append([self._velocity(batch.batch, z, sigma) for z, sigma in seen])
        r = optimality(t["advantage"], s.advantage_clip)
        for z, e, sigma, v_old, v_reference in zip(states, noise, levels, *others, strict=True):
            v = self._velocity(batch.batch, z, sigma)
            part = nft_loss(v, v_old, v_reference, z, sigma, z0, r, s.beta, s.advantage_clip)
            loss = part.policy + s.kl_weight * part.drift
            names = ("policy", "drift", "contrast")
            sums = {name: (weight * getattr(part, name)).sum() for name in names}
            base = (v.detach() - (e - z0)).square().mean(dim=(1, 2, 3))
            sums["base"] = (weight * base).sum()
            yield Pass((weight * loss).sum(), sums)

    @staticmethod
    def _velocity(batch: Batch, z: Tensor, sigma: Tensor) -> Tensor:
        """Without guidance, whatever made the samples."""
        return batch.velocity(z, sigma, torch.arange(len(z), device=z.device), True).to(z)

    def figures(self, sums: Mapping[str, float], counts: Sequence[float]) -> dict[str, float]:
        means = {name: value / max(counts[0], 1) for name, value in sums.items()}
        return {
            "loss": means["policy"] + self.settings.kl_weight * means["drift"],
            # Flow matching's on the samples, by which divergence is known: the policy's own loss
            # goes with 1 / beta.
            "loss_base": means["base"],
            "loss_policy": means["policy"],
            "drift": means["drift"],
            "contrast": means["contrast"],
            **self.rollouts.figures,
        }

    def stepped(self, done: int) -> None:
        """After the last step of a rollout, move the old policy towards the current one."""
        s = self.settings
        if done % s.updates == 0:
            self.copies.follow(OLD, old_decay(done, s.decay_flat, s.decay_rate, s.decay_max))

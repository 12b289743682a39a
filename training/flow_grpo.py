"""Flow-GRPO's steps and loss as pure functions (Liu et al., arXiv 2505.05470).

States and velocities are float32 [B, C, H, W], noise levels float32 [B] in [0, 1]; a step goes from
``sigma`` down to ``sigma_next``. docs/method.md derives all of it in these names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["ode", "sde", "cps"]


@dataclass(frozen=True)
class Step:
    """The distribution of the next state: a normal one about ``mean``."""

    mean: Tensor  # [B, C, H, W]
    std: Tensor  # [B, 1, 1, 1]; 0 where the step is the plain sampler's
    #: g, by whose square the released code divides its divergence
    noise: Tensor  # [B, 1, 1, 1]
    kind: Kind

    def sample(self, noise: Tensor) -> Tensor:
        """Return the next state, given standard normal noise."""
        return self.mean if self.kind == "ode" else self.mean + self.std * noise

    def log_prob(self, z_next: Tensor) -> Tensor:
        """Return the logarithm of the state's density, as a mean over the latent's elements: [B].

        That of ``cps`` is the negative squared distance alone, as released: without the variance.
        """
        distance = (z_next.detach() - self.mean).square()
        if self.kind == "cps":
            return -distance.mean(dim=(1, 2, 3))
        constant = self.std.log() + 0.5 * math.log(2 * math.pi)
        return (-distance / (2 * self.std**2) - constant).mean(dim=(1, 2, 3))


def step_of(
    kind: Kind,
    z: Tensor,
    v: Tensor,
    sigma: Tensor,
    sigma_next: Tensor,
    noise_scale: float,
    sigma_max: float,
) -> Step:
    """Return the step of that kind from ``z`` along ``v``.

    - ``ode``: ``z + (sigma' - sigma) v``.
    - ``sde``, with d = sigma' - sigma and ``g = a sqrt(sigma / (1 - sigma))``, where a level above
      ``sigma_max``, the second of the sampler's table, counts as that one below the fraction line:
      mean ``z (1 + g^2 d / (2 sigma)) + v (1 + g^2 (1 - sigma) / (2 sigma)) d``, std g sqrt(-d).
    - ``cps``: ``g = sigma' sin(a pi / 2)``, mean ``(1 - sigma') z0_hat + sqrt(sigma'^2 - g^2)
      z1_hat`` with the ends that v points at, std g.

    At a = 0 both are the ``ode`` step; ``sde`` bit for bit.
    """
    s, s_next = (x[:, None, None, None] for x in (sigma, sigma_next))
    d = s_next - s
    if kind == "ode":
        zero = torch.zeros_like(s)
        return Step(z + d * v, zero, zero, kind)
    if kind == "cps":
        g = s_next * math.sin(noise_scale * math.pi / 2)
        clean, noisy = z - s * v, z + (1 - s) * v
        return Step((1 - s_next) * clean + (s_next**2 - g**2).sqrt() * noisy, g, g, kind)
    g = noise_scale * (s / (1 - s.clamp(max=sigma_max))).sqrt()
    share = g**2 / (2 * s)
    mean = z * (1 + share * d) + d * (v * (1 + share * (1 - s)))
    return Step(mean, g * (-d).sqrt(), g, kind)


def clipped_loss(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Return ``max(-A rho, -A clip(rho, 1 - eps, 1 + eps))``: [B]."""
    return torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip))


def divergence(step: Step, reference: Step, kind: Literal["code", "paper"]) -> Tensor:
    """Return the divergence from the reference's step, a mean over elements: [B].

    Two normals of one deviation differ by ``|mean - mean_ref|^2 / (2 std^2)``: ``paper``. ``code``
    has g^2 for std^2, without the length of the step, and for cps the squared distance alone.
    """
    distance = (step.mean - reference.mean).square()
    if kind == "paper":
        distance = distance / (2 * step.std**2)
    elif step.kind == "sde":
        distance = distance / (2 * step.noise**2)
    return distance.mean(dim=(1, 2, 3))


def plan_of(
    kind: Kind, steps: int, window: int, window_range: float, trained_share: float, place: float
) -> tuple[list[Kind], list[int]]:
    """Return the kind of each step of a rollout, and the numbers of those that are trained on.

    ``place`` in [0, 1) says where a window begins.
    """
    if not window:
        # The last step of cps adds no noise: no probability to train on.
        most = steps - 1 if kind == "cps" else steps
        return [kind] * steps, list(range(min(int(trained_share * steps), most)))
    starts = int(window_range * steps) - window + 1
    first = int(place * starts)
    trained = list(range(first, first + window))
    return [kind if i in trained else "ode" for i in range(steps)], trained

"""Flow-GRPO (Liu et al., arXiv 2505.05470): its steps and loss as pure functions, its objective.

States and velocities are float32 [B, C, H, W], noise levels float32 [B] in [0, 1]; a step goes from
``sigma`` down to ``sigma_next``. docs/rewards.md has all of it in these names.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from training.draws import key
from training.objectives.objective import Pass
from training.objectives.on_rollouts import REFERENCE, OnRollouts
from training.rollouts import Noise, Samples, guided_velocity
from training.sections import FlowGrpo
from training.step import Batch

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


def plan_of(settings: FlowGrpo, place: float) -> tuple[list[Kind], list[int]]:
    """Return the kind of each step of a rollout, and the numbers of those that are trained on.

    ``place`` in [0, 1) says where a window begins.
    """
    kind, steps, window = settings.step, settings.steps, settings.window
    if not window:
        return [kind] * steps, list(range(settings.trained_steps))
    first = int(place * (settings.window_steps - window + 1))
    trained = list(range(first, first + window))
    return [kind if i in trained else "ode" for i in range(steps)], trained


@dataclass
class GrpoObjective(OnRollouts):
    """Flow-GRPO."""

    settings: FlowGrpo

    def plan(self, number: int) -> tuple[list[Kind], list[int]]:
        """Return the kinds of the steps of rollout ``number``, and the trained ones."""
        place = random.Random(key(self.seed, "window", number)).random()
        return plan_of(self.settings, place)

    def sample(self, batch: Batch, noise: Noise, number: int) -> dict[str, Tensor]:
        """Make samples; keep the states around trained steps and the steps' log-probabilities."""
        kinds, trained = self.plan(number)
        z = noise()
        states: list[Tensor] = []
        log_probs: list[Tensor] = []
        for i, kind in enumerate(kinds):
            step = self._step(batch, z, i, kind)
            z_next = step.sample(noise()) if kind != "ode" else step.mean
            if i in trained:
                states += [z] if not states else []
                states.append(z_next)
                log_probs.append(step.log_prob(z_next))
            z = z_next
        index = torch.tensor(trained).expand(len(z), -1)
        return {
            "z0": z,
            "states": torch.stack(states, dim=1),
            "log_probs": torch.stack(log_probs, dim=1),
            "trained": index,
        }

    def _step(self, batch: Batch, z: Tensor, i: int, kind: Kind) -> Step:
        v = guided_velocity(batch, z, self.levels[i], self.settings.guidance)
        sigma, sigma_next = (z.new_full((len(z),), x) for x in self.levels[i : i + 2])
        return step_of(kind, z, v, sigma, sigma_next, self.settings.noise_scale, self.levels[1])

    def passes(self, batch: Samples) -> int:
        return batch.tensors["log_probs"].shape[1]

    def run(self, batch: Samples) -> Iterator[Pass]:
        s, t = self.settings, batch.tensors
        steps = t["trained"][0].tolist()
        # Where the reference has no weight one step shows the drift from it.
        seen = len(steps) if s.kl_weight else 1
        with self.copies.as_weights(REFERENCE), torch.no_grad():
            references = [
                self._step(batch.batch, t["states"][:, n], i, s.step)
                for n, i in enumerate(steps[:seen])
            ]
        weight = t["used"].float()
        for n, i in enumerate(steps):
            step = self._step(batch.batch, t["states"][:, n], i, s.step)
            ratio = (step.log_prob(t["states"][:, n + 1]) - t["log_probs"][:, n]).exp()
            policy = (weight * clipped_loss(ratio, t["advantage"], s.clip)).sum()
            off = (ratio.detach() - 1).abs()
            sums = {
                "policy": policy,
                "ratio_off": (weight * off).sum(),
                "clipped": (weight * (off > s.clip)).sum(),
            }
            loss = policy
            if n < seen:
                kl = (weight * divergence(step, references[n], s.kl)).sum()
                sums["kl"] = kl * (len(steps) / seen)
                loss = policy + s.kl_weight * kl if s.kl_weight else policy
            yield Pass(loss, sums)

    def figures(self, sums: Mapping[str, float], counts: Sequence[float]) -> dict[str, float]:
        means = {name: value / max(counts[0], 1) for name, value in sums.items()}
        return {
            "loss": means["policy"] + self.settings.kl_weight * means["kl"],
            "loss_policy": means["policy"],
            "kl": means["kl"],
            "ratio_off": means["ratio_off"],
            "clipped": means["clipped"],
            **self.rollouts.figures,
        }

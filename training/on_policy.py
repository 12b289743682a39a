"""Objectives on the model's own samples: Flow-GRPO and DiffusionNFT, as the loop asks for them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from training.copies import Copies
from training.flow_grpo import Step, clipped_loss, divergence, plan_of, step_of
from training.method import Pass
from training.nft import nft_loss, old_decay, optimality
from training.objectives import interpolate
from training.rollouts import Noise, Rollouts, Samples, guided_velocity, walk
from training.sections import FlowGrpo, Nft
from training.step import Batch, key

REFERENCE, OLD = "reference", "old"


@dataclass
class _OnRollouts:
    """What both share."""

    rollouts: Rollouts
    copies: Copies
    #: of the sampler, from 1 down to 0: steps + 1 of them
    levels: Sequence[float]
    seed: int

    def batches(self, step: int) -> list[Samples]:
        return self.rollouts.at(step, self)

    def divisor(self, counts: Sequence[float]) -> float:
        return max(counts[0], 1.0)

    def state(self, done: int) -> Mapping[str, Any]:
        return self.rollouts.state() if self.has_state(done) else {}

    def has_state(self, done: int) -> bool:
        return done % self.rollouts.settings.updates != 0

    def load(self, state: Mapping[str, Any]) -> None:
        self.rollouts.load(state)

    def policy(self) -> AbstractContextManager[None]:
        """The current weights."""
        return nullcontext()

    def sample(self, batch: Batch, noise: Noise, number: int) -> dict[str, Tensor]:
        raise NotImplementedError


@dataclass
class GrpoObjective(_OnRollouts):
    """Flow-GRPO."""

    settings: FlowGrpo

    def plan(self, number: int) -> tuple[list[Any], list[int]]:
        """Return the kinds of the steps of rollout ``number``, and the trained ones."""
        s = self.settings
        place = random.Random(key(self.seed, "window", number)).random()
        return plan_of(s.step, s.steps, s.window, s.window_range, s.trained_share, place)

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

    def _step(self, batch: Batch, z: Tensor, i: int, kind: Any) -> Step:
        v = guided_velocity(batch, z, self.levels[i], self.settings.guidance)
        sigma, sigma_next = (z.new_full((len(z),), x) for x in self.levels[i : i + 2])
        return step_of(kind, z, v, sigma, sigma_next, self.settings.noise_scale, self.levels[1])

    def counts(self, batches: Sequence[Samples]) -> list[float]:
        """Return the number of trained steps of samples that count."""
        return [float(sum(b.tensors["used"].sum().item() * self.passes(b) for b in batches))]

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

    def stepped(self, done: int) -> None:
        """Do nothing: the next rollout is the current model's."""


@dataclass
class NftObjective(_OnRollouts):
    """DiffusionNFT."""

    settings: Nft

    def policy(self) -> AbstractContextManager[None]:
        return self.copies.as_weights(OLD)

    def sample(self, batch: Batch, noise: Noise, number: int) -> dict[str, Tensor]:
        """Make samples by the plain sampler; draw the levels and noise that they are seen at."""
        z0 = walk(batch, noise(), self.levels, self.settings.guidance)
        count = int(self.settings.trained_share * self.settings.steps)
        order = random.Random(key(self.seed, "levels", number))
        levels = torch.tensor(order.sample(list(self.levels[:-1]), count)).expand(len(z0), -1)
        drawn = torch.stack([noise() for _ in range(count)], dim=1)
        return {"z0": z0, "levels": levels, "noise": drawn}

    def counts(self, batches: Sequence[Samples]) -> list[float]:
        """Return the number of states of samples that count."""
        return [float(sum(b.tensors["used"].sum().item() * self.passes(b) for b in batches))]

    def passes(self, batch: Samples) -> int:
        return batch.tensors["levels"].shape[1]

    def run(self, batch: Samples) -> Iterator[Pass]:
        s, t = self.settings, batch.tensors
        z0, weight = t["z0"], t["used"].float()
        levels = t["levels"].unbind(dim=1)
        states = [interpolate(z0, e, x) for e, x in zip(t["noise"].unbind(1), levels, strict=True)]
        others = []
        for name in (OLD, REFERENCE):
            with self.copies.as_weights(name), torch.no_grad():
                seen = zip(states, levels, strict=True)
                others.append([self._velocity(batch.batch, z, sigma) for z, sigma in seen])
        r = optimality(t["advantage"], s.advantage_clip)
        for z, sigma, v_old, v_reference in zip(states, levels, *others, strict=True):
            v = self._velocity(batch.batch, z, sigma)
            part = nft_loss(v, v_old, v_reference, z, sigma, z0, r, s.beta, s.advantage_clip)
            loss = part.policy + s.kl_weight * part.drift
            names = ("policy", "drift", "contrast")
            sums = {name: (weight * getattr(part, name)).sum() for name in names}
            yield Pass((weight * loss).sum(), sums)

    @staticmethod
    def _velocity(batch: Batch, z: Tensor, sigma: Tensor) -> Tensor:
        """Without guidance, whatever made the samples."""
        return batch.velocity(z, sigma, torch.arange(len(z), device=z.device), True).to(z)

    def figures(self, sums: Mapping[str, float], counts: Sequence[float]) -> dict[str, float]:
        means = {name: value / max(counts[0], 1) for name, value in sums.items()}
        return {
            "loss": means["policy"] + self.settings.kl_weight * means["drift"],
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

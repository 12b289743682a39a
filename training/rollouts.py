"""Rollouts: images that the model makes of prompts, in groups, with their rewards and advantages.

Everything random comes from (seed, rollout, prompt, member), and rewards of all processes are
brought together before advantages are made: neither depends on how many processes share the work.
Each process has whole groups. Samples are made in the micro-batches in which they are trained on,
so that the same passes give the same numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.advantages import advantages, combine
from training.data.encoding import Encoded
from training.data.order import rows_of_step
from training.data.prompts import Prompts
from training.deterministic import where_possible
from training.draws import key
from training.encoders import decode_images
from training.objectives.flow import guided, ode_step
from training.parallel import Parallel
from training.rewards import Rewards
from training.sections import OnPolicy
from training.step import Batch
from training.types import Config, TrainingError


class RolloutStopped(Exception):
    """A signal asked the run to end while samples were made; none is kept."""


#: Draws standard normal noise [B, C, h, w], another one at each call.
Noise = Callable[[], Tensor]


class Maker(ABC):
    """How an objective makes samples."""

    def policy(self) -> AbstractContextManager[None]:
        """In it the model has the weights to roll out with: as it is, the current ones."""
        return nullcontext()

    @abstractmethod
    def sample(self, batch: Batch, noise: Noise, number: int) -> dict[str, Tensor]:
        """Make a micro-batch of rollout ``number``: ``z0`` and what training needs, [B, ...]."""


@dataclass(frozen=True)
class Samples:
    """A micro-batch of a rollout."""

    batch: Batch
    #: by name, each [B, ...]: ``z0``, ``advantage``, ``used``, and what the objective's own are
    tensors: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.tensors["advantage"])


@dataclass
class Rollouts:
    """The rollouts of one process, made when their first step comes."""

    config: Config
    prompts: Prompts
    data: Encoded
    rewards: Rewards
    parallel: Parallel
    model: torch.nn.Module
    vae: Any
    train_timesteps: int
    #: C, h, w
    shape: tuple[int, ...]
    #: asks all processes whether one of them was asked to end
    stopping: Callable[[], bool]
    #: hears what a person should know
    note: Callable[[str], None]
    #: of the rollout under way, by micro-batch; the captions, states and advantages of each
    made: list[dict[str, Tensor]] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def settings(self) -> OnPolicy:
        return self.config.rollouts

    def at(self, step: int, maker: Maker) -> list[Samples]:
        """Return this process's micro-batches of a step; RolloutStopped if a signal came before."""
        number, update = divmod(step, self.settings.updates)
        if update == 0:
            self._make(number, maker)
        size = self.config.accumulate
        return [self._samples(part) for part in self.made[update * size : (update + 1) * size]]

    def state(self) -> dict[str, Any]:
        """Return the rollout under way."""
        made = [{name: t.cpu() for name, t in part.items()} for part in self.made]
        return {"made": made, "figures": self.figures}

    def load(self, state: Mapping[str, Any]) -> None:
        self.made, self.figures = state["made"], state["figures"]

    def _samples(self, part: Mapping[str, Tensor]) -> Samples:
        tensors = {name: tensor.to(self.parallel.device) for name, tensor in part.items()}
        return Samples(self._batch(tensors["prompt"].cpu()), tensors)

    def _batch(self, prompts: Tensor) -> Batch:
        device = self.parallel.device
        return caption_batch(self.data, prompts, self.model, self.train_timesteps, device)

    def _order(self) -> list[tuple[int, int]]:
        """This process's (prompt, member) in the order of their steps: every step takes members of
        each group.
        """
        updates, group = self.settings.updates, self.settings.group
        own = range(self._own_prompts)
        return [(p, m) for u in range(updates) for p in own for m in range(u, group, updates)]

    @property
    def _own_prompts(self) -> int:
        """Prompts of this process in a rollout."""
        per_step = self.config.batch_size * self.config.accumulate
        return per_step * self.settings.updates // self.settings.group

    def _make(self, number: int, maker: Maker) -> None:
        """Make rollout ``number``."""
        own, group, rank = self._own_prompts, self.settings.group, self.parallel.rank
        prompts = own * self.parallel.count
        rows = rows_of_step(len(self.prompts), prompts, number, self.config.seed).tolist()
        first = rank * own
        order, size = self._order(), self.config.batch_size
        raw = {name: np.full((own, group), np.nan) for name in self.rewards.names}
        made = []
        with maker.policy(), torch.no_grad():
            for start in range(0, len(order), size):
                if self.stopping():
                    raise RolloutStopped
                members = order[start : start + size]
                texts = [self.prompts.texts[rows[first + p]] for p, _ in members]
                metadata = [self.prompts.metadata[rows[first + p]] for p, _ in members]
                numbers = torch.tensor([rows[first + p] for p, _ in members])
                noise = self._noise(number, [(first + p, m) for p, m in members])
                tensors = maker.sample(self._batch(numbers), noise, number)
                images = decode_images(self.vae, tensors["z0"])
                for name, values in self._rewards(images, texts, metadata).items():
                    for (p, m), value in zip(members, values, strict=True):
                        raw[name][p, m] = value
                made.append({"prompt": numbers, **tensors})
        self._judge(made, raw, first, own)

    def _rewards(
        self, images: np.ndarray, texts: Sequence[str], metadata: Sequence[Mapping[str, Any]]
    ) -> dict[str, np.ndarray]:
        """Return each reward's values, NaN where one is no finite number."""
        with where_possible():
            rewards = self.rewards(images, texts, metadata)
        values = {name: np.asarray(given, np.float64) for name, given in rewards.items()}
        for name in self.rewards.names:
            shape = values[name].shape if name in values else None
            if shape != (len(images),):
                given = f"an array of shape {shape}" if shape is not None else "nothing"
                raise TrainingError(
                    f"the reward {name} must give a number for each of {len(images)} images, but "
                    f"gave {given}"
                )
        return {
            name: np.where(np.isfinite(values[name]), values[name], np.nan)
            for name in self.rewards.names
        }

    def _noise(self, number: int, members: Sequence[tuple[int, int]]) -> Noise:
        generators = [
            torch.Generator().manual_seed(key(self.config.seed, "rollout", number, prompt, member))
            for prompt, member in members
        ]

        def draw() -> Tensor:
            drawn = [torch.randn(self.shape, generator=generator) for generator in generators]
            return torch.stack(drawn).to(self.parallel.device)

        return draw

    def _judge(
        self, made: list[dict[str, Tensor]], raw: Mapping[str, np.ndarray], first: int, own: int
    ) -> None:
        """Set ``made`` and ``figures``, with advantages from the rewards of all processes."""
        everywhere = {name: self._gathered(values, first) for name, values in raw.items()}
        for name, values in everywhere.items():
            if np.isnan(values).all():
                reason = self.rewards.reason(name)
                raise TrainingError(
                    f"the reward {name} scored none of the {values.size} images of a rollout"
                    f"{f' ({reason})' if reason else ''}: without rewards there is nothing to learn"
                )
        config, settings = self.config, self.settings
        total = combine(everywhere, config.rewards, config.reward_scaling)
        if np.isnan(total).all():
            raise TrainingError(
                f"none of the {total.size} images of a rollout was scored by all of "
                f"{', '.join(everywhere)}, so that none has a sum of rewards to learn from: train "
                "on prompts that each of them can judge, or leave one out"
            )
        values, used = advantages(total, settings.deviation, settings.advantage_clip)
        places = self._order()
        for start, part in zip(range(0, len(places), config.batch_size), made, strict=True):
            members = places[start : start + config.batch_size]
            part["advantage"] = torch.tensor([values[first + p, m] for p, m in members]).float()
            part["used"] = torch.tensor([bool(used[first + p, m]) for p, m in members])
        self.made = made
        if not used.any():
            self.note(
                "no group of this rollout has rewards that differ, so nothing is learnt from it: "
                "take other prompts, larger groups or a finer reward"
            )
        self.figures = {"flat_groups": float(1 - used.any(axis=1).mean())}
        for name, each in everywhere.items():
            self.figures[f"reward_{name}"] = float(np.nanmean(each))
            self.figures[f"reward_{name}_std"] = float(np.nanstd(each))
            self.figures[f"reward_{name}_unscored"] = float(np.isnan(each).sum())

    def _gathered(self, values: np.ndarray, first: int) -> np.ndarray:
        """The values of all processes [P, G], in every process."""
        whole = np.zeros((2, len(values) * self.parallel.count, values.shape[1]))
        scored = ~np.isnan(values)
        whole[:, first : first + len(values)] = np.where(scored, values, 0.0), scored
        summed, counted = np.reshape(self.parallel.sum(*whole.ravel().tolist()), whole.shape)
        return np.where(counted > 0, summed, np.nan)


def caption_batch(
    data: Encoded,
    prompts: Tensor,
    model: torch.nn.Module,
    train_timesteps: int,
    device: torch.device,
) -> Batch:
    """The model as a velocity on prompts of these numbers; the batch has no pictures or draws."""
    embeds = (data.prompt_embeds, data.pooled_embeds)
    captions = data.captions[prompts]
    conditional = [e[captions].to(device) for e in embeds]
    empty = [e[data.empty_caption].to(device) for e in embeds]
    nothing = torch.empty(len(prompts), 0, device=device)
    return Batch(model, nothing, None, conditional, empty, train_timesteps)


def guided_velocity(batch: Batch, z: Tensor, sigma: float, guidance: float) -> Tensor:
    """The velocity that the sampler follows at a level that all of the batch share, float32."""
    levels, rows = z.new_full((len(z),), sigma), torch.arange(len(z), device=z.device)
    v = batch.velocity(z, levels, rows, True).to(z)
    if guidance == 1:
        return v
    return guided(v, batch.velocity(z, levels, rows, False).to(z), guidance)


def walk(batch: Batch, z: Tensor, levels: Sequence[float], guidance: float) -> Tensor:
    """The plain sampler from noise ``z`` down the levels: the last state."""
    for sigma, sigma_next in pairwise(levels):
        ends = z.new_full((len(z),), sigma), z.new_full((len(z),), sigma_next)
        z = ode_step(z, guided_velocity(batch, z, sigma, guidance), *ends)
    return z

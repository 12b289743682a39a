"""One step of training: the random draws of its batches, and the model on them.

Everything random comes from (seed, step, place in the global batch), of which each process draws
its part: which samples and which noise a step sees does not depend on how many processes share it.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Self

import torch

from training.data.encoding import Encoded
from training.draws import Random
from training.objectives.flow import draw_time
from training.types import Config


class AnyDraws(typing.Protocol):
    """Everything random in an objective of some samples, drawn beforehand."""

    def samples(self, which: slice) -> Self: ...

    def to(self, device: torch.device) -> Self: ...


#: From noise [B, C, H, W], times [B] and the streams of the samples to an objective's draws.
Draw = Callable[[torch.Tensor, torch.Tensor, Random], AnyDraws]


class Batch:
    """A micro-batch of one process, and the model as a velocity on it."""

    def __init__(
        self,
        model: torch.nn.Module,
        z0: torch.Tensor,
        draws: Any,
        conditional: Sequence[torch.Tensor],
        empty: Sequence[torch.Tensor],
        train_timesteps: int,
    ) -> None:
        """All on the model's device. ``conditional`` are the captions' token and pooled embeddings
        [B, ...], ``empty`` [...] those of no caption.
        """
        self.z0, self.draws = z0, draws
        self._model, self._conditional, self._empty = model, conditional, empty
        self._train_timesteps = train_timesteps

    def velocity(
        self, z: torch.Tensor, sigma: torch.Tensor, rows: torch.Tensor, conditional: bool
    ) -> torch.Tensor:
        """See training.objectives.flow.Velocity. Without gradients, as in sampling, no dropout."""
        if conditional:
            embeds, pooled = (e[rows] for e in self._conditional)
        else:
            embeds, pooled = (e.expand(len(rows), *e.shape) for e in self._empty)
        with nullcontext() if torch.is_grad_enabled() else _as_sampled(self._model):
            prediction: torch.Tensor = self._model(
                hidden_states=z,
                timestep=sigma * self._train_timesteps,
                encoder_hidden_states=embeds,
                pooled_projections=pooled,
                return_dict=False,
            )[0]
        return prediction


#: From a step's number and what an objective draws to this process's micro-batches of the step.
DrawBatches = Callable[[int, Draw], list[Batch]]


@dataclass(frozen=True)
class Drawn:
    """A micro-batch on the CPU, before it is sent to the model."""

    z0: torch.Tensor  # [B, C, H, W]
    draws: AnyDraws
    conditional: list[torch.Tensor]  # token and pooled embeddings of the captions [B, ...]
    empty: list[torch.Tensor]  # [...], those of no caption

    def batch(self, model: torch.nn.Module, train_timesteps: int, device: torch.device) -> Batch:
        """Return the micro-batch on the model's device."""
        conditional, empty = ([e.to(device) for e in es] for es in (self.conditional, self.empty))
        z0, draws = self.z0.to(device), self.draws.to(device)
        return Batch(model, z0, draws, conditional, empty, train_timesteps)


def draw_step(
    config: Config, data: Encoded, rank: int, processes: int, step: int, draw: Draw
) -> list[Drawn]:
    """Draw a process's part of a step, cut into micro-batches.

    Pictures, noise, times and dropped captions are the same for every objective; ``draw`` draws
    what only one of them needs.
    """
    size = config.batch_size
    share = size * config.accumulate
    places = range(rank * share, (rank + 1) * share)
    rows = data.rows_of_step(share * processes, step, config.seed)[places.start : places.stop]
    random = Random(config.seed, step, places)
    # What all objectives draw comes first, so that every one of them sees the same.
    z1 = random.normal(*data.latents[rows[:1]].shape[1:])
    t0 = draw_time(config.noise, random)
    dropped = random.uniform() < config.caption_dropout
    draws = draw(z1, t0, random)
    captions = data.captions[rows].masked_fill(dropped, data.empty_caption)
    embeds = (data.prompt_embeds, data.pooled_embeds)
    empty = [e[data.empty_caption] for e in embeds]
    return [
        Drawn(
            data.latents[rows[part]],
            draws.samples(part),
            [e[captions[part]] for e in embeds],
            empty,
        )
        for part in (slice(start, start + size) for start in range(0, share, size))
    ]


def draws_in_training(model: torch.nn.Module) -> bool:
    """Whether a pass with gradients is another than the sampler's: whether dropout is at work."""
    kinds = (torch.nn.Dropout, torch.nn.Dropout1d, torch.nn.Dropout2d, torch.nn.Dropout3d)
    return any(isinstance(part, kinds) and part.p > 0 for part in model.modules())


@contextmanager
def _as_sampled(model: torch.nn.Module) -> Iterator[None]:
    """The model without dropout, where it has any."""
    if not (model.training and draws_in_training(model)):
        yield
        return
    model.eval()
    try:
        yield
    finally:
        model.train()

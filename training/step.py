"""One step of training: the random draws of its batches, and the model on them.

Everything random comes from (seed, step) and is drawn for the global batch, of which each process
takes its part: which samples and which noise a step sees does not depend on how many processes
share it.
"""

from __future__ import annotations

import hashlib
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch

from training.data.encoding import Encoded
from training.objectives.flow import draw_time
from training.types import Config


def key(*parts: object) -> int:
    """A random seed, 63 bits, that depends on the parts alone."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class AnyDraws(typing.Protocol):
    """Everything random in an objective of some samples, drawn beforehand."""

    def samples(self, which: slice) -> Self: ...

    def to(self, device: torch.device) -> Self: ...


#: From noise [B, C, H, W], times [B] and a generator to the rest of what an objective draws.
Draw = Callable[[torch.Tensor, torch.Tensor, torch.Generator], AnyDraws]


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
    total = share * processes
    rows = data.rows_of_step(total, step, config.seed)
    # Drawn on the CPU in a fixed order, so that every device and every method sees the same.
    generator = torch.Generator().manual_seed(key(config.seed, step, 0))
    z1 = torch.randn((total, *data.latents[rows[:1]].shape[1:]), generator=generator)
    t0 = draw_time(total, config.noise, generator)
    dropped = torch.rand(total, generator=generator) < config.caption_dropout
    draws = draw(z1, t0, generator)
    captions = data.captions[rows].masked_fill(dropped, data.empty_caption)
    embeds = (data.prompt_embeds, data.pooled_embeds)
    empty = [e[data.empty_caption] for e in embeds]
    first = rank * share
    return [
        Drawn(
            data.latents[rows[part]],
            _copied(draws.samples(part)),
            [e[captions[part]] for e in embeds],
            empty,
        )
        for part in (slice(start, start + size) for start in range(first, first + share, size))
    ]


def _copied(draws: Any) -> Any:
    """Return a copy, so that the other processes' part leaves memory at once."""
    values = {field.name: getattr(draws, field.name) for field in fields(draws)}
    copies = {n: v.clone() for n, v in values.items() if isinstance(v, torch.Tensor)}
    return replace(draws, **copies)


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

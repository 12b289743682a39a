"""One step of training: its random draws, and the gradient of its loss.

Everything random comes from (seed, step) and is drawn for the global batch, of which each process
takes its part: which samples and which noise a step sees does not depend on how many processes
share it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch

from training.data.encoding import Encoded
from training.objectives import (
    Draws,
    LossSums,
    count_points,
    count_terms,
    draw_paths,
    draw_time,
    normaliser,
    soar_terms,
)
from training.parallel import Parallel
from training.types import Config, Soar


def key(*parts: object) -> int:
    """A random seed, 63 bits, that depends on the parts alone."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Batch:
    """A micro-batch of one process, and the model as a velocity on it."""

    def __init__(
        self,
        model: torch.nn.Module,
        z0: torch.Tensor,
        draws: Draws,
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
        """See training.objectives.Velocity. Without gradients, as in sampling, no dropout."""
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


def draw_batches(
    config: Config,
    data: Encoded,
    parallel: Parallel,
    step: int,
    train_timesteps: int,
    model: torch.nn.Module,
) -> list[Batch]:
    """Draw a process's part of a step, cut into micro-batches."""
    size, device = config.batch_size, parallel.device
    share = size * config.accumulate
    total = share * parallel.count
    rows = data.rows_of_step(total, step, config.seed)
    # Drawn on the CPU in a fixed order, so that every device and every method sees the same.
    generator = torch.Generator().manual_seed(key(config.seed, step, 0))
    z1 = torch.randn((total, *data.latents[rows[:1]].shape[1:]), generator=generator)
    t0 = draw_time(total, config.noise, generator)
    dropped = torch.rand(total, generator=generator) < config.caption_dropout
    draws = Draws(z1, t0, *draw_paths(z1, config.soar, generator))
    captions = data.captions[rows].masked_fill(dropped, data.empty_caption)
    embeds = (data.prompt_embeds, data.pooled_embeds)
    empty = [e[data.empty_caption].to(device) for e in embeds]
    first = parallel.rank * share
    return [
        Batch(
            model,
            data.latents[rows[part]].to(device),
            draws.samples(part).to(device),
            [e[captions[part]].to(device) for e in embeds],
            empty,
            train_timesteps,
        )
        for part in (slice(start, start + size) for start in range(first, first + share, size))
    ]


def add_gradients(
    parallel: Parallel,
    model: torch.nn.Module,
    batches: Sequence[Batch],
    shift: float,
    settings: Soar,
    counts: tuple[float, float],
    reuse: bool = True,
) -> LossSums:
    """Add the gradient of the loss over all processes' batches, one forward pass at a time.

    ``counts`` are n_base and n_aux of all micro-batches and processes. ``reuse`` is that of
    ``soar_terms``. Returns this process's sums, without their graphs.
    """
    # The wrapper averages gradients over processes, hence the factor.
    total, factor = normaliser(settings.weight, *counts), parallel.count
    passes_left = sum(count_terms(len(batch.z0), settings) for batch in batches)
    zero = torch.zeros((), device=parallel.device)
    base, auxiliary = zero, zero
    for batch in batches:
        terms = soar_terms(batch.velocity, batch.z0, batch.draws, shift, settings, reuse)
        # Counted, since the last pass has to be known as such before it runs.
        for _ in range(count_terms(len(batch.z0), settings)):
            passes_left -= 1
            with parallel.one_pass(model, last=passes_left == 0):
                term = next(terms)
                weight = settings.weight if term.auxiliary else 1
                parallel.backward(weight * term.sum / total * factor)
            if term.auxiliary:
                auxiliary = auxiliary + term.sum.detach()
            else:
                base = base + term.sum.detach()
    return LossSums(base, auxiliary, *count(batches, settings))


def count(batches: Sequence[Batch], settings: Soar) -> tuple[int, int]:
    """n_base and n_aux of these batches."""
    points = [count_points(batch.draws.t0, settings) for batch in batches]
    return sum(base for base, _ in points), sum(auxiliary for _, auxiliary in points)


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

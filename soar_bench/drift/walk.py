"""The probe on one batch: walks of the sampler from ideal states, and the errors along them.

Pure functions over a velocity model, in the symbols of docs/method.md. Latents are float32
[B, C, H, W]. ``sigmas`` is the sampler's table, float32 [N + 1], falling, with 0 at its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from training.objectives.flow import Velocity, corrected_target, guided, interpolate


class Errors(NamedTuple):
    """Squared errors of a batch, averaged over the latent's elements, float64.

    L inner levels, M lengths of walk, B samples. Where no walk of that length ends, nan.
    """

    #: |v(z_s') - (z1 - z0)|^2 at the ideal state of each level, [L, B]
    ideal: np.ndarray
    #: |v(z') - (z' - z0) / s'|^2 at the model's own state, [M, L, B]
    own: np.ndarray
    #: |z' - z_s'|^2, how far the own state is from the ideal one, [M, L, B]
    moved: np.ndarray


def inner_levels(sigmas: Tensor) -> list[int]:
    """Return the places in the table with 0 < sigma < 1.

    At 1 the state is noise alone and says nothing of the clean latent it was paired with; at 0
    nothing is left to predict.
    """
    return [i for i, sigma in enumerate(sigmas.tolist()) if 0 < sigma < 1]


def walk(
    velocity: Velocity, z: Tensor, sigmas: Tensor, start: int, guidance: float
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield the place in the table, the state and the conditional prediction at each Euler step of
    the sampler, from state ``z`` of level ``sigmas[start]`` to the lowest level above 0.

    As in the sampler a step is guided where guidance is above 1. Steps are computed when asked for.
    """
    rows = torch.arange(len(z), device=z.device)
    for i in range(start, len(sigmas) - 1):
        sigma = sigmas[i].expand(len(z))
        conditional = velocity(z, sigma, rows, True).float()
        yield i, z, conditional
        v = conditional
        if guidance > 1:
            v = guided(conditional, velocity(z, sigma, rows, False).float(), guidance)
        z = z + (sigmas[i + 1] - sigmas[i]) * v


@torch.no_grad()
def probe(
    velocity: Velocity,
    z0: Tensor,
    z1: Tensor,
    sigmas: Tensor,
    guidance: float,
    rolled: Sequence[int],
) -> Errors:
    """Walk from the ideal state of every inner level, and measure after ``rolled`` steps.

    ``z0`` are clean latents and ``z1`` noise; row i of the batch has caption i.
    """
    levels = inner_levels(sigmas)
    place = {i: row for row, i in enumerate(levels)}
    shape = (len(rolled), len(levels), len(z0))
    measured = Errors(np.zeros(shape[1:]), np.full(shape, np.nan), np.full(shape, np.nan))
    for start in levels:
        ideal = interpolate(z0, z1, sigmas[start].expand(len(z0)))
        for i, z, v in walk(velocity, ideal, sigmas, start, guidance):
            sigma, steps = sigmas[i].expand(len(z0)), i - start
            if steps == 0:
                measured.ideal[place[i]] = _squared(v - (z1 - z0))
            elif steps in rolled:
                m = list(rolled).index(steps)
                measured.own[m, place[i]] = _squared(v - corrected_target(z, sigma, z0))
                measured.moved[m, place[i]] = _squared(z - interpolate(z0, z1, sigma))
            if steps == max(rolled):
                break
    return measured


def _squared(difference: Tensor) -> np.ndarray:
    """Return the mean square over the latent's elements, float64 [B]."""
    means: np.ndarray = difference.cpu().double().square().mean(dim=(1, 2, 3)).numpy()
    return means

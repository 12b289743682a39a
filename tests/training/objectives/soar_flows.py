"""Flows whose velocity is known, and the objective's loss of a batch."""

from __future__ import annotations

import torch

from training.draws import Random
from training.objectives.soar import (
    Draws,
    LossSums,
    count_points,
    count_terms,
    draw_paths,
    draw_soar,
    soar_terms,
)

SHAPE = (2, 4, 4)


def noise(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def streams(count: int, seed: int = 0) -> Random:
    return Random(seed, 0, range(count))


def soar_loss(velocity, z0, z1, t0, shift, settings, seed=0, reuse=True) -> LossSums:
    """All terms of one batch."""
    draws = Draws(z1, t0, *draw_paths(z1, settings, streams(len(z1), seed)))
    base, *auxiliary = soar_terms(velocity, z0, draws, shift, settings, reuse)
    assert not base.auxiliary
    assert all(term.auxiliary for term in auxiliary)
    assert 1 + len(auxiliary) == count_terms(len(z0), settings)
    total = sum((term.sum for term in auxiliary), torch.zeros(()))
    return LossSums(base.sum, total, *count_points(t0, settings))


class PointMass:
    """All data is one picture ``z0``: the perfect velocity at z is (z - z0) / sigma, whatever w."""

    def __init__(self, z0: torch.Tensor, error: float = 0.0) -> None:
        self.z0, self.error = z0, error

    def __call__(self, z, sigma, rows, conditional):
        return (z - self.z0) / sigma[:, None, None, None] + self.error


class Linear:
    """A velocity that depends on state, level, row and caption, written without torch modules."""

    def __call__(self, z, sigma, rows, conditional):
        bias = 0.1 * rows.to(z.dtype) if conditional else torch.full_like(sigma, -0.2)
        return 0.5 * z + (sigma**2 + bias)[:, None, None, None]


def points_of(settings, t0, seed=3):
    """What the auxiliary passes are asked: states, levels and rows, and the draws."""
    z0, z1 = noise(len(t0)), noise(len(t0), seed=1)
    draws = draw_soar(z1, t0, settings, streams(len(t0), seed))
    asked = []

    def velocity(z, sigma, rows, conditional):
        asked.append((z, sigma, rows))
        return Linear()(z, sigma, rows, conditional)

    list(soar_terms(velocity, z0, draws, 3.0, settings))
    return z0, draws, asked[-1]

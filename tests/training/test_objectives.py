"""The objective against flows whose velocity is known and against a transcription in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.objectives import (
    corrected_target,
    draw_time,
    guided,
    interpolate,
    renoise,
    shift_sigma,
    soar_loss,
)
from training.types import NoiseLevels, Soar

SHAPE = (2, 4, 4)


def noise(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class PointMass:
    """All data is one picture ``z0``: the perfect velocity at z is (z - z0) / sigma, whatever w."""

    def __init__(self, z0: torch.Tensor, error: float = 0.0) -> None:
        self.z0, self.error = z0, error

    def __call__(self, z, sigma, rows, conditional):
        return (z - self.z0) / sigma[:, None, None, None] + self.error


def test_perfect_model_on_a_point_mass_has_no_loss_at_all():
    picture = noise(1, seed=9)
    z0, z1 = picture.repeat(64, 1, 1, 1), noise(64, seed=1)
    t0 = draw_time(64, NoiseLevels(), generator(2))
    sums = soar_loss(PointMass(picture), z0, z1, t0, 3.0, Soar(points=5), generator(3))
    assert sums.base_points == 64
    assert sums.auxiliary_points == 320
    assert sums.base.item() / 64 < 1e-9
    assert sums.auxiliary.item() / 320 < 1e-6


def test_where_the_rollout_is_perfect_the_corrected_target_is_the_flow_target():
    z0, z1 = noise(16), noise(16, seed=1)
    sigma0, sigma1 = torch.full((16,), 0.7), torch.full((16,), 0.6)
    z = interpolate(z0, z1, sigma0) + (sigma1 - sigma0)[:, None, None, None] * (z1 - z0)
    torch.testing.assert_close(z, interpolate(z0, z1, sigma1), rtol=0, atol=1e-6)
    level = torch.rand(16, generator=generator()) * 0.4 + 0.6
    moved = renoise(z, sigma1, z1, level)
    torch.testing.assert_close(moved, interpolate(z0, z1, level), rtol=0, atol=1e-6)
    torch.testing.assert_close(corrected_target(moved, level, z0), z1 - z0, rtol=0, atol=1e-5)


def test_a_model_with_a_constant_error_gets_the_analytic_correction():
    """v = v* + e: it drifts by (s1 - s0) e, and at every state it is e from the way back."""
    picture = torch.zeros(1, *SHAPE)
    error, points, steps, shift = 0.3, 3, 10, 1.0
    z0, z1, t0 = torch.zeros(8, *SHAPE), noise(8, seed=4), torch.linspace(0.3, 0.9, 8)
    sums = soar_loss(
        PointMass(picture, error),
        z0,
        z1,
        t0,
        shift,
        Soar(points=points, rollout_steps=steps),
        generator(5),
    )
    assert sums.base.item() == pytest.approx(8 * error**2, rel=1e-5)
    # v(z') = z'/s' + e and v_corr = z'/s' for any z', so the error at every point is e itself.
    assert sums.auxiliary.item() == pytest.approx(8 * points * error**2, rel=1e-4)


class Linear:
    """A velocity that depends on state, level, row and caption, written without torch modules."""

    def __call__(self, z, sigma, rows, conditional):
        bias = 0.1 * rows.to(z.dtype) if conditional else torch.full_like(sigma, -0.2)
        return 0.5 * z + (sigma**2 + bias)[:, None, None, None]


def transcription(z0, z1, t0, shift, weight, points, n, w, fractions):
    """FACTS as plain numpy in float64, one sample and point at a time."""

    def v(z, s, row, conditional):
        return 0.5 * z + s**2 + (0.1 * row if conditional else -0.2)

    def sigma_of(t):
        return shift * t / (1 + (shift - 1) * t)

    base = auxiliary = 0.0
    for b in range(len(z0)):
        s0 = sigma_of(t0[b])
        zs = (1 - s0) * z0[b] + s0 * z1[b]
        base += ((v(zs, s0, b, True) - (z1[b] - z0[b])) ** 2).mean()
        vc, vu = v(zs, s0, b, True), v(zs, s0, b, False)
        s1 = sigma_of(max(t0[b] - 1 / n, 0))
        off = zs + (s1 - s0) * (vu + w * (vc - vu))
        for k in range(points):
            s = s1 + (1 - s1) * fractions[k, b]
            a = (s - s1) / (1 - s1)
            z = (1 - a) * off + a * z1[b]
            auxiliary += ((v(z, s, b, True) - (z - z0[b]) / s) ** 2).mean()
    return (base + weight * auxiliary) / (len(z0) + weight * points * len(z0))


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_loss_equals_an_independent_float64_transcription(shift, weight):
    count, points, n, w = 6, 4, 20, 4.5
    z0, z1 = noise(count).double(), noise(count, seed=1).double()
    t0 = torch.tensor([0.02, 0.05, 0.2, 0.5, 0.9, 0.999], dtype=torch.float64)
    settings = Soar(weight=weight, points=points, rollout_steps=n, guidance=w)
    sums = soar_loss(Linear(), z0.float(), z1.float(), t0.float(), shift, settings, generator(7))
    drawn = 1 - torch.rand(points * count, generator=generator(7))
    expected = transcription(
        z0.numpy(), z1.numpy(), t0.numpy(), shift, weight, points, n, w,
        drawn.double().numpy().reshape(points, count),
    )  # fmt: skip
    assert sums.loss(weight, count, points * count).item() == pytest.approx(expected, rel=2e-5)


def test_weight_zero_is_sft_bit_for_bit():
    z0, z1, t0 = noise(8), noise(8, seed=1), draw_time(8, NoiseLevels(), generator())
    sums = soar_loss(Linear(), z0, z1, t0, 3.0, Soar(weight=0), generator(1))
    sigma = shift_sigma(t0, 3.0)
    z = interpolate(z0, z1, sigma)
    plain = (Linear()(z, sigma, torch.arange(8), True) - (z1 - z0)).square().mean(
        (1, 2, 3)
    ).sum() / 8
    assert sums.auxiliary_points == 0
    assert torch.equal(sums.loss(0.0, 8, 0), plain)


class Counting(torch.nn.Module):
    """A tiny model that counts calls and whether each kept a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.5))
        self.calls: list[tuple[int, bool, bool]] = []

    def forward(self, z, sigma, rows, conditional):
        self.calls.append((len(z), conditional, torch.is_grad_enabled()))
        return self.scale * z


def test_the_rollout_keeps_no_graph_and_reuses_the_base_prediction():
    model = Counting()
    z0, z1, t0 = noise(4), noise(4, seed=1), torch.full((4,), 0.5)
    soar_loss(model, z0, z1, t0, 3.0, Soar(points=3), generator())
    assert model.calls == [(4, True, True), (4, False, False), (12, True, True)]


def test_the_gradient_does_not_flow_through_the_rollout():
    """d loss / d scale with the off-trajectory states held fixed, by hand."""
    model = Counting()
    z0, z1, t0 = noise(4), noise(4, seed=1), torch.full((4,), 0.5)
    sums = soar_loss(
        model, z0, z1, t0, 1.0, Soar(points=1, rollout_steps=4, guidance=2), generator()
    )
    (gradient,) = torch.autograd.grad(sums.auxiliary, model.scale)
    s0, s1 = 0.5, 0.25
    off = (1 - s0) * z0 + s0 * z1
    off = off + (s1 - s0) * 0.5 * off
    s = s1 + (1 - s1) * (1 - torch.rand(4, generator=generator()))[:, None, None, None]
    a = (s - s1) / (1 - s1)
    z = (1 - a) * off + a * z1
    by_hand = (2 * (0.5 * z - (z - z0) / s) * z).mean((1, 2, 3)).sum()
    assert gradient.item() == pytest.approx(by_hand.item(), rel=1e-4)


def test_levels_lie_between_the_rollout_and_pure_noise_and_respect_the_floor():
    seen = []

    def spy(z, sigma, rows, conditional):
        seen.append((sigma, rows))
        return torch.zeros_like(z)

    z0, z1 = noise(256), noise(256, seed=1)
    t0 = torch.linspace(1e-4, 0.9999, 256)
    soar_loss(spy, z0, z1, t0, 1.0, Soar(points=8, rollout_steps=10, sigma_floor=0.05), generator())
    sigma, rows = seen[-1]
    low = (t0 - 0.1).clamp(min=0.05)[rows]
    assert (sigma >= low).all()
    assert (sigma <= 1).all()
    fraction = (sigma - low) / (1 - low)
    assert fraction.mean().item() == pytest.approx(0.5, abs=0.02)
    assert fraction.var().item() == pytest.approx(1 / 12, abs=0.01)


def test_no_level_is_exactly_zero_without_a_floor():
    def spy(z, sigma, rows, conditional):
        assert (sigma > 0).all()
        return torch.zeros_like(z)

    t0 = torch.full((4096,), 1e-3)  # the rollout ends at sigma = 0
    z = torch.zeros(4096, 1, 1, 1)
    sums = soar_loss(spy, z, z, t0, 1.0, Soar(points=6, rollout_steps=40), generator())
    assert torch.isfinite(sums.auxiliary)


def test_times_are_logit_normal_and_the_shift_is_the_schedulers():
    t = draw_time(200_000, NoiseLevels(logit_mean=0.3, logit_std=0.8), generator())
    logit = torch.logit(t.double())
    assert logit.mean().item() == pytest.approx(0.3, abs=0.01)
    assert logit.std().item() == pytest.approx(0.8, abs=0.01)

    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)  # its table: 1000 shifted levels
    ours = shift_sigma(torch.arange(1000, 0, -1) / 1000, 3.0)
    np.testing.assert_allclose(ours.numpy(), scheduler.sigmas[:1000].numpy(), rtol=1e-6)


def test_guidance_scale_one_is_the_conditional_prediction():
    a, b = noise(2), noise(2, seed=1)
    torch.testing.assert_close(guided(a, b, 1.0), a)
    torch.testing.assert_close(guided(a, b, 4.5), b + 4.5 * (a - b))
    assert torch.equal(guided(a, b, 0.0), b)

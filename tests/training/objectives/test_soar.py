"""The loss against flows whose velocity is known and against a transcription in float64."""

from __future__ import annotations

import pytest
import torch
from soar_flows import SHAPE, Linear, PointMass, generator, noise, soar_loss, streams

from training.objectives.flow import corrected_target, draw_time, guided, interpolate, shift_sigma
from training.objectives.soar import Draws, draw_soar, renoise, soar_terms
from training.types import NoiseLevels, Soar


def test_perfect_model_on_a_point_mass_has_no_loss_at_all():
    picture = noise(1, seed=9)
    z0, z1 = picture.repeat(64, 1, 1, 1), noise(64, seed=1)
    t0 = draw_time(NoiseLevels(), streams(64, 2))
    sums = soar_loss(PointMass(picture), z0, z1, t0, 3.0, Soar(points=5), 3)
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
        5,
    )
    assert sums.base.item() == pytest.approx(8 * error**2, rel=1e-5)
    # v(z') = z'/s' + e and v_corr = z'/s' for any z', so the error at every point is e itself.
    assert sums.auxiliary.item() == pytest.approx(8 * points * error**2, rel=1e-4)


def transcription(z0, z1, t0, shift, weight, points, n, w, fractions):
    """The loss as plain numpy in float64, one sample and point at a time."""

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
    sums = soar_loss(Linear(), z0.float(), z1.float(), t0.float(), shift, settings, 7)
    drawn = 1 - streams(count, 7).uniform(points).T
    expected = transcription(
        z0.numpy(), z1.numpy(), t0.numpy(), shift, weight, points, n, w,
        drawn.double().numpy(),
    )  # fmt: skip
    assert sums.loss(weight, count, points * count).item() == pytest.approx(expected, rel=2e-5)


def test_weight_zero_is_sft_bit_for_bit():
    z0, z1, t0 = noise(8), noise(8, seed=1), draw_time(NoiseLevels(), streams(8))
    sums = soar_loss(Linear(), z0, z1, t0, 3.0, Soar(weight=0), 1)
    sigma = shift_sigma(t0, 3.0)
    z = interpolate(z0, z1, sigma)
    plain = (Linear()(z, sigma, torch.arange(8), True) - (z1 - z0)).square().mean(
        (1, 2, 3)
    ).sum() / 8
    assert sums.auxiliary_points == 0
    assert torch.equal(sums.loss(0.0, 8, 0), plain)


def test_the_loss_at_a_gaussians_perfect_velocity_is_the_analytic_one():
    """Data N(0, s^2): v* is linear in z, and so is all that follows; variances by hand."""
    deviation, t, steps, fraction = 0.5, 0.6, 10, 0.4

    def gain(sigma):  # v*(z) = E[z1 - z0 | z] = gain z
        variance = (1 - sigma) ** 2 * deviation**2 + sigma**2
        return (sigma - (1 - sigma) * deviation**2) / variance

    def velocity(z, sigma, rows, conditional):
        return z * gain(sigma[:1].item())

    z0 = deviation * torch.randn(64, 4, 32, 32, generator=generator(1))
    z1 = torch.randn(64, 4, 32, 32, generator=generator(2))
    draws = Draws(z1, torch.full((64,), t), torch.full((1, 1, 64), fraction), z1[:0][None][:0])
    base, auxiliary = soar_terms(
        velocity, z0, draws, 1.0, Soar(points=1, rollout_steps=steps, guidance=4.5)
    )

    def variance_of(on_z0, on_z1):
        return on_z0**2 * deviation**2 + on_z1**2

    g = gain(t)
    assert base.sum.item() / 64 == pytest.approx(variance_of(g * (1 - t) + 1, g * t - 1), rel=0.01)
    t1 = t - 1 / steps
    level = t1 + (1 - t1) * fraction
    keep = (1 + (t1 - t) * g) * (1 - fraction)  # of the first state, after step and re-noising
    on_z0, on_z1 = keep * (1 - t), keep * t + fraction
    g = gain(level)
    expected = variance_of(g * on_z0 - (on_z0 - 1) / level, g * on_z1 - on_z1 / level)
    assert auxiliary.sum.item() / 64 == pytest.approx(expected, rel=0.01)


def test_guidance_scale_one_is_the_conditional_prediction():
    a, b = noise(2), noise(2, seed=1)
    torch.testing.assert_close(guided(a, b, 1.0), a)
    torch.testing.assert_close(guided(a, b, 4.5), b + 4.5 * (a - b))
    assert torch.equal(guided(a, b, 0.0), b)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"update": "cps"}, "only stochastic paths use it"),
        ({"noise_scale": 0.3}, "only stochastic paths use it"),
        ({"paths": 2, "update": "sde", "noise_scale": 0.3}, "no noise scale"),
        ({"paths": 2, "update": "cps", "noise_scale": 1.5}, "at most 1"),
    ],
)
def test_a_setting_that_would_change_nothing_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Soar.model_validate(settings)


def test_the_defaults_are_the_published_recipe():
    assert Soar().model_dump() == {
        "weight": 1.0,
        "points": 6,
        "rollout_steps": 40,
        "guidance": 4.5,
        "paths": 1,
        "update": "flow_sde",
        "noise_scale": 0.5,
        "aux_chunk": "auto",
        "sigma_floor": 0.0,
        "upper_ratio": None,
        "shared_noise": True,
    }
    assert NoiseLevels().model_dump() == {"logit_mean": 0.0, "logit_std": 1.0}


def test_the_perfect_model_on_a_point_mass_has_no_loss_with_new_noise_either():
    picture = noise(1, seed=9)
    z0, z1 = picture.repeat(16, 1, 1, 1), noise(16, seed=1)
    t0 = draw_time(NoiseLevels(), streams(16, 2))
    settings = Soar(points=3, shared_noise=False, upper_ratio=1.2)
    draws = draw_soar(z1, t0, settings, streams(len(t0)))
    terms = list(soar_terms(PointMass(picture), z0, draws, 3.0, settings))
    assert sum(term.sum.item() for term in terms) < 1e-5

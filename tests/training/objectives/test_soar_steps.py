"""Stochastic steps and several paths, against formulas in float64."""

from __future__ import annotations

import math

import pytest
import torch
from soar_flows import Linear, generator, noise, soar_loss, streams

from training.objectives.soar import count_points, draw_paths, stochastic_step
from training.types import Soar

UPDATES = ("flow_sde", "cps", "sde", "simple")


def step_by_hand(update, z, v, s, s_next, e, eta, s_max=1.0):
    """One number at a time, from the released code of SOAR, Flow-GRPO and Flow-CPS."""
    dt = s_next - s
    if update == "simple":
        return z + v * dt + eta * math.sqrt(abs(dt)) * e
    if update == "sde":
        return (1 - s_next) * (z - s * v) + s_next * e
    if update == "flow_sde":
        std = math.sqrt(s / (1 - min(s, s_max))) * eta
        mean = z * (1 + std**2 / (2 * s) * dt) + v * (1 + std**2 * (1 - s) / (2 * s)) * dt
        return mean + std * math.sqrt(-dt) * e
    std = s_next * math.sin(eta * math.pi / 2)
    mean = (z - s * v) * (1 - s_next) + (z + v * (1 - s)) * math.sqrt(s_next**2 - std**2)
    return mean + std * e


@pytest.mark.parametrize("eta", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("update", UPDATES)
def test_stochastic_steps_equal_an_independent_float64_transcription(update, eta):
    z, v, e = (torch.randn(6, 1, 1, 2, generator=generator(n)) for n in range(3))
    s = torch.tensor([0.05, 0.3, 0.5, 0.8, 0.99, 1.0])
    s_next = torch.tensor([0.0, 0.25, 0.4, 0.79, 0.9, 0.97])
    top = 0.9997
    got = stochastic_step(z, v, s, s_next, e, update, eta, top).flatten(1)
    for i in range(6):
        for j in range(2):
            expected = step_by_hand(
                update,
                *(x.flatten(1)[i, j].double().item() for x in (z, v)),
                s[i].double().item(),
                s_next[i].double().item(),
                e.flatten(1)[i, j].double().item(),
                eta,
                top,
            )
            # At sigma = 1 flow_sde divides by 0.0003, which float32 knows to four digits.
            assert got[i, j].item() == pytest.approx(expected, rel=5e-4, abs=2e-5)


@pytest.mark.parametrize("update", ["flow_sde", "cps", "simple"])
def test_without_noise_a_stochastic_step_is_the_samplers_own(update):
    z, v, e = noise(3), noise(3, seed=1), noise(3, seed=2)
    s, s_next = torch.tensor([0.9, 0.5, 0.1]), torch.tensor([0.8, 0.4, 0.0])
    off = stochastic_step(z, v, s, s_next, e, update, 0.0, 0.999)
    torch.testing.assert_close(off, z + (s_next - s)[:, None, None, None] * v)


def coefficients(update, v_of, s, s_next, eta, top=0.9997):
    """(a, b) of ``z_next = a z + b e`` where the velocity is ``v_of * z``, in float64."""
    one, zero = torch.ones(1, 1, 1, 1).double(), torch.zeros(1, 1, 1, 1).double()
    s, s_next = (torch.tensor([x], dtype=torch.float64) for x in (s, s_next))

    def step(z, e):
        return stochastic_step(z, v_of * z, s, s_next, e, update, eta, top).item()

    return step(one, zero), step(zero, one)


@pytest.mark.parametrize(("s", "s_next"), [(0.9, 0.8), (0.5, 0.45), (0.1, 0.0)])
@pytest.mark.parametrize("update", UPDATES)
def test_about_a_point_mass_the_share_of_noise_is_what_each_scheme_says(update, s, s_next):
    """All data is 0 and v = z / sigma: a state of level sigma has variance sigma^2."""
    eta, d = 0.5, s - s_next
    a, b = coefficients(update, 1 / s, s, s_next, eta)
    variance = a**2 * s**2 + b**2
    c = eta**2 / (2 * (1 - s))
    excess = {"cps": 0.0, "sde": 0.0, "simple": eta**2 * d, "flow_sde": (2 * c + c**2) * d**2}
    assert variance == pytest.approx(s_next**2 + excess[update], rel=1e-9, abs=1e-12)


def test_a_small_flow_sde_step_keeps_the_variance_of_a_gaussian_flow_and_simple_does_not():
    """Data of deviation 0.6: the marginal at s has variance (1 - s)^2 0.36 + s^2."""

    def marginal(s):
        return (1 - s) ** 2 * 0.36 + s**2

    s, eta = 0.6, 0.5
    v_of = (s - (1 - s) * 0.36) / marginal(s)  # E[z1 - z0 | z] / z

    def drift_of_variance(update, d):
        a, b = coefficients(update, v_of, s, s - d, eta)
        return (a**2 * marginal(s) + b**2 - marginal(s - d)) / d

    for d in (1e-3, 1e-4):
        assert abs(drift_of_variance("flow_sde", d)) < 2 * d
        assert drift_of_variance("simple", d) == pytest.approx(eta**2, rel=5e-3)


def test_no_step_overflows_at_the_noise_end():
    z, v, e = noise(4), noise(4, seed=1), noise(4, seed=2)
    s = torch.tensor([1.0, 1 - 1e-7, 0.9999, 0.9998])
    for update in UPDATES:
        off = stochastic_step(z, v, s, s - 0.01, e, update, 0.5, 0.9997)
        assert torch.isfinite(off).all()
        assert off.abs().max() < 50


def with_paths(paths, update="flow_sde", t0=None):
    """Points of a spy on 4 samples, the first of which ends at sigma = 0."""
    seen = []

    def spy(z, sigma, rows, conditional):
        if conditional:
            seen.append((z, sigma, rows))
        return torch.zeros_like(z)

    settings = Soar(points=2, paths=paths, update=update, guidance=1)
    t0 = torch.tensor([0.01, 0.3, 0.6, 0.9]) if t0 is None else t0
    sums = soar_loss(spy, noise(4), noise(4, seed=1), t0, 3.0, settings)
    return sums, seen[1]


@pytest.mark.parametrize("update", UPDATES)
def test_the_first_path_is_the_odes_whatever_the_number_of_paths(update):
    _, (z, sigma, rows) = with_paths(1)
    _, (z3, sigma3, rows3) = with_paths(3, update)
    assert len(z3) == 3 * len(z)
    for one, three in ((z, z3), (sigma, sigma3), (rows, rows3)):
        assert torch.equal(one, three[: len(one)])
    assert not torch.equal(z3[8:16][rows3[8:16] > 0], z3[16:][rows3[16:] > 0]), "paths differ"


def test_samples_that_hit_zero_keep_the_ode_path_alone():
    settings = Soar(points=2, paths=3)
    assert count_points(torch.tensor([0.01, 0.3, 0.6, 0.9]), settings) == (4, 2 * (4 + 2 * 3))
    z0, z1 = noise(1), noise(1, seed=1)
    t0 = torch.tensor([0.01])
    one, three = (
        soar_loss(Linear(), z0, z1, t0, 3.0, Soar(points=2, paths=paths)) for paths in (1, 3)
    )
    assert three.auxiliary_points == one.auxiliary_points == 2
    assert torch.equal(one.auxiliary, three.auxiliary)


@pytest.mark.parametrize("update", UPDATES)
def test_several_paths_equal_an_independent_float64_transcription(update):
    count, points, paths, shift = 4, 2, 3, 3.0
    z0, z1 = noise(count).double(), noise(count, seed=1).double()
    t0 = torch.tensor([0.01, 0.3, 0.6, 0.9], dtype=torch.float64)
    settings = Soar(points=points, paths=paths, update=update, rollout_steps=20, guidance=2.0)
    fractions, extra = draw_paths(z1, settings, streams(len(z1), 7))
    sums = soar_loss(Linear(), z0.float(), z1.float(), t0.float(), shift, settings, 7)

    def v(z, s, row, conditional):
        return 0.5 * z + s**2 + (0.1 * row if conditional else -0.2)

    total, number = 0.0, 0
    for b in range(count):
        t1 = max(t0[b].item() - 1 / 20, 0)
        s0, s1 = (shift * t / (1 + (shift - 1) * t) for t in (t0[b].item(), t1))
        zs = (1 - s0) * z0[b] + s0 * z1[b]
        vu = v(zs, s0, b, False)
        v_cfg = vu + 2.0 * (v(zs, s0, b, True) - vu)
        for m in range(paths if t1 > 0 else 1):
            off = zs + (s1 - s0) * v_cfg
            if m:
                e = extra[m - 1, b].double()
                off = step_by_hand(update, zs, v_cfg, s0, s1, e, 0.5)
            for k in range(points):
                s = s1 + (1 - s1) * fractions[m, k, b].item()
                a = (s - s1) / (1 - s1)
                z = (1 - a) * off + a * z1[b]
                total += ((v(z, s, b, True) - (z - z0[b]) / s) ** 2).mean().item()
                number += 1
    assert sums.auxiliary_points == number
    assert sums.auxiliary.item() == pytest.approx(total, rel=1e-4)

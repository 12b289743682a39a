"""The objective against flows whose velocity is known and against a transcription in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from training.objectives.flow import (
    corrected_target,
    draw_time,
    guided,
    interpolate,
    shift_sigma,
)
from training.objectives.soar import (
    Draws,
    LossSums,
    count_points,
    count_terms,
    draw_paths,
    draw_soar,
    next_time,
    renoise,
    soar_terms,
    stochastic_step,
)
from training.types import NoiseLevels, Soar

UPDATES = ("flow_sde", "cps", "sde", "simple")

SHAPE = (2, 4, 4)


def noise(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def soar_loss(velocity, z0, z1, t0, shift, settings, generator, reuse=True) -> LossSums:
    """All terms of one batch."""
    draws = Draws(z1, t0, *draw_paths(z1, settings, generator))
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


def test_guidance_of_one_needs_no_pass_without_caption():
    model = Counting()
    z0, z1, t0 = noise(4), noise(4, seed=1), torch.full((4,), 0.5)
    soar_loss(model, z0, z1, t0, 3.0, Soar(points=3, guidance=1), generator())
    assert model.calls == [(4, True, True), (12, True, True)]


def test_without_reuse_the_conditional_half_is_asked_for_again():
    model = Counting()
    z0, z1, t0 = noise(4), noise(4, seed=1), torch.full((4,), 0.5)
    soar_loss(model, z0, z1, t0, 3.0, Soar(points=3), generator(), reuse=False)
    assert model.calls[1:3] == [(4, True, False), (4, False, False)]


def test_reuse_gives_what_asking_again_gives_bit_for_bit():
    z0, z1, t0 = noise(8), noise(8, seed=1), draw_time(8, NoiseLevels(), generator())
    with_it, without = (
        soar_loss(Linear(), z0, z1, t0, 3.0, Soar(), generator(), reuse=reuse)
        for reuse in (True, False)
    )
    assert torch.equal(with_it.auxiliary, without.auxiliary)


class Net(torch.nn.Module):
    """A small network whose activations are kept for the backward pass."""

    def __init__(self, dtype=torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        size = math.prod(SHAPE)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(size + 2, 64), torch.nn.SiLU(), torch.nn.Linear(64, size)
        ).to(dtype)

    def forward(self, z, sigma, rows, conditional):
        caption = (rows + 1.0).to(z.dtype) * conditional
        inputs = torch.cat([z.flatten(1), sigma[:, None], caption[:, None]], dim=1)
        return self.layers(inputs).view_as(z)


def gradients(model, z0, draws, settings, cut=1):
    """The gradient of the loss, a backward pass a term, over ``cut`` micro-batches."""
    model.zero_grad()
    n_base, n_aux = count_points(draws.t0, settings)
    size = len(z0) // cut
    for start in range(0, len(z0), size):
        part = slice(start, start + size)

        def velocity(z, sigma, rows, conditional, start=start):
            return model(z, sigma, rows + start, conditional)

        for term in soar_terms(velocity, z0[part], draws.samples(part), 3.0, settings):
            weight = settings.weight if term.auxiliary else 1
            (weight * term.sum / (n_base + settings.weight * n_aux)).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("paths", [1, 3])
@pytest.mark.parametrize("cut", [1, 2, 4])
@pytest.mark.parametrize("chunk", [0, 1, 5, 8, 1000])
def test_chunks_and_micro_batches_have_the_gradient_of_one_sum_in_float64(chunk, cut, paths):
    model, settings = Net(torch.float64), Soar(points=3, paths=paths, weight=0.7)
    z0, z1 = noise(8).double(), noise(8, seed=1).double()
    t0 = torch.tensor([0.01, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99], dtype=torch.float64)
    fractions, path_noise = draw_paths(z1, settings, generator())
    draws = Draws(z1, t0, fractions.double(), path_noise.double())

    # One loss, one backward, by hand.
    base, *auxiliary = soar_terms(model, z0, draws, 3.0, settings)
    n_aux = 3 * (8 + (paths - 1) * 6)  # two samples hit sigma = 0
    loss = (base.sum + 0.7 * sum(t.sum for t in auxiliary)) / (8 + 0.7 * n_aux)
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, model.parameters())])

    got = gradients(model, z0, draws, settings.model_copy(update={"aux_chunk": chunk}), cut)
    assert (got - expected).norm() <= 1e-12 * expected.norm()


def saved_bytes(make) -> int:
    """The most that tensors kept for backward passes take at any one time."""
    held, most = 0, 0

    class Kept:
        def __init__(self, tensor):
            nonlocal held, most
            self.tensor = tensor
            self.size = tensor.numel() * tensor.element_size()
            held += self.size
            most = max(most, held)

        def __del__(self):
            nonlocal held
            held -= self.size

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        make()
    return most


def test_no_more_is_held_for_the_backward_pass_than_one_chunk_keeps():
    model, settings = Net(), Soar(points=6)
    z0, z1 = noise(8), noise(8, seed=1)
    draws = Draws(z1, torch.full((8,), 0.5), *draw_paths(z1, settings, generator()))
    sft = saved_bytes(lambda: gradients(model, z0, draws, Soar(weight=0)))
    chunked = saved_bytes(
        lambda: gradients(model, z0, draws, settings.model_copy(update={"aux_chunk": 8}))
    )
    whole = saved_bytes(lambda: gradients(model, z0, draws, settings))
    assert sft > 0
    assert chunked <= 1.1 * sft
    assert whole > 3 * sft


def test_the_rollout_saves_no_tensor_for_a_backward_pass():
    model, settings = Net(), Soar()
    seen = []

    def velocity(z, sigma, rows, conditional):
        assert torch.is_grad_enabled() == conditional
        saved = saved_bytes(lambda: seen.append(model(z, sigma, rows, conditional)))
        assert (saved > 0) == conditional
        return seen[-1]

    z0, z1 = noise(4), noise(4, seed=1)
    draws = Draws(z1, torch.full((4,), 0.5), *draw_paths(z1, settings, generator()))
    terms = soar_terms(velocity, z0, draws, 3.0, settings)
    next(terms)
    next(terms)
    assert len(seen) == 3


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
    sums = soar_loss(spy, noise(4), noise(4, seed=1), t0, 3.0, settings, generator())
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
        soar_loss(Linear(), z0, z1, t0, 3.0, Soar(points=2, paths=paths), generator())
        for paths in (1, 3)
    )
    assert three.auxiliary_points == one.auxiliary_points == 2
    assert torch.equal(one.auxiliary, three.auxiliary)


@pytest.mark.parametrize("update", UPDATES)
def test_several_paths_equal_an_independent_float64_transcription(update):
    count, points, paths, shift = 4, 2, 3, 3.0
    z0, z1 = noise(count).double(), noise(count, seed=1).double()
    t0 = torch.tensor([0.01, 0.3, 0.6, 0.9], dtype=torch.float64)
    settings = Soar(points=points, paths=paths, update=update, rollout_steps=20, guidance=2.0)
    fractions, extra = draw_paths(z1, settings, generator(7))
    sums = soar_loss(Linear(), z0.float(), z1.float(), t0.float(), shift, settings, generator(7))

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


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_the_rollout_steps_down_the_schedulers_own_table(shift):
    """From entry i of its table of 1000 to entry i + 1000 / N, and to 0 at the end."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    table = FlowMatchEulerDiscreteScheduler(shift=shift).sigmas  # 1000 levels down
    table = torch.cat([table[:1000], torch.zeros(1)])  # and the end that it leaves out
    start = torch.arange(1000)
    t0 = 1 - start / 1000
    for steps in (10, 20, 40):
        sigma1 = shift_sigma(next_time(t0, steps), shift)
        end = (start + 1000 // steps).clamp(max=1000)
        np.testing.assert_allclose(sigma1.numpy(), table[end].numpy(), rtol=1e-5, atol=2e-7)


def test_a_rollout_step_is_nearly_one_of_the_samplers_own_n_levels():
    """diffusers spaces N levels by (1 - 0.003) / (N - 1) in t; the published rule says 1 / N."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(40)
    levels = scheduler.sigmas[:40]
    t = levels / (3 - 2 * levels)  # the shift undone
    spacing = (t[:-1] - t[1:]).numpy()
    np.testing.assert_allclose(spacing, (1 - 0.003) / 39, rtol=1e-3)
    ours = shift_sigma(next_time(t[:39], 40), 3.0)
    np.testing.assert_allclose(ours[:-1].numpy(), levels[1:-1].numpy(), atol=0.002)


def test_levels_stay_float32_and_distinct_where_bfloat16_would_merge_them():
    t = torch.arange(1, 1001) / 1000
    sigma = shift_sigma(t, 3.0)
    assert sigma.dtype == torch.float32
    assert len(sigma.unique()) == 1000
    assert len(sigma.bfloat16().unique()) < 500


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


def points_of(settings, t0, seed=3):
    """What the auxiliary passes are asked: states, levels and rows, and the draws."""
    z0, z1 = noise(len(t0)), noise(len(t0), seed=1)
    draws = draw_soar(z1, t0, settings, generator(seed))
    asked = []

    def velocity(z, sigma, rows, conditional):
        asked.append((z, sigma, rows))
        return Linear()(z, sigma, rows, conditional)

    list(soar_terms(velocity, z0, draws, 3.0, settings))
    return z0, draws, asked[-1]


def test_upper_ratio_ends_levels_at_a_multiple_of_the_samples_own():
    t0 = torch.tensor([0.02, 0.2, 0.5, 0.9])
    sigma0 = shift_sigma(t0, 3.0)
    wide = points_of(Soar(points=64), t0)[2][1].reshape(64, 4)
    near = points_of(Soar(points=64, upper_ratio=1.25), t0)[2][1].reshape(64, 4)
    sigma1 = shift_sigma(next_time(t0, 40), 3.0)
    top = (1.25 * sigma0).clamp(max=1)
    assert (near <= top + 1e-6).all()
    assert (near >= sigma1 - 1e-6).all()
    # The same draws, in a shorter range.
    expected = sigma1 + (wide - sigma1) / (1 - sigma1) * (top - sigma1)
    torch.testing.assert_close(near, expected, rtol=1e-5, atol=1e-6)
    # So large a ratio reaches 1 everywhere, as the default does.
    assert torch.equal(points_of(Soar(points=64, upper_ratio=1e3), t0)[2][0],
                       points_of(Soar(points=64), t0)[2][0])  # fmt: skip


def test_a_floor_above_the_upper_level_leaves_points_at_the_floor():
    settings = Soar(points=8, upper_ratio=1.0, sigma_floor=0.5)
    levels = points_of(settings, torch.tensor([0.01, 0.9]))[2][1].reshape(8, 2)
    torch.testing.assert_close(levels[:, 0], torch.full((8,), 0.5))


@pytest.mark.parametrize("paths", [1, 2])
def test_new_noise_is_the_end_of_each_paths_line_and_changes_no_other_draw(paths):
    t0 = torch.tensor([0.2, 0.5, 0.9])
    same = Soar(points=3, paths=paths)
    new = Soar(points=3, paths=paths, shared_noise=False)
    _, shared, (z_same, level, _) = points_of(same, t0)
    _, drawn, (z_new, level_new, _) = points_of(new, t0)
    assert shared.new_noise is None
    assert drawn.new_noise.shape == (paths, 3, *SHAPE)
    assert torch.equal(level, level_new)
    assert torch.equal(shared.path_noise, drawn.path_noise)
    assert not torch.equal(drawn.new_noise[0], drawn.z1)
    sigma1 = shift_sigma(next_time(t0, 40), 3.0).repeat(paths * 3)
    a = ((level - sigma1) / (1 - sigma1))[:, None, None, None]
    ends = drawn.new_noise.repeat_interleave(3, dim=0).flatten(0, 1)
    shift = a * (ends - drawn.z1.repeat(paths * 3, 1, 1, 1))
    torch.testing.assert_close(z_new - z_same, shift, rtol=1e-4, atol=1e-5)


def test_the_perfect_model_on_a_point_mass_has_no_loss_with_new_noise_either():
    picture = noise(1, seed=9)
    z0, z1 = picture.repeat(16, 1, 1, 1), noise(16, seed=1)
    t0 = draw_time(16, NoiseLevels(), generator(2))
    settings = Soar(points=3, shared_noise=False, upper_ratio=1.2)
    draws = draw_soar(z1, t0, settings, generator())
    terms = list(soar_terms(PointMass(picture), z0, draws, 3.0, settings))
    assert sum(term.sum.item() for term in terms) < 1e-5

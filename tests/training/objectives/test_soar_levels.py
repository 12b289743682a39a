"""The noise levels and the noise that the objective draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from soar_flows import SHAPE, noise, points_of, soar_loss, streams

from training.objectives.flow import draw_time, shift_sigma
from training.objectives.soar import next_time
from training.types import NoiseLevels, Soar


def test_levels_lie_between_the_rollout_and_pure_noise_and_respect_the_floor():
    seen = []

    def spy(z, sigma, rows, conditional):
        seen.append((sigma, rows))
        return torch.zeros_like(z)

    z0, z1 = noise(256), noise(256, seed=1)
    t0 = torch.linspace(1e-4, 0.9999, 256)
    soar_loss(spy, z0, z1, t0, 1.0, Soar(points=8, rollout_steps=10, sigma_floor=0.05))
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
    sums = soar_loss(spy, z, z, t0, 1.0, Soar(points=6, rollout_steps=40))
    assert torch.isfinite(sums.auxiliary)


def test_times_are_logit_normal_and_the_shift_is_the_schedulers():
    t = draw_time(NoiseLevels(logit_mean=0.3, logit_std=0.8), streams(100_000))
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

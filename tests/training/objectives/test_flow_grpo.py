"""Flow-GRPO's steps, probabilities and loss, against torch.distributions and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from training.advantages import EPSILON, advantages, combine
from training.copies import Copies
from training.objectives.flow import interpolate, ode_step
from training.objectives.flow_grpo import (
    GrpoObjective,
    clipped_loss,
    divergence,
    plan_of,
    step_of,
)
from training.objectives.on_rollouts import REFERENCE
from training.rollouts import Samples
from training.sections import FlowGrpo

SHAPE = (2, 4, 4)


class Slope(torch.nn.Module):
    """A model and a batch of it: the velocity is ``slope z``."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor(slope, dtype=torch.float64))

    def velocity(self, z, sigma, rows, conditional):
        assert conditional
        return self.slope * z


def noise(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def a_step(kind, scale, seed=1, v=None, z=None):
    sigma = torch.tensor([1.0, 0.9, 0.5, 0.2])
    z = noise(4) if z is None else z
    v = noise(4, seed) if v is None else v
    return z, v, sigma, sigma - 0.1, step_of(kind, z, v, sigma, sigma - 0.1, scale, 0.9)


def test_without_noise_the_sde_is_the_sampler_bit_for_bit():
    z, v, sigma, sigma_next, step = a_step("sde", 0.0)
    assert torch.equal(step.mean, ode_step(z, v, sigma, sigma_next))
    assert torch.equal(step.sample(noise(4, 5)), step.mean)
    assert torch.equal(a_step("ode", 0.7)[-1].sample(noise(4, 5)), step.mean)


def test_without_noise_cps_is_the_sampler():
    z, v, sigma, sigma_next, step = a_step("cps", 0.0)
    torch.testing.assert_close(step.mean, ode_step(z, v, sigma, sigma_next), rtol=1e-5, atol=1e-5)


def test_cps_keeps_the_marginal_of_a_point_mass():
    """From z = s e the state is s' times unit noise, whatever the scale."""
    sigma, sigma_next = torch.full((4000,), 0.8), torch.full((4000,), 0.55)
    e = noise(4000)
    z = interpolate(torch.zeros_like(e), e, sigma)
    step = step_of("cps", z, e, sigma, sigma_next, 0.8, 0.9)
    z_next = step.sample(noise(4000, 1))
    assert z_next.std().item() == pytest.approx(0.55, rel=0.01)
    assert z_next.mean().item() == pytest.approx(0, abs=0.01)


def test_the_sde_step_in_float64_by_hand():
    z, v, *_ = a_step("sde", 0.7)
    step = a_step("sde", 0.7)[-1]
    for row, s in enumerate([1.0, 0.9, 0.5, 0.2]):
        g = 0.7 * math.sqrt(s / (1 - min(s, 0.9)))
        x, u, d = z[row].double(), v[row].double(), -0.1
        mean = x * (1 + g**2 / (2 * s) * d) + u * (1 + g**2 * (1 - s) / (2 * s)) * d
        torch.testing.assert_close(step.mean[row].double(), mean, rtol=1e-5, atol=1e-5)
        assert step.std[row].item() == pytest.approx(g * math.sqrt(0.1), rel=1e-5)


def test_log_probabilities_are_those_of_a_normal_distribution():
    step = a_step("sde", 0.7)[-1]
    z_next = step.sample(noise(4, 3))
    normal = torch.distributions.Normal(step.mean, step.std.expand_as(step.mean))
    expected = normal.log_prob(z_next).mean(dim=(1, 2, 3))
    torch.testing.assert_close(step.log_prob(z_next), expected)


@pytest.mark.parametrize("kind", ["sde", "cps"])
def test_the_ratio_is_one_and_its_gradient_the_policy_gradient(kind):
    """d/dv of the loss at the old policy is -A d log p / dv, by hand for one normal variable."""
    v = noise(4, 1).double().requires_grad_()
    z = noise(4).double()
    sigma = torch.tensor([0.9, 0.8, 0.5, 0.2]).double()
    step = step_of(kind, z, v, sigma, sigma - 0.1, 0.7, 0.95)
    z_next = step.sample(noise(4, 2).double()).detach()
    old = step.log_prob(z_next).detach()
    ratio = (step.log_prob(z_next) - old).exp()
    assert torch.equal(ratio, torch.ones(4).double())
    advantage = torch.tensor([1.0, -2.0, 0.5, 3.0]).double()
    clipped_loss(ratio, advantage, 1e-4).sum().backward()
    s, d = sigma[:, None, None, None], -0.1
    if kind == "sde":
        g = 0.7 * (s / (1 - s)).sqrt()
        slope = (1 + g**2 * (1 - s) / (2 * s)) * d  # of the mean in v
        score = (z_next - step.mean.detach()) / (g**2 * 0.1)
    else:
        g = (s - 0.1) * math.sin(0.35 * math.pi)
        slope = -(1 - (s - 0.1)) * s + ((s - 0.1) ** 2 - g**2).sqrt() * (1 - s)
        score = 2 * (z_next - step.mean.detach())
    expected = -advantage[:, None, None, None] * score * slope / math.prod(SHAPE)
    torch.testing.assert_close(v.grad, expected)


def test_the_clipped_loss_by_hand():
    ratio = torch.tensor([1.5, 1.5, 0.5, 0.5])
    advantage = torch.tensor([1.0, -1.0, 1.0, -1.0])
    expected = torch.tensor([-1.1, 1.5, -0.5, 0.9])
    torch.testing.assert_close(clipped_loss(ratio, advantage, 0.1), expected)


def test_the_papers_divergence_is_that_of_two_normals_and_the_codes_lacks_the_step():
    step, other = a_step("sde", 0.7)[-1], a_step("sde", 0.7, seed=2)[-1]
    first, second = (
        torch.distributions.Normal(s.mean, s.std.expand_as(s.mean)) for s in (step, other)
    )
    expected = torch.distributions.kl_divergence(first, second).mean(dim=(1, 2, 3))
    torch.testing.assert_close(divergence(step, other, "paper"), expected)
    torch.testing.assert_close(divergence(step, other, "code"), 0.1 * expected)
    assert torch.equal(divergence(step, step, "code"), torch.zeros(4))


def test_a_window_lies_in_the_first_steps_and_the_rest_is_the_sampler():
    seen = set()
    for place in (0.0, 0.3, 0.6, 0.99):
        kinds, trained = plan_of(FlowGrpo(step="cps", window=3), place)
        assert trained == list(range(trained[0], trained[0] + 3))
        assert trained[-1] < 5
        assert [i for i, kind in enumerate(kinds) if kind == "cps"] == trained
        seen.add(trained[0])
    assert seen == {0, 1, 2}
    assert plan_of(FlowGrpo(), 0.5) == (["sde"] * 10, list(range(9)))


def test_the_last_step_of_cps_has_no_noise_and_is_not_trained_on():
    assert plan_of(FlowGrpo(step="cps", trained_share=1.0), 0.5)[1] == list(range(9))
    last = FlowGrpo(step="cps", window=3, window_range=1.0)
    assert plan_of(last, 0.999)[1] == [6, 7, 8]
    assert plan_of(FlowGrpo(window=3, window_range=1.0), 0.999)[1] == [7, 8, 9]


def test_advantages_by_hand_with_unscored_and_flat_groups():
    nan = np.nan
    rewards = np.array([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0], [nan, 1.0, 4.0], [nan, nan, 2.0]])
    values, used = advantages(rewards, "batch", 5.0)
    std = np.std([1, 2, 3, 5, 5, 5, 1, 4, 2])
    np.testing.assert_allclose(values[0], np.array([-1, 0, 1]) / (std + EPSILON))
    np.testing.assert_allclose(values[2], np.array([0, -1.5, 1.5]) / (std + EPSILON))
    assert used.tolist() == [[True] * 3, [False] * 3, [False, True, True], [False] * 3]
    assert not values[[1, 3]].any()
    of_group, _ = advantages(rewards, "group", 5.0)
    np.testing.assert_allclose(of_group[0], np.array([-1, 0, 1]) / (np.std([1, 2, 3]) + EPSILON))
    clipped, _ = advantages(np.array([[0.0] * 99 + [1.0]]), "group", 5.0)
    assert clipped.max() == 5.0


def test_several_rewards_are_one_sum_and_unscored_in_one_is_unscored_in_all():
    raw = {"a": np.array([[26.0, 52.0]]), "b": np.array([[1.0, np.nan]])}
    total = combine(raw, {"a": 1.0, "b": 0.5}, {"a": "pickscore/26"})
    np.testing.assert_allclose(total, [[1.5, np.nan]])
    scaled = combine({"a": np.array([[1.0, 3.0]])}, {"a": 2.0}, {"a": "standard"})
    np.testing.assert_allclose(scaled, [[-2, 2]], rtol=1e-3)


#: SD3.5's levels in ten steps, rounded; the released code asks its scheduler for them.
LEVELS = (1.0, 0.9600, 0.9133, 0.8577, 0.7905, 0.7075, 0.6025, 0.4656, 0.2801, 0.0089, 0.0)


def released_step(kind, x, v, i, scale, following):
    """The released code's step number i of one element: log-probability, mean and its std_dev_t.

    ``sde_step_with_logprob`` of yifan123/flow_grpo, told in plain numbers.
    """
    s, s_next = LEVELS[i], LEVELS[i + 1]
    dt = s_next - s
    if kind == "cps":
        std = s_next * math.sin(scale * math.pi / 2)
        mean = (x - s * v) * (1 - s_next) + (x + v * (1 - s)) * math.sqrt(s_next**2 - std**2)
        return -((following - mean) ** 2), mean, std
    std = math.sqrt(s / (1 - (LEVELS[1] if s == 1 else s))) * scale
    mean = x * (1 + std**2 / (2 * s) * dt) + v * (1 + std**2 * (1 - s) / (2 * s)) * dt
    spread = std * math.sqrt(-dt)
    log_prob = (
        -((following - mean) ** 2) / (2 * spread**2)
        - math.log(spread)
        - math.log(math.sqrt(2 * math.pi))
    )
    return log_prob, mean, std


@pytest.mark.parametrize(("kind", "scale"), [("sde", 0.7), ("cps", 0.8)])
def test_each_step_of_the_released_table_is_the_released_codes(kind, scale):
    x, v, following = (noise(1, seed).double() for seed in range(3))
    for i in range(9):  # the last of cps has no noise
        sigma, sigma_next = torch.tensor(LEVELS[i : i + 2], dtype=torch.float64).split(1)
        step = step_of(kind, x, v, sigma, sigma_next, scale, LEVELS[1])
        triples = zip(x.flatten().tolist(), v.flatten().tolist(), following.flatten().tolist(),
                      strict=True)  # fmt: skip
        elements = [released_step(kind, a, b, i, scale, c) for a, b, c in triples]
        log_prob, means, stds = (np.array(column) for column in zip(*elements, strict=True))
        assert step.log_prob(following).item() == pytest.approx(log_prob.mean(), rel=1e-9)
        np.testing.assert_allclose(step.mean.flatten().numpy(), means, rtol=1e-9, atol=1e-12)
        assert step.noise.item() == pytest.approx(stds[0], rel=1e-12)


def test_the_divergences_of_cps():
    """Its variance is g^2: the paper's form is flow_grpo's code too; Flow-CPS's has no divisor."""
    step, other = a_step("cps", 0.8)[-1], a_step("cps", 0.8, seed=2)[-1]
    squares = (step.mean - other.mean).square().mean(dim=(1, 2, 3))
    g = torch.tensor([0.9, 0.8, 0.4, 0.1]) * math.sin(0.4 * math.pi)
    torch.testing.assert_close(divergence(step, other, "paper"), squares / (2 * g**2))
    torch.testing.assert_close(divergence(step, other, "code"), squares)


@pytest.mark.parametrize("deviation", ["batch", "group"])
def test_advantages_are_the_released_codes(deviation):
    """``PerPromptStatTracker.update``, prompt by prompt, and the clamp of the training script."""
    rewards = np.random.default_rng(0).normal(size=(5, 4)) ** 3
    values, used = advantages(rewards, deviation, 1.5)
    for row, group in enumerate(rewards):
        std = np.std(rewards if deviation == "batch" else group) + 1e-4
        expected = [min(max((r - np.mean(group)) / std, -1.5), 1.5) for r in group]
        np.testing.assert_allclose(values[row], expected, rtol=1e-12)
    assert used.all()
    assert np.abs(values).max() == 1.5


def test_the_objectives_loss_is_the_released_scripts():
    """Mean over samples that count and trained steps of the clipped ratio's loss + beta KL."""
    settings = FlowGrpo(steps=3, trained_share=0.7, guidance=1.0, clip=0.05, kl_weight=0.3, group=2)
    levels, scale = (*LEVELS[::4][:3], 0.0), settings.noise_scale
    model = Slope(0.8)
    copies = Copies(model, [model.slope])
    copies.keep(REFERENCE)
    model.slope.data.fill_(0.9)
    objective = GrpoObjective(None, copies, levels, 0, settings)
    states = torch.stack([noise(3, seed).double() for seed in range(3)], dim=1)
    old = torch.randn(3, 2, generator=torch.Generator().manual_seed(9)).double() / 50
    count = math.prod(SHAPE)
    total, logs = 0.0, []
    for n in (0, 1):
        s, s_next = levels[n : n + 2]
        dt, g = s_next - s, scale * math.sqrt(s / (1 - min(s, levels[1])))
        drift = 1 + g**2 * (1 - s) / (2 * s)
        z, following = states[:, n], states[:, n + 1]
        means = [z * (1 + g**2 / (2 * s) * dt) + w * z * drift * dt for w in (0.9, 0.8)]
        spread = g * math.sqrt(-dt)
        squares = (following - means[0]).square().sum(dim=(1, 2, 3)) / count
        log_prob = -squares / (2 * spread**2) - math.log(spread) - math.log(2 * math.pi) / 2
        kl = (means[0] - means[1]).square().sum(dim=(1, 2, 3)) / count / (2 * g**2)
        logs.append(log_prob)
        for row, advantage in ((0, 1.5), (2, -0.5)):  # the sample between does not count
            ratio = math.exp(old[row, n])
            clipped = min(max(ratio, 0.95), 1.05)
            loss = max(-advantage * ratio, -advantage * clipped)
            total += (loss + 0.3 * kl[row].item()) / 4
    samples = Samples(
        model,
        {
            "states": states,
            "log_probs": torch.stack(logs, dim=1) - old,
            "trained": torch.tensor([[0, 1]]).expand(3, -1),
            "advantage": torch.tensor([1.5, 7.0, -0.5]).double(),
            "used": torch.tensor([True, False, True]),
        },
    )
    counts = objective.counts([samples])
    assert counts == [4.0]
    passes = list(objective.run(samples))
    assert len(passes) == objective.passes(samples) == 2
    loss = sum(each.loss for each in passes) / objective.divisor(counts)
    assert loss.item() == pytest.approx(total, rel=1e-6)

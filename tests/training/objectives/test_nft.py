"""DiffusionNFT's loss where its minimiser is known."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from training.copies import Copies
from training.objectives.nft import NftObjective, nft_loss, old_decay, optimality
from training.objectives.on_rollouts import OLD, REFERENCE
from training.rollouts import Samples
from training.sections import Nft

SHAPE = (2, 4, 4)


def noise(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed)).double()


def test_shares_of_the_branches():
    advantage = torch.tensor([-9.0, -5.0, 0.0, 2.5, 5.0])
    assert optimality(advantage, 5.0).tolist() == [0.0, 0.0, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_the_gradient_at_the_old_policy_is_the_rewards_share_of_sfts(beta):
    """There v+ = v- = v_old, and d loss / dv = scale (2 r - 1) * d |x0_hat - x0|^2 / dv / w."""
    z0, e, v_old = noise(4), noise(4, 1), noise(4, 2)
    sigma = torch.tensor([0.3, 0.5, 0.7, 0.9]).double()
    wide = sigma[:, None, None, None]
    z = (1 - wide) * z0 + wide * e
    r = torch.tensor([0.0, 0.25, 0.5, 1.0]).double()
    v = v_old.clone().requires_grad_()
    loss = nft_loss(v, v_old, v_old, z, sigma, z0, r, beta, 5.0)
    assert not loss.contrast.any()
    loss.policy.sum().backward()
    error = z - wide * v_old - z0
    w = error.abs().mean(dim=(1, 2, 3), keepdim=True)
    share = (2 * r - 1)[:, None, None, None]
    expected = 5 * share * 2 * error * (-wide) / w / error[0].numel()
    torch.testing.assert_close(v.grad, expected)


def test_the_minimiser_on_two_points_moves_toward_the_rewarded_one_by_the_analytic_amount():
    """Data are +m and -m, both as likely; old is the mean of their velocities at one state.

    With r the share of +m's positive branch and equal weights, the stationary point of
    r |v+ - u1|^2 + (1-r) |v- - u1|^2 + (1-r) |v+ - u2|^2 + r |v- - u2|^2 for u1,2 = v_old +- u is
    v = v_old + (2 r - 1) u / b.
    """
    beta, r1 = 0.5, 0.8
    m, e = noise(1), noise(1, 1)
    z0 = torch.cat([m, -m])
    sigma = torch.tensor([0.6, 0.6]).double()
    z = (0.4 * 0 + 0.6 * e).repeat(2, 1, 1, 1)  # one state, on the lines of noises that differ
    targets = (z - z0) / 0.6
    v_old = targets.mean(dim=0, keepdim=True)
    r = torch.tensor([r1, 1 - r1], dtype=torch.float64)
    expected = v_old + (2 * r1 - 1) * (targets[:1] - v_old) / beta
    v = expected.clone().requires_grad_()
    both, old = v.expand(2, *SHAPE), v_old.expand(2, *SHAPE)
    positive, negative = beta * both + (1 - beta) * old, (1 + beta) * old - beta * both
    # The loss without its weights, which depend on v: a parabola, flat at its minimum alone.
    loss = sum(
        (share * (z - 0.6 * branch - z0).square().mean(dim=(1, 2, 3))).sum()
        for branch, share in ((positive, r), (negative, 1 - r))
    )
    loss.backward()
    assert v.grad.abs().max() < 1e-12
    # nft_loss moves the same way from the old policy.
    v = v_old.clone().requires_grad_()
    both, old = v.expand(2, *SHAPE), v_old.expand(2, *SHAPE)
    nft_loss(both, old, old, z, sigma, z0, r, beta, 5.0).policy.sum().backward()
    step = (expected - v_old).flatten()
    cosine = torch.cosine_similarity(-v.grad.flatten(), step, dim=0)
    assert cosine.item() == pytest.approx(1.0, abs=1e-6)


def test_the_weights_have_no_gradient_and_a_floor():
    z0 = noise(2)
    sigma = torch.full((2,), 0.5).double()
    v = torch.zeros_like(z0).requires_grad_()
    loss = nft_loss(v, torch.zeros_like(z0), torch.zeros_like(z0), z0, sigma, z0, sigma, 1.0, 5.0)
    assert torch.equal(loss.policy, torch.zeros(2).double())
    loss.policy.sum().backward()
    assert torch.isfinite(v.grad).all()


def test_drift_is_the_squared_distance_from_the_reference():
    v, reference = noise(3), noise(3, 1)
    zero = torch.zeros(3).double()
    loss = nft_loss(v, v, reference, v, zero, v, zero, 1.0, 5.0)
    torch.testing.assert_close(loss.drift, (v - reference).square().mean(dim=(1, 2, 3)))


def test_the_old_policys_schedules():
    published = [old_decay(step, 0, 0.001, 0.5) for step in (0, 1, 300, 900)]
    assert published == [0.0, 0.001, pytest.approx(0.3), 0.5]
    late = [old_decay(step, 75, 0.0075, 0.999) for step in (74, 75, 76, 1000)]
    assert late == [0.0, 0.0, 0.0075, 0.999]


def test_the_objectives_loss_is_the_released_scripts():
    """``train_nft_sd3.py`` of NVlabs/DiffusionNFT at one model, told element by element."""
    slopes = {"v": 0.9, OLD: 0.7, REFERENCE: 0.5}
    model = torch.nn.Module()
    model.slope = torch.nn.Parameter(torch.tensor(slopes[OLD], dtype=torch.float64))
    copies = Copies(model, [model.slope])
    copies.keep(OLD)
    model.slope.data.fill_(slopes[REFERENCE])
    copies.keep(REFERENCE)
    model.slope.data.fill_(slopes["v"])
    batch = SimpleNamespace(velocity=lambda z, sigma, rows, conditional: model.slope * z)
    settings = Nft(group=2, beta=0.1, kl_weight=0.02, steps=3)
    z0, noises = noise(3), torch.stack([noise(3, 1), noise(3, 2)], dim=1)
    levels = torch.tensor([[0.9, 0.4]], dtype=torch.float64).expand(3, -1)
    advantage = torch.tensor([-0.8, 9.0, 3.0], dtype=torch.float64)
    used = torch.tensor([True, False, True])

    total = base = 0.0
    for row in (0, 2):  # the sample between does not count
        for n in (0, 1):
            x0, t = z0[row].flatten().tolist(), levels[row, n].item()
            e = noises[row, n].flatten().tolist()
            xt = [(1 - t) * a + t * b for a, b in zip(x0, e, strict=True)]
            v, old, ref = ([slope * x for x in xt] for slope in slopes.values())
            losses = []
            for mix in (0.1, -0.1):  # v+ = b v + (1 - b) v_old, v- = (1 + b) v_old - b v
                branch = [mix * a + (1 - mix) * b for a, b in zip(v, old, strict=True)]
                errors = [x - t * u - a for x, u, a in zip(xt, branch, x0, strict=True)]
                weight = max(sum(map(abs, errors)) / len(x0), 1e-5)
                losses.append(sum(error**2 for error in errors) / len(x0) / weight)
            r = min(max(advantage[row].item(), -5), 5) / 5 / 2 + 0.5
            policy = 5 * (r * losses[0] / 0.1 + (1 - r) * losses[1] / 0.1)
            drift = sum((a - b) ** 2 for a, b in zip(v, ref, strict=True)) / len(x0)
            total += (policy + 0.02 * drift) / 4
            errors = [u - (b - a) for u, a, b in zip(v, x0, e, strict=True)]
            base += sum(error**2 for error in errors) / len(x0) / 4

    tensors = {"z0": z0, "levels": levels, "noise": noises, "advantage": advantage, "used": used}
    rollouts = SimpleNamespace(figures={}, settings=settings)
    objective = NftObjective(rollouts, copies, (1.0, 0.0), 0, settings)
    with objective.policy():
        assert model.slope.item() == slopes[OLD], "the old policy makes the samples"
    samples = Samples(batch, tensors)
    counts = objective.counts([samples])
    passes = list(objective.run(samples))
    loss = sum(each.loss for each in passes) / objective.divisor(counts)
    assert loss.item() == pytest.approx(total, rel=1e-6)
    sums = {name: sum(each.sums[name].item() for each in passes) for name in passes[0].sums}
    figures = objective.figures(sums, counts)
    assert figures["loss"] == pytest.approx(total, rel=1e-6)
    assert figures["loss_base"] == pytest.approx(base, rel=1e-6)


def test_the_old_policy_follows_after_the_last_step_of_a_rollout():
    weights = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    copies = Copies(torch.nn.Module(), [weights])
    copies.keep(OLD)
    weights.data.fill_(2.0)
    settings = Nft(group=2, updates=2, decay_flat=2, decay_rate=0.25)
    objective = NftObjective(SimpleNamespace(settings=settings), copies, (1.0, 0.0), 0, settings)
    seen = []
    for done in range(1, 7):
        objective.stepped(done)
        seen.append(copies.state([OLD])[OLD][0].item())
        weights.data.add_(1.0)
    # After 2 steps d is 0, after 4 it is 0.5 (the largest), after 6 as well.
    assert seen == [1.0, 3.0, 3.0, 0.5 * 3 + 0.5 * 5, 4.0, 0.5 * 4 + 0.5 * 7]

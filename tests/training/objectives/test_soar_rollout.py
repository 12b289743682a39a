"""The rollout: what it asks the model for, and what is held for the backward pass."""

from __future__ import annotations

import math

import pytest
import torch
from soar_flows import SHAPE, Linear, noise, soar_loss, streams

from training.objectives.flow import draw_time
from training.objectives.soar import Draws, count_points, draw_paths, soar_terms
from training.types import NoiseLevels, Soar


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
    soar_loss(model, z0, z1, t0, 3.0, Soar(points=3))
    assert model.calls == [(4, True, True), (4, False, False), (12, True, True)]


def test_guidance_of_one_needs_no_pass_without_caption():
    model = Counting()
    z0, z1, t0 = noise(4), noise(4, seed=1), torch.full((4,), 0.5)
    soar_loss(model, z0, z1, t0, 3.0, Soar(points=3, guidance=1))
    assert model.calls == [(4, True, True), (12, True, True)]


def test_without_reuse_the_conditional_half_is_asked_for_again():
    model = Counting()
    z0, z1, t0 = noise(4), noise(4, seed=1), torch.full((4,), 0.5)
    soar_loss(model, z0, z1, t0, 3.0, Soar(points=3), reuse=False)
    assert model.calls[1:3] == [(4, True, False), (4, False, False)]


def test_reuse_gives_what_asking_again_gives_bit_for_bit():
    z0, z1, t0 = noise(8), noise(8, seed=1), draw_time(NoiseLevels(), streams(8))
    with_it, without = (
        soar_loss(Linear(), z0, z1, t0, 3.0, Soar(), reuse=reuse) for reuse in (True, False)
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
    fractions, path_noise = draw_paths(z1, settings, streams(len(z1)))
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
    draws = Draws(z1, torch.full((8,), 0.5), *draw_paths(z1, settings, streams(len(z1))))
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
    draws = Draws(z1, torch.full((4,), 0.5), *draw_paths(z1, settings, streams(len(z1))))
    terms = soar_terms(velocity, z0, draws, 3.0, settings)
    next(terms)
    next(terms)
    assert len(seen) == 3


def test_the_gradient_does_not_flow_through_the_rollout():
    """d loss / d scale with the off-trajectory states held fixed, by hand."""
    model = Counting()
    z0, z1, t0 = noise(4), noise(4, seed=1), torch.full((4,), 0.5)
    sums = soar_loss(model, z0, z1, t0, 1.0, Soar(points=1, rollout_steps=4, guidance=2))
    (gradient,) = torch.autograd.grad(sums.auxiliary, model.scale)
    s0, s1 = 0.5, 0.25
    off = (1 - s0) * z0 + s0 * z1
    off = off + (s1 - s0) * 0.5 * off
    s = s1 + (1 - s1) * (1 - streams(4).uniform(1, 1, 1))
    a = (s - s1) / (1 - s1)
    z = (1 - a) * off + a * z1
    by_hand = (2 * (0.5 * z - (z - z0) / s) * z).mean((1, 2, 3)).sum()
    assert gradient.item() == pytest.approx(by_hand.item(), rel=1e-4)

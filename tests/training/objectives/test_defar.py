"""DEFAR and ReflexFlow on flows whose velocity is known, and against numpy in float64."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from training.draws import Random
from training.objectives.defar import DefarDraws, defar_term, direction_error, draw_defar, unit
from training.objectives.flow import draw_time, shift_sigma
from training.sections import Defar
from training.types import NoiseLevels

SHAPE = (2, 4, 4)
FORMS = [Defar(), Defar(form="reflexflow", max_offset=3)]


def noise(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def draws_of(settings: Defar, count: int = 16) -> DefarDraws:
    random = Random(5, 0, range(count))
    z1, t0 = noise(count, 1), draw_time(NoiseLevels(), random)
    return draw_defar(z1, t0, settings, random)


class Perfect(torch.nn.Module):
    """The perfect velocity of a point mass, plus a parameter that pushes it off."""

    def __init__(self, picture: torch.Tensor, error: float = 0.0) -> None:
        super().__init__()
        self.picture = picture
        self.error = torch.nn.Parameter(error * torch.ones_like(picture))

    def forward(self, z, sigma, rows, conditional):
        assert conditional, "no guidance"
        return (z - self.picture) / sigma[:, None, None, None] + self.error


@pytest.mark.parametrize("settings", FORMS, ids=["defar", "reflexflow"])
def test_the_perfect_velocity_has_no_loss_and_no_gradient(settings):
    model = Perfect(noise(1, seed=9))
    term = defar_term(model, model.picture.repeat(16, 1, 1, 1), draws_of(settings), 3.0, settings)
    for value in (term.flow, term.direction, term.base):
        assert value.item() < 1e-5
    term.direction.backward(retain_graph=True)
    assert model.error.grad.abs().max() < 1e-3
    term.flow.backward()
    assert model.error.grad.abs().max() < 1e-3


def test_the_sign_velocity_points_away_from_the_data():
    """The reversed velocity is as wrong as a direction can be: |u - (-u)|^2 = 4."""
    z0, z = noise(4), noise(4, 1)
    away = z - z0
    torch.testing.assert_close(direction_error(away, z, z0), torch.zeros(4))
    torch.testing.assert_close(direction_error(5 * away, z, z0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(direction_error(-away, z, z0), torch.full((4,), 4.0))


@pytest.mark.parametrize("settings", FORMS, ids=["defar", "reflexflow"])
def test_a_step_against_the_gradient_turns_the_velocity_to_the_data(settings):
    """Off the line by an error, the direction's gradient has to make the error smaller."""
    model = Perfect(noise(1, seed=9), error=0.7)
    z0, draws = model.picture.repeat(16, 1, 1, 1), draws_of(settings)
    before = defar_term(model, z0, draws, 3.0, settings).direction
    before.backward()
    assert (model.error.grad * model.error).sum() > 0
    with torch.no_grad():
        model.error -= 0.1 * model.error.grad / model.error.grad.norm()
    assert defar_term(model, z0, draws, 3.0, settings).direction < before


def test_unit_vectors_of_zero_are_zero_and_not_infinite():
    assert torch.equal(unit(torch.zeros(2, *SHAPE)), torch.zeros(2, *SHAPE))


def test_the_step_keeps_its_gradient():
    """d direction / d model passes through both passes: with the first cut off it is another."""
    scale = torch.tensor(0.5, requires_grad=True)

    def velocity(z, sigma, rows, conditional, cut=False):
        return (scale.detach() if cut else scale) * z + sigma[:, None, None, None]

    settings, z0, draws = Defar(compensation=0), noise(8), draws_of(Defar(), 8)
    (whole,) = torch.autograd.grad(defar_term(velocity, z0, draws, 3.0, settings).direction, scale)
    calls = []

    def first_cut(z, sigma, rows, conditional):
        calls.append(len(z))
        return velocity(z, sigma, rows, conditional, cut=len(calls) == 1)

    (half,) = torch.autograd.grad(defar_term(first_cut, z0, draws, 3.0, settings).direction, scale)
    assert calls == [8, 8]
    assert abs(whole - half) > 1e-3


def v64(z, s):
    return 0.5 * z + np.sin(3 * z) * s + s**2


def torch_v(z, sigma, rows, conditional):
    s = sigma[:, None, None, None]
    return 0.5 * z + torch.sin(3 * z) * s + s**2


def unit64(x):
    return x / np.sqrt((x**2).sum())


def test_defar_equals_a_transcription_in_float64():
    """In the paper's own time and sign: t from noise 0 to data 1, velocity x - e."""
    settings = Defar(compensation=0.7)
    z0, draws = noise(6), draws_of(settings, 6)
    flow = direction = 0.0
    for b in range(6):
        x, e = z0[b].double().numpy(), draws.z1[b].double().numpy()
        t0 = 1 - float(draws.t0[b])
        t1 = t0 + (1 - t0) * (1 - float(draws.fraction[b]))

        def velocity(state, t):
            return -v64(state, 1 - t)

        at0, at1 = t0 * x + (1 - t0) * e, t1 * x + (1 - t1) * e
        v0 = velocity(at0, t0)
        biased = at0 + (t1 - t0) * v0
        direction += ((unit64(velocity(biased, t1)) - unit64(x - biased)) ** 2).sum()
        weight = 1 + 0.7 * np.abs(velocity(biased, t1) - velocity(at1, t1))
        flow += ((weight * (v0 - (x - e))) ** 2).mean()
    term = defar_term(torch_v, z0, draws, 3.0, settings)
    assert term.direction.item() == pytest.approx(direction, rel=1e-4)
    assert term.flow.item() == pytest.approx(flow, rel=1e-4)


def test_reflexflow_equals_a_transcription_in_float64():
    settings = Defar(form="reflexflow", max_offset=5, rollout_steps=10, uniform_levels=False)
    z0, shift = noise(6), 3.0
    draws = DefarDraws(noise(6, 1), torch.linspace(0.1, 0.95, 6), torch.ones(6), 2)
    flow = direction = 0.0

    def sigma_of(t):
        return shift * t / (1 + (shift - 1) * t)

    for b in range(6):
        x, e, t = z0[b].double().numpy(), draws.z1[b].double().numpy(), float(draws.t0[b])
        path = [sigma_of(min(t + k / 10, 1)) for k in (2, 1, 0)]
        z = (1 - path[0]) * x + path[0] * e
        for s, s_next in pairwise(path):
            z = z + (s_next - s) * v64(z, s)
        v, ideal = v64(z, path[-1]), v64((1 - path[-1]) * x + path[-1] * e, path[-1])
        bias = np.abs(v - ideal)
        weight = 1 + bias / bias.mean()
        flow += ((weight * (v - (e - x))) ** 2).mean()
        direction += ((unit64(v) - unit64(z - x)) ** 2).sum()
    term = defar_term(torch_v, z0, draws, shift, settings)
    assert term.direction.item() == pytest.approx(direction, rel=1e-4)
    assert term.flow.item() == pytest.approx(flow, rel=1e-3)


def test_uniform_levels_are_the_levels_that_reflexflow_ends_at():
    settings = Defar(form="reflexflow", max_offset=1)
    draws = draws_of(settings)
    seen = []

    def velocity(z, sigma, rows, conditional):
        seen.append(sigma)
        return torch.zeros_like(z)

    defar_term(velocity, noise(16), draws, 3.0, settings)
    torch.testing.assert_close(seen[-1], draws.t0, rtol=1e-5, atol=1e-6)
    assert (seen[0] >= seen[-1]).all()


def test_without_uniform_levels_the_sampler_decides():
    settings = Defar(uniform_levels=False)
    draws, seen = draws_of(settings), []

    def velocity(z, sigma, rows, conditional):
        seen.append(sigma)
        return torch.zeros_like(z)

    defar_term(velocity, noise(16), draws, 3.0, settings)
    assert torch.equal(seen[0], shift_sigma(draws.t0, 3.0))
    assert torch.equal(seen[1], seen[0] * draws.fraction)


@pytest.mark.parametrize("name", ["rollout_steps", "max_offset"])
def test_settings_of_the_other_form_are_refused(name):
    with pytest.raises(ValueError, match=r"set defar\.form to reflexflow"):
        Defar(**{name: 3})


def test_settings_of_another_objective_are_refused(tiny_config):
    from soar_bench.core.errors import SoarBenchError

    with pytest.raises(SoarBenchError, match="section defar is read by defar alone"):
        tiny_config(defar={"direction_weight": 2.0})
    with pytest.raises(SoarBenchError, match=r"with defar\.uniform_levels: true does not read"):
        tiny_config(method="defar", noise={"logit_mean": 1.0})


def test_it_trains_and_resumes_and_names_its_parts(tiny_config, tiny_train, tmp_path):
    import json
    import os
    import signal

    from safetensors.torch import load_file

    from training.types import Stopped

    def config(name):
        return tiny_config(method="defar", output=tmp_path / name, steps=4, save_every=4)

    whole = tiny_train(config("whole"))

    def interrupt(stage, done, total, figures):
        if stage == "train" and done == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        tiny_train(config("parts"), progress=interrupt)
    parts = tiny_train(config("parts"))
    file = "transformer/diffusion_pytorch_model.safetensors"
    a, b = load_file(whole / file), load_file(parts / file)
    assert all(torch.equal(a[name], b[name]) for name in a)
    lines = [json.loads(x) for x in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    for line in lines:
        total = line["loss_flow"] + line["loss_direction"]
        assert line["loss"] == pytest.approx(total)
        assert line["loss_flow"] >= line["loss_base"]


def test_soar_settings_are_no_part_of_a_defar_run(tiny_config, tiny_train, tmp_path):
    checkpoint = tiny_train(tiny_config(method="defar", steps=1))
    story = json_of(checkpoint / "checkpoint.json")
    assert story["method"] == "defar"
    assert "soar" not in story["config"]
    assert story["config"].get("defar") is None, "at its defaults it is left out"


def json_of(file):
    import json

    return json.loads(file.read_text())

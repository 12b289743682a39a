"""The probe against flows that are solved by hand, and the official sampler."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from soar_bench.checkpoints import resolve
from soar_bench.drift import figures
from soar_bench.drift.measure import Model
from soar_bench.drift.samples import Encoded
from soar_bench.drift.walk import inner_levels, probe, walk
from soar_bench.pipelines.loading import load_pipeline
from soar_bench.suites.protocols import get_protocol, override
from training.encoders import encode_prompts

SHAPE = (2, 4, 4)


def noise(count: int, seed: int, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def table(steps: int, shift: float = 3.0) -> torch.Tensor:
    """Shifted levels from 1 down to 0, as a sampler's."""
    t = torch.linspace(1, 0, steps + 1)
    return shift * t / (1 + (shift - 1) * t)


def wide(sigma: torch.Tensor) -> torch.Tensor:
    return sigma[:, None, None, None]


# Flows that are solved by hand


def test_a_perfect_model_of_a_point_mass_errs_nowhere_and_stays_on_the_line():
    picture = noise(1, 1)
    z0, z1 = picture.repeat(8, 1, 1, 1), noise(8, 2)

    def velocity(z, sigma, rows, conditional):
        return (z - picture) / wide(sigma)

    errors = probe(velocity, z0, z1, table(10), 4.5, (1, 2, 4))
    assert errors.ideal.max() < figures.EXACT
    assert np.nanmax(errors.own) < figures.EXACT
    assert np.nanmax(errors.moved) < figures.EXACT


def test_a_constant_error_carries_the_state_off_by_itself_times_the_steps():
    """v = z1 - z0 + e whatever the state: z' - z_s' = e (s' - s), and from there the way back to
    z0 is e s/s' off.
    """
    e, sigmas = 0.3, table(8)
    z0, z1 = noise(4, 3), noise(4, 4)

    def velocity(z, sigma, rows, conditional):
        return z1[rows] - z0[rows] + e

    errors = probe(velocity, z0, z1, sigmas, 1.0, (1, 3))
    levels = inner_levels(sigmas)
    assert levels == list(range(1, 8))
    np.testing.assert_allclose(errors.ideal, e**2, rtol=1e-5)
    for m, steps in enumerate((1, 3)):
        for place in range(len(levels)):
            if place < steps:
                assert np.isnan(errors.own[m, place]).all()
                continue
            s, s_new = float(sigmas[levels[place - steps]]), float(sigmas[levels[place]])
            np.testing.assert_allclose(errors.moved[m, place], (e * (s - s_new)) ** 2, rtol=1e-4)
            np.testing.assert_allclose(errors.own[m, place], (e * s / s_new) ** 2, rtol=1e-4)


def test_where_the_model_corrects_itself_its_error_does_not_grow_though_its_state_drifts():
    """v = (z - z0)/s + e always aims at z0 but for e: the error is e at every state, while
    z'/s' - z_s'/s' grows by e (1 - s/s') a step.
    """
    e, sigmas, picture = 0.2, table(6, shift=1.0), noise(1, 5)
    z0, z1 = picture.repeat(3, 1, 1, 1), noise(3, 6)

    def velocity(z, sigma, rows, conditional):
        return (z - picture) / wide(sigma) + e

    errors = probe(velocity, z0, z1, sigmas, 1.0, (3,))
    s = [5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    for place in (3, 4):
        walked = s[place - 3 : place + 1]
        off = walked[-1] * e * sum(1 - a / b for a, b in pairwise(walked))
        np.testing.assert_allclose(errors.own[0, place], e**2, rtol=1e-4)
        np.testing.assert_allclose(errors.moved[0, place], off**2, rtol=1e-4)


def test_a_perfect_model_of_a_gaussian_errs_by_what_the_start_did_not_know():
    """z0 and z1 standard normal: v = (2s - 1) z / ((1 - s)^2 + s^2), so that every state of the
    walk is a multiple of z_s and both errors follow by hand. The own one is the larger, although
    the model is perfect: z' knows of z0 only what z_s knew.
    """
    sigmas, count = table(10), 60_000
    z0, z1 = noise(count, 7, (1, 1, 1)), noise(count, 8, (1, 1, 1))

    def velocity(z, sigma, rows, conditional):
        s = wide(sigma)
        return (2 * s - 1) * z / ((1 - s) ** 2 + s**2)

    errors = probe(velocity, z0, z1, sigmas, 1.0, (1, 2))
    s = sigmas.double().numpy()
    for m, steps in enumerate((1, 2)):
        for place in range(steps, 9):
            start, end = place + 1 - steps, place + 1
            var_start, var = ((1 - s[i]) ** 2 + s[i] ** 2 for i in (start, end))
            factor = math.prod(
                1 + (s[i + 1] - s[i]) * (2 * s[i] - 1) / ((1 - s[i]) ** 2 + s[i] ** 2)
                for i in range(start, end)
            )
            ideal = (1 - (1 - s[end]) ** 2 / var) / s[end] ** 2
            guess = (1 - s[end]) / var * factor  # the predicted z0 is this times z_s
            own = (1 - 2 * guess * (1 - s[start]) + guess**2 * var_start) / s[end] ** 2
            assert own > ideal
            assert errors.ideal[place].mean() == pytest.approx(ideal, rel=0.03)
            assert errors.own[m, place].mean() == pytest.approx(own, rel=0.03)


def test_steps_are_guided_and_errors_are_those_of_the_conditional_prediction():
    z0, z1, sigmas = noise(2, 9), noise(2, 10), table(4, shift=1.0)

    def velocity(z, sigma, rows, conditional):
        return z1[rows] - z0[rows] + (0.1 if conditional else -0.3)

    errors = probe(velocity, z0, z1, sigmas, 3.0, (1,))
    guided = -0.3 + 3 * (0.1 + 0.3)  # off the line by this a step of 1
    np.testing.assert_allclose(errors.ideal, 0.1**2, rtol=1e-5)
    np.testing.assert_allclose(errors.moved[0, 1], (guided / 4) ** 2, rtol=1e-4)
    np.testing.assert_allclose(errors.own[0, 1], (0.1 + guided / 4 / 0.5) ** 2, rtol=1e-4)


# The sampler itself


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_walk_takes_the_steps_of_the_official_pipeline(tiny_pipeline: Path, guidance: float):
    captions, steps = ["a photo of a star", "a photo of a red ring"], 6
    pipeline = load_pipeline(tiny_pipeline)
    embeds, pooled = encode_prompts(pipeline, [*captions, ""], 14)
    seen = []

    def keep(pipe, step, timestep, tensors):
        seen.append(tensors["latents"].clone())
        return tensors

    pipeline(
        prompt_embeds=embeds[:2],
        pooled_prompt_embeds=pooled[:2],
        negative_prompt_embeds=embeds[2:].expand(2, -1, -1),
        negative_pooled_prompt_embeds=pooled[2:].expand(2, -1),
        latents=noise(2, 11, (4, 16, 16)),
        num_inference_steps=steps,
        guidance_scale=guidance,
        height=64,
        width=64,
        output_type="latent",
        callback_on_step_end=keep,
    )
    protocol = override(get_protocol("shapes"), steps=steps)
    model = Model(resolve(str(tiny_pipeline)), protocol, "cpu")
    samples = Encoded(torch.zeros(2, 4, 16, 16), torch.tensor([0, 1]), embeds, pooled)
    velocity = model.velocity(samples, range(2))
    with torch.no_grad():
        states = {i: z for i, z, _ in walk(velocity, seen[0], model.sigmas, 1, guidance)}
    assert sorted(states) == [1, 2, 3, 4, 5]
    for place, state in states.items():
        torch.testing.assert_close(state, seen[place - 1], rtol=1e-4, atol=1e-4)

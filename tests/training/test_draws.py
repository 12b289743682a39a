"""Every sample of a step draws from a stream of its own."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from training.draws import Random


def drawn(random: Random) -> list[torch.Tensor]:
    return [random.normal(2, 3), random.uniform(), random.uniform(4), random.normal()]


def test_a_part_of_the_batch_draws_what_it_draws_within_the_whole():
    whole = drawn(Random(5, 7, range(6)))
    for start, stop in ((0, 2), (2, 6), (5, 6)):
        part = drawn(Random(5, 7, range(start, stop)))
        for alone, within in zip(part, whole, strict=True):
            assert torch.equal(alone, within[start:stop])


def test_every_seed_step_place_and_call_draws_something_else():
    values = [
        value
        for seed in (0, 1)
        for step in (0, 1)
        for random in (Random(seed, step, range(8)),)
        for _ in range(2)
        for value in random.normal(3).flatten().tolist()
    ]
    assert len({*values}) == len(values) == 2 * 2 * 2 * 8 * 3


def test_shapes_and_precision():
    random = Random(0, 0, range(3))
    assert random.normal().shape == random.uniform().shape == (3,)
    assert random.normal(4, 5).shape == random.uniform(4, 5).shape == (3, 4, 5)
    assert random.normal(0).shape == (3, 0)
    assert random.normal(2).dtype == random.uniform(2).dtype == torch.float32


def test_the_distributions_are_the_named_ones():
    """Over samples, over steps and within a sample: Kolmogorov and Smirnov's test."""
    over_samples = Random(1, 0, range(4000))
    over_steps = [Random(1, step, range(1)) for step in range(4000)]
    within = Random(1, 0, range(1))
    for normal, uniform in (
        (over_samples.normal(), over_samples.uniform()),
        (torch.cat([r.normal() for r in over_steps]), torch.cat([r.uniform() for r in over_steps])),
        (within.normal(4000)[0], within.uniform(4000)[0]),
    ):
        assert stats.kstest(normal.numpy(), "norm").pvalue > 1e-3
        assert stats.kstest(uniform.numpy(), "uniform").pvalue > 1e-3


def test_neighbours_are_not_correlated():
    values = Random(2, 0, range(64)).normal(4096)
    correlations = torch.corrcoef(values) - torch.eye(64)
    assert correlations.abs().max().item() < 5 / 4096**0.5


def test_one_number_of_a_step_is_the_same_on_every_process():
    numbers = [
        {Random(3, step, places).integer(10) for places in (range(4), range(4, 8), range(1))}
        for step in range(50)
    ]
    assert all(len(each) == 1 for each in numbers)
    assert {number for each in numbers for number in each} == {*range(10)}


@pytest.mark.parametrize("bound", [1, 7])
def test_an_integer_lies_below_its_bound(bound):
    assert all(0 <= Random(0, step, range(1)).integer(bound) < bound for step in range(100))

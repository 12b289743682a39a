"""Rollouts: from which noise and by which policy samples are made, and what becomes of rewards."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from training.data.prompts import Prompts
from training.rollouts import Maker, Rollouts
from training.types import Config, TrainingError

NAN = float("nan")


class Given:
    """Rewards of values that are given."""

    identity: dict[str, object] = {}  # noqa: RUF012

    def __init__(self, **values):
        self.values, self.names = values, list(values)

    def __call__(self, images, prompts, metadata):
        return self.values

    def reason(self, name):
        return f"of {name}"


def rollouts(rewards, notes=None):
    """Of two groups of two images, in one micro-batch and one process."""
    config = Config(
        method="nft", base="b", data="d", output="o", batch_size=4, nft={"group": 2},
        rewards=dict.fromkeys(rewards.names, 1.0),
    )  # fmt: skip
    parallel = SimpleNamespace(count=1, sum=lambda *values: list(values))
    empty = dict.fromkeys(("prompts", "data", "model", "vae", "stopping"))
    return Rollouts(
        config=config, rewards=rewards, parallel=parallel, train_timesteps=1000, shape=(),
        note=(notes if notes is not None else []).append, **empty,
    )  # fmt: skip


def judged(**raw):
    made = [{"z0": torch.zeros(4)}]
    of = rollouts(Given(**raw))
    of._judge(made, {name: np.array(values).reshape(2, 2) for name, values in raw.items()}, 0, 2)
    return made[0], of.figures


def test_rewards_that_are_no_finite_numbers_are_unscored():
    images = np.zeros((4, 8, 8, 3), np.uint8)
    values = rollouts(Given(a=[1, NAN, np.inf, -np.inf], b=[0.0] * 4))._rewards(images, [], [])
    np.testing.assert_array_equal(values["a"], [1, NAN, NAN, NAN])
    made, figures = judged(a=[1.0, 2.0, NAN, 3.0])
    assert made["used"].tolist() == [True, True, False, False]
    assert figures["reward_a_unscored"] == 1
    assert figures["reward_a"] == 2


@pytest.mark.parametrize(
    ("values", "given"),
    [([1.0] * 3, r"an array of shape \(3,\)"), (1.0, r"of shape \(\)"), ([[1.0]] * 4, r"\(4, 1\)")],
)
def test_rewards_that_do_not_fit_the_images_are_told_of(values, given):
    images = np.zeros((4, 8, 8, 3), np.uint8)
    with pytest.raises(TrainingError, match=f"a must give a number for each of 4 .*{given}"):
        rollouts(Given(a=values))._rewards(images, [], [])
    rewards = Given(a=[1.0] * 4, b=[1.0] * 4)
    of = rollouts(rewards)
    del rewards.values["b"]
    with pytest.raises(TrainingError, match=r"the reward b must give .*but gave nothing"):
        of._rewards(images, [], [])


def test_rewards_of_which_each_leaves_out_what_another_scores_end_the_run():
    with pytest.raises(TrainingError, match=r"none of the 4 images .*by all of a, b, so"):
        judged(a=[1.0, 2.0, NAN, NAN], b=[NAN, NAN, 1.0, 2.0])
    with pytest.raises(TrainingError, match=r"the reward b scored none of the 4 images .*of b"):
        judged(a=[1.0, 2.0, 3.0, 4.0], b=[NAN] * 4)
    made, _ = judged(a=[1.0, 2.0, NAN, NAN], b=[5.0, 5.0, 1.0, 2.0])
    assert made["used"].tolist() == [True, True, False, False]


def test_a_rollout_of_flat_groups_is_told_of():
    notes = []
    of = rollouts(Given(a=[0.0] * 4), notes)
    of._judge([{"z0": torch.zeros(4)}], {"a": np.array([[1.0, 1.0], [2.0, 2.0]])}, 0, 2)
    assert len(notes) == 1
    assert of.figures["flat_groups"] == 1


class Noisy(Maker):
    """Samples are their noise."""

    def __init__(self):
        self.rolling_out = False

    @contextmanager
    def policy(self):
        self.rolling_out = True
        yield
        self.rolling_out = False

    def sample(self, batch, noise, number):
        assert self.rolling_out
        return {"z0": noise(), "more": noise()}


class Mean:
    """A reward: the mean of the latent, which the test takes for the image."""

    names = ("mean",)

    def __init__(self, prompts):
        self.known = dict(zip(prompts.texts, prompts.metadata, strict=True))

    def __call__(self, images, prompts, metadata):
        assert [self.known[text] for text in prompts] == metadata
        return {"mean": images.mean(axis=(1, 2, 3))}

    def reason(self, name):
        return ""


PROMPTS = Prompts([f"prompt {i}" for i in range(9)], [{"id": i} for i in range(9)])


def made_by(rank, processes, number, monkeypatch, total):
    """Return z0, more noise, advantage, prompt and step of each (prompt's place, member)."""
    monkeypatch.setattr("training.rollouts.decode_images", lambda vae, z0: z0.numpy())
    config = Config(
        method="nft", base="b", data="d", output="o", seed=7, rewards={"mean": 1.0},
        batch_size=4 // processes, accumulate=2, nft={"group": 4, "updates": 2},
    )  # fmt: skip
    parallel = SimpleNamespace(count=processes, rank=rank, device="cpu", sum=total)
    of = Rollouts(
        config=config, prompts=PROMPTS, data=None, rewards=Mean(PROMPTS), parallel=parallel,
        model=None, vae=None, train_timesteps=1000, shape=(1, 2, 2), stopping=lambda: False,
        note=print,
    )  # fmt: skip
    of._batch = lambda prompts: prompts  # type: ignore[method-assign]
    maker = Noisy()
    of._make(number, maker)
    assert not maker.rolling_out
    own = 4 // processes
    rows = [
        [part[name][i] for name in ("z0", "more", "advantage", "prompt")]
        for part in of.made
        for i in range(len(part["z0"]))
    ]
    half = len(rows) // 2  # the samples of the first of two steps
    places = [(rank * own + p, m) for p, m in of._order()]
    return {
        place: [*row, int(i >= half)]
        for i, (place, row) in enumerate(zip(places, rows, strict=True))
    }


def test_two_processes_make_the_rollout_of_one_bit_for_bit(monkeypatch):
    one = made_by(0, 1, 3, monkeypatch, lambda *values: list(values))
    assert sorted(one) == [(p, m) for p in range(4) for m in range(4)]
    # Every step has an equal share of each group, every image noise of its own.
    assert all(row[-1] == member % 2 for (_, member), row in one.items())
    noises = [row[k] for row in one.values() for k in (0, 1)]
    assert len({tuple(noise.flatten().tolist()) for noise in noises}) == 2 * 16
    assert len({int(one[place, 0][3]) for place in range(4)}) == 4
    means = np.array([[one[p, m][0].numpy().mean() for m in range(4)] for p in range(4)])
    expected = (means - means.mean(axis=1, keepdims=True)) / (means.std() + 1e-4)
    for (p, m), row in one.items():
        assert row[2].item() == pytest.approx(expected[p, m], rel=1e-5)
    other = made_by(0, 1, 4, monkeypatch, lambda *values: list(values))
    assert not torch.equal(other[0, 0][0], one[0, 0][0])

    given = {0: [], 1: []}
    for rank in (0, 1):  # first each process's own numbers, then with their sums

        def own(*values, rank=rank):
            given[rank].append(values)
            return list(values)

        made_by(rank, 2, 3, monkeypatch, own)
    two = {}
    for rank in (0, 1):
        sums = iter([np.sum(both, axis=0).tolist() for both in zip(*given.values(), strict=True)])
        two |= made_by(rank, 2, 3, monkeypatch, lambda *values, sums=sums: next(sums))
    for place, row in one.items():
        assert all(torch.equal(a, b) for a, b in zip(row[:4], two[place][:4], strict=True))
        assert row[4] == two[place][4]

"""A rollout's rewards become advantages, or one sentence."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from training.rollouts import Rollouts
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

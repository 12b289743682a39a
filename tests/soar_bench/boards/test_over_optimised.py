"""A reward that rose while another metric fell is said in words, with intervals."""

from __future__ import annotations

import numpy as np
import pytest
from compared import story

from soar_bench.boards.comparing import compare
from soar_bench.records import read_runs

BASE = np.linspace(0.2, 0.6, 12)
NOISE = np.resize([0.01, -0.01, 0.02], 12)


def notes_of(write, reward, held, rewards=("judge/reward",), name="tuned"):
    write("base", {"reward": BASE, "held": BASE})
    told = story(name, 0)
    told["config"] = {**told["config"], "rewards": dict.fromkeys(rewards, 1.0)}
    write(name, {"reward": BASE + reward + NOISE, "held": BASE + held + NOISE}, story=told)
    return compare(read_runs(write.results)).notes


def test_reward_up_and_a_held_out_metric_down_is_likely_over_optimised(place):
    (note,) = [n for n in notes_of(place, 0.2, -0.1) if "reward" in n.lower()]
    assert note.startswith("Reward up, held down: likely over-optimised. ")
    assert "tuned was trained on reward (+0.207 [+0.198, +0.215]) over base" in note
    assert "fell in held (-0.093 [-0.102, -0.085])" in note


def test_where_nothing_fell_what_watched_is_named(place):
    (note,) = [n for n in notes_of(place, 0.2, 0.1) if "trained on" in n]
    assert "what watched it did not fall significantly (held)" in note
    assert "over-optimised" not in note


@pytest.mark.parametrize(
    ("reward", "rewards"), [(0.0, ["judge/reward"]), (-0.2, ["judge/reward"]), (0.2, [])]
)
def test_without_a_reward_that_rose_nothing_is_said(reward, rewards, place):
    assert not [n for n in notes_of(place, reward, -0.1, rewards) if "trained on" in n]


def test_alone_a_reward_cannot_be_watched(place):
    place("base", {"reward": BASE})
    told = story("tuned", 0)
    told["config"] = {**told["config"], "rewards": {"judge": 1.0}}  # its only metric
    place("tuned", {"reward": BASE + 0.2 + NOISE}, story=told)
    (note,) = [n for n in compare(read_runs(place.results)).notes if "trained on" in n]
    assert note.endswith("no other metric was measured, so over-optimisation could not be seen.")

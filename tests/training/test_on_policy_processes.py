"""Two processes make and train on the rollouts of one, and go on between the steps of one."""

from __future__ import annotations

import pytest
import torch
from processes import FSDP2, train_all
from test_on_policy import metrics, weights

REWARDED = {"rewards": {"shapes-clipscore": 1.0}}
METHODS = {
    "defar": {"method": "defar"},
    "flow-grpo": {
        "method": "flow-grpo",
        "flow_grpo": {"group": 4, "steps": 3, "guidance": 2.0, "clip": 0.1},
        **REWARDED,
    },
    "nft": {"method": "nft", "nft": {"group": 4, "steps": 3, "updates": 2}, **REWARDED},
    "d-opsd": {"method": "d-opsd", "d_opsd": {"steps": 2, "teacher_decay": 0.5}},
}


def settings(tiny_config, tmp_path, name, **changes):
    """Of four steps with eight samples each, in whatever number of processes."""
    changes = {
        "output": tmp_path / name,
        "data": "shapes-clean:8",
        "steps": 4,
        "save_every": 3,
        "cache": tmp_path / "cache",
        "trackers": [],
        # As in test_processes.py, so that a tolerance is meaningful.
        "optimizer": {"lr": 1e-2, "epsilon": 1e-3},
        **changes,
    }
    return tiny_config(**changes).model_dump(mode="json")


@pytest.mark.parametrize("environment", [{}, FSDP2], ids=["ddp", "fsdp2"])
@pytest.mark.parametrize("name", METHODS)
def test_two_processes_train_as_one_and_go_on_after_a_stop(
    name, environment, tiny_config, tiny_train, tmp_path
):
    method = METHODS[name]
    tiny_train(tiny_config(**settings(tiny_config, tmp_path, "alone", batch_size=8, **method)))
    small = {"batch_size": 2, "accumulate": 2, **method}
    whole = settings(tiny_config, tmp_path, "whole", **small)
    parts = settings(tiny_config, tmp_path, "parts", **small)
    # A stop comes after the first rollout; the kill between the two steps of the second.
    interrupted = [{"settings": parts, "stop": 2}, {"settings": parts, "kill": 4}]
    train_all([{"settings": whole}, *interrupted, {"settings": parts}], **environment)
    single, divided = metrics(tmp_path / "alone"), metrics(tmp_path / "whole")
    for own, others in zip(single, divided, strict=True):
        for figure in ("loss", "grad_norm", *(f for f in own if f.startswith("reward"))):
            assert others[figure] == pytest.approx(own[figure], rel=2e-3, abs=2e-4)
    expected, resumed = (
        weights(tmp_path / kind / "checkpoint-000004") for kind in ("whole", "parts")
    )
    assert all(torch.equal(expected[key], resumed[key]) for key in expected)
    assert divided == metrics(tmp_path / "parts")


@pytest.mark.parametrize("environment", [{}, FSDP2], ids=["ddp", "fsdp2"])
def test_in_bfloat16_too_the_ratio_is_one_before_the_first_update(
    environment, tiny_config, tmp_path
):
    small = {"batch_size": 2, "accumulate": 2, "steps": 1, **METHODS["flow-grpo"]}
    half = settings(tiny_config, tmp_path, "half", precision="bf16", **small)
    train_all([{"settings": half}], **environment)
    (first,) = metrics(tmp_path / "half")
    assert first["ratio_off"] == first["kl"] == 0, "rollout and replay are the same passes"


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{}, FSDP2], ids=["ddp", "fsdp2"])
@pytest.mark.parametrize("name", METHODS)
def test_three_processes_go_on_inside_a_rollout_and_between_two(
    name, environment, tiny_config, tmp_path
):
    """Sums of three depend on their order. Killed in step 2 and 4 it goes on from the states of 1
    and 3, amid rollouts of two steps, and stopped in step 3 while a rollout is made.
    """
    small = {"batch_size": 2, "accumulate": 2, "save_every": 1, **METHODS[name]}
    if "rewards" in small:
        section = small["method"].replace("-", "_")
        small[section] = {**small[section], "updates": 2}
    whole = settings(tiny_config, tmp_path, "whole", **small)
    parts = {**whole, "output": str(tmp_path / "parts")}
    ends = [{"kill": 2}, {"stop": 2}, {"kill": 4}, {}]
    train_all(
        [{"settings": whole}, *({"settings": parts, **end} for end in ends)], 3, **environment
    )
    expected, resumed = (
        weights(tmp_path / kind / "checkpoint-000004") for kind in ("whole", "parts")
    )
    assert all(torch.equal(expected[key], resumed[key]) for key in expected)
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "parts")

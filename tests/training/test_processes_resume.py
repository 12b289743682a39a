"""Three processes and more: a run that was stopped ends with the bits of one that was not.

Two cannot show a difference: a sum of two is the same in either order.
"""

from __future__ import annotations

import pytest
import torch
from processes import FSDP2, train_all
from test_processes import metrics, settings, weights

#: Not every parameter fits into DDP's first group, so that its groups are made anew.
FULL = {"batch_size": 1, "soar": {"points": 2, "guidance": 2.0}}
ADAPTER = {**FULL, "lora": {"rank": 4, "alpha": 8.0, "dropout": 0.1}}
#: Passes in a bfloat16 copy of the weights; under FSDP2 that is what it gathers.
COPY = {**FULL, "precision": "bf16", "working_copy": True, "accumulate": 2}


def check(tiny_config, tmp_path, kinds, tries, count, environment):
    """Each kind of training whole, and as often again as there are tries, each stopped in the step
    after each of its own.
    """
    jobs = []
    for kind, changes in kinds.items():
        whole = settings(tiny_config, tmp_path, kind, **changes)
        jobs.append({"settings": whole})
        for number, stops in enumerate(tries):
            parts = {**whole, "output": str(tmp_path / f"{kind}-{number}")}
            jobs += [{"settings": parts, "stop": stop} for stop in stops]
            jobs.append({"settings": parts})
    train_all(jobs, count, **environment)
    for kind in kinds:
        expected = weights(tmp_path / kind)
        for number in range(len(tries)):
            parts = tmp_path / f"{kind}-{number}"
            resumed = weights(parts)
            assert expected.keys() == resumed.keys()
            assert all(torch.equal(expected[name], resumed[name]) for name in expected)
            assert metrics(tmp_path / kind) == metrics(parts)


def test_three_processes_go_on_after_a_stop(tiny_config, tmp_path):
    check(tiny_config, tmp_path, {"full": FULL}, [[1]], 3, {})


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 4])
@pytest.mark.parametrize("environment", [{}, FSDP2], ids=["ddp", "fsdp2"])
def test_processes_go_on_after_stops(count, environment, tiny_config, tmp_path):
    kinds = {"full": FULL, "adapter": ADAPTER, "copy": COPY}
    check(tiny_config, tmp_path, kinds, [[1, 3], [2]], count, environment)


def test_what_three_processes_divide_unevenly_is_written_without_an_average(tiny_config, tmp_path):
    """Of 16 rows they have 6, 6 and 4: gathered, they are a view of 18."""
    changes = {**FULL, "ema_decay": 0.0, "method": "sft", "steps": 1, "save_every": 1}
    train_all([{"settings": settings(tiny_config, tmp_path, "run", **changes)}], 3, **FSDP2)
    assert any(len(tensor) % 3 for tensor in weights(tmp_path / "run", 1).values())

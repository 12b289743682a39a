"""The environment that launchers leave: a group, or one sentence before anything waits."""

from __future__ import annotations

import pytest

from soar_bench.core.distributed import ALONE, Group, described
from soar_bench.core.errors import SoarBenchError

VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture
def environment(monkeypatch):
    """environment(VARIABLE=value, ...) sets these of a launcher's variables and no others."""

    def put(**variables):
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


def test_a_whole_environment_is_a_group(environment):
    environment()
    assert described() == ALONE
    whole = {"WORLD_SIZE": "4", "RANK": "3", "MASTER_ADDR": "n1", "MASTER_PORT": "29500"}
    environment(**whole, LOCAL_RANK="1", LOCAL_WORLD_SIZE="2")
    assert described() == Group(rank=3, size=4, local_rank=1, local_size=2)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        # as where a batch script exports these and `srun` starts every task with them
        ({"MASTER_ADDR": "n1", "MASTER_PORT": "29500"}, "WORLD_SIZE=2 but no RANK: start with"),
        ({"RANK": "0"}, "but no MASTER_ADDR and no MASTER_PORT: start with torchrun"),
        ({"RANK": "2", "MASTER_ADDR": "n1", "MASTER_PORT": "1"}, "RANK=2 of WORLD_SIZE=2"),
        ({"RANK": "x", "MASTER_ADDR": "n1", "MASTER_PORT": "1"}, "RANK='x', which is no number"),
    ],
)
def test_half_of_an_environment_is_told(environment, variables, words):
    environment(WORLD_SIZE="2", **variables)
    with pytest.raises(SoarBenchError, match=words):
        described()

"""Several processes train what one does, and go on after a stop as if there had been none."""

from __future__ import annotations

import json

import pytest
import torch
from processes import FSDP2, train_all
from safetensors.torch import load_file

from soar_bench.checkpoints import resolve
from training.run import METRICS_FILE


def weights(output, step=5):
    folder = output / f"checkpoint-{step:06d}"
    (file,) = folder.rglob("*.safetensors")
    return load_file(file)


def metrics(output):
    lines = [json.loads(line) for line in (output / METRICS_FILE).read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("samples_per_second", "memory_gib")}
            for line in lines]  # fmt: skip


def settings(tiny_config, tmp_path, name, **changes):
    """Of five steps with eight samples each, in whatever number of processes."""
    changes = {
        "output": tmp_path / name,
        "steps": 5,
        "save_every": 2,
        "ema_decay": 0.5,
        "cache": tmp_path / "cache",
        "trackers": [],
        "soar": {"points": 2, "guidance": 2.0, "paths": 2, "aux_chunk": 7},
        # Adam turns rounding of a near-zero gradient into a step of full length; a large epsilon
        # keeps a tolerance meaningful.
        "optimizer": {"lr": 1e-2, "epsilon": 1e-3},
        **changes,
    }
    return tiny_config(**changes).model_dump(mode="json")


ADAPTER = {"rank": 4, "alpha": 8.0, "dropout": 0.1}


@pytest.mark.parametrize("environment", [{}, FSDP2], ids=["ddp", "fsdp2"])
def test_two_processes_train_as_one_and_go_on_after_a_stop(
    environment, tiny_config, tiny_train, tmp_path
):
    alone = tiny_config(**settings(tiny_config, tmp_path, "alone", batch_size=8))
    tiny_train(alone)
    whole = settings(tiny_config, tmp_path, "whole", batch_size=2, accumulate=2)
    parts = {**whole, "output": str(tmp_path / "parts")}
    adapter = {**whole, "lora": ADAPTER}
    adapter_whole = {**adapter, "output": str(tmp_path / "adapter-whole")}
    adapter_parts = {**adapter, "output": str(tmp_path / "adapter-parts")}
    halves = {"precision": "bf16", "gradient_checkpointing": True}
    half = {**whole, **halves, "output": str(tmp_path / "half")}
    adapter_half = {**adapter, **halves, "output": str(tmp_path / "adapter-half")}
    train_all(
        [
            {"settings": whole},
            {"settings": parts, "stop": 1},
            {"settings": parts, "stop": 3},
            {"settings": parts},
            {"settings": adapter_whole},
            {"settings": adapter_parts, "stop": 2},
            {"settings": adapter_parts},
        ],
        **environment,
    )
    train_all(  # in processes of their own: accelerate has one precision a process
        [{"settings": half}, {"settings": adapter_half}],
        **environment,
    )
    for step in (2, 4, 5):
        single, divided = weights(alone.output, step), weights(tmp_path / "whole", step)
        assert single.keys() == divided.keys()
        for name in single:
            torch.testing.assert_close(divided[name], single[name], rtol=1e-4, atol=2e-6)
    assert resolve(str(tmp_path / "whole")).form == "transformer"
    assert resolve(str(tmp_path / "adapter-whole")).form == "lora"
    for single, divided in zip(metrics(alone.output), metrics(tmp_path / "whole"), strict=True):
        assert divided == pytest.approx(single, rel=1e-4)
    for kind in ("", "adapter-"):
        exact, rounded = metrics(tmp_path / f"{kind}whole"), metrics(tmp_path / f"{kind}half")
        for row, rounded_row in zip(exact, rounded, strict=True):
            assert rounded_row["loss"] == pytest.approx(row["loss"], rel=0.02)
        expected, resumed = weights(tmp_path / f"{kind}whole"), weights(tmp_path / f"{kind}parts")
        assert expected.keys() == resumed.keys()
        assert all(torch.equal(expected[name], resumed[name]) for name in expected)
        assert metrics(tmp_path / f"{kind}whole") == metrics(tmp_path / f"{kind}parts")

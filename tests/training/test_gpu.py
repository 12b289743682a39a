"""What only a GPU shows: `pytest -m gpu`; left out where there is none."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from safetensors.torch import load_file

from training.types import Stopped

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def weights(checkpoint):
    (file,) = checkpoint.rglob("*.safetensors")
    return load_file(file)


@pytest.mark.parametrize("rank", [0, 4], ids=["full", "adapter"])
def test_with_deterministic_a_stopped_run_ends_with_the_same_bits(
    rank, tiny_config, tiny_train, tmp_path
):
    settings = {"deterministic": True, "lora": {"rank": rank}}
    whole = tiny_train(tiny_config(output=tmp_path / "whole", **settings))

    def stop(stage, done, total, figures):
        if stage == "train" and done == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    parts = tiny_config(output=tmp_path / "parts", **settings)
    with pytest.raises(Stopped):
        tiny_train(parts, progress=stop)
    straight, resumed = weights(whole), weights(tiny_train(parts))
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)

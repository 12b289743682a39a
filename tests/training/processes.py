"""Trainings in several processes, as a launcher starts them."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from forks import launch

#: What `accelerate launch` sets for configs/accelerate/fsdp2.yaml.
FSDP2 = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "JointTransformerBlock",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    # Usual in such files, and switched off by us: every process needs the encoders.
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
}


class _Killed(BaseException):
    """An end that nobody hears of."""


def train_all(jobs: list[dict[str, Any]], count: int = 2, **environment: str) -> list[str]:
    """Runs trainings one after the other in each process.

    A job has ``settings``, as of a config file, and may have ``stop``: the step at which every
    process gets SIGTERM, or ``kill``: the step after which it ends before anything is saved.
    """
    return launch([str(Path(__file__).resolve()), json.dumps(jobs)], count, **environment)


def _run(job: dict[str, Any]) -> None:
    from soar_bench.trainer.config import load_config
    from soar_bench.trainer.pipeline import BasePipeline
    from soar_bench.trainer.run import train
    from training.types import Stopped

    config = load_config(None, job["settings"])
    seen: list[Any] = []
    load = BasePipeline.load

    def load_watched(pipeline: BasePipeline, parts: Any) -> Any:
        loaded = load(pipeline, parts)
        if loaded.transformer is not None:
            _note_timesteps(loaded.transformer, seen)
        return loaded

    def sync_buffers(model: Any) -> None:
        raise AssertionError("buffers that never change were sent with a step")

    BasePipeline.load = load_watched  # type: ignore[method-assign]
    torch.nn.parallel.DistributedDataParallel._sync_buffers = sync_buffers  # type: ignore[method-assign]

    def progress(stage: str, done: int, total: int, figures: dict[str, float]) -> None:
        if stage == "train" and done == job.get("stop"):
            os.kill(os.getpid(), signal.SIGTERM)
        if stage == "train" and done == job.get("kill"):
            raise _Killed

    try:
        train(config, progress=progress, watch=False)
    except (Stopped, _Killed) as error:
        assert ("kill" if isinstance(error, _Killed) else "stop") in job
    else:
        assert not {"stop", "kill"} & set(job), "the training was to be stopped"
    finally:
        BasePipeline.load = load  # type: ignore[method-assign]
    assert seen
    assert all(t.dtype == torch.float32 for t in seen)
    assert any((t != t.bfloat16().float()).any() for t in seen), "rounded on the way"


def _note_timesteps(transformer: Any, seen: list[Any]) -> None:
    """Appends those that reach the transformer's embedding of them, as it is called."""
    transformer.time_text_embed.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].detach().clone())
    )


if __name__ == "__main__":
    for one in json.loads(sys.argv[1]):
        _run(one)

"""A look at a checkpoint leaves training as it was: random states, modes, processes."""

from __future__ import annotations

import json
import os
import random

import forks
import numpy as np
import pytest
from PIL import Image
from watched import by_name

from soar_bench.sampling.sampler import Sampler
from soar_bench.trainer.watch import callbacks_of

pytestmark = pytest.mark.usefixtures("collected")


def test_training_goes_on_with_the_random_states_and_modes_it_had(config, tmp_path, monkeypatch):
    import torch

    sample, modes = Sampler.sample, set()

    def looked(self, *given):
        modes.add(
            (
                torch.is_autocast_enabled("cpu"),
                torch.is_grad_enabled(),
                torch.get_default_dtype(),
            )
        )
        return sample(self, *given)

    monkeypatch.setattr(Sampler, "sample", looked)
    settings = config(output=tmp_path / "run")
    torch.manual_seed(5), np.random.seed(6), random.seed(7)
    expected = torch.rand(3), np.random.rand(3), [random.random() for _ in range(3)]
    torch.manual_seed(5), np.random.seed(6), random.seed(7)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            seen = [
                w.on_checkpoint(settings.base, 0)
                for w in callbacks_of(settings, tmp_path / "cache")
            ]
            assert torch.is_autocast_enabled("cpu")
            assert torch.is_grad_enabled()
            assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert modes == {(False, False, torch.float32)}
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1])
    assert [random.random() for _ in range(3)] == expected[2]

    plain = config(output=tmp_path / "plain")
    others = [w.on_checkpoint(plain.base, 0) for w in callbacks_of(plain, tmp_path / "other")]
    assert seen[1].figures == others[1].figures
    for one, other in zip(seen[0].images.values(), others[0].images.values(), strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_states_are_as_they_were_after_a_look_that_failed(config, tmp_path, monkeypatch):
    import torch

    def fail(*_):
        torch.manual_seed(1), np.random.seed(1), random.seed(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(Sampler, "sample", fail)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    settings = config(output=tmp_path / "run")
    for watcher in callbacks_of(settings, tmp_path / "cache"):
        with pytest.raises(KeyboardInterrupt):
            watcher.on_checkpoint(settings.base, 0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]
    assert torch.is_grad_enabled()


def test_models_of_a_look_are_whole_under_zero_3(config, tmp_path, monkeypatch):
    """DeepSpeed's third stage has transformers divide every model that it loads."""
    from transformers.integrations import deepspeed

    class Settings:
        config = None

        def is_zero3(self):
            return True

    settings, seen = Settings(), []
    sample = Sampler.sample

    def looked(self, *given):
        seen.append(deepspeed.is_deepspeed_zero3_enabled())
        return sample(self, *given)

    monkeypatch.setattr(Sampler, "sample", looked)
    run = config(output=tmp_path / "run")
    validation, _ = callbacks_of(run, tmp_path / "cache")
    deepspeed.set_hf_deepspeed_config(settings)
    try:
        validation.on_checkpoint(run.base, 0)
        assert seen == [False]
        assert deepspeed.is_deepspeed_zero3_enabled()
    finally:
        deepspeed.unset_hf_deepspeed_config()


_TWO = """
import gc, json, os, sys
import torch.distributed as dist
from torch.testing._internal.distributed import fake_pg  # a group that says nothing, like NCCL's
import transformers, diffusers
import soar_bench.evaluation, soar_bench.sampling.generate, soar_bench.core.memory
from diffusers import StableDiffusion3Pipeline
from transformers import CLIPTextModelWithProjection, T5EncoderModel

soar_bench.core.memory.USUAL_BATCH = 1  # images at once, so that both processes make some
gc.freeze()
place, settings = sys.argv[1], json.loads(sys.argv[2])
child = os.fork()
rank = 0 if child else 1
os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
               "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
from pathlib import Path
from transformers.modeling_utils import is_fsdp_enabled
from soar_bench.trainer.config import load_config
from soar_bench.sampling.sampler import Sampler
from soar_bench.trainer.watch import callbacks_of

sample, whole = Sampler.sample, []

def looked(self, *given):
    whole.append(not is_fsdp_enabled())
    return sample(self, *given)

Sampler.sample = looked
try:
    for backend in ("gloo", "fake"):
        store = dist.FileStore(f"{place}/{backend}.store", 2)
        dist.init_process_group(backend, store=store, rank=rank, world_size=2)
        output = f"{place}/{backend}"
        config = load_config(None, settings | {"output": output})
        figures = {}
        for watcher in callbacks_of(config, Path(output) / "cache"):
            figures |= watcher.on_checkpoint(config.base, 0).figures
        assert dist.is_initialized() and dist.get_backend() == backend
        assert whole and all(whole) and is_fsdp_enabled()
        Path(f"{output}/{rank}.json").write_text(json.dumps(figures))
        dist.destroy_process_group()
except BaseException:
    import traceback
    traceback.print_exc()
    os._exit(1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if child else 0)
"""


def test_two_processes_have_the_figures_and_images_of_one(config, tmp_path):
    """Over the default group where it is gloo's, over one of their own beside another. The setting
    of FSDP has transformers leave models empty in all processes but one; not so in a look.
    """
    alone = config(output=tmp_path / "one")
    watchers = by_name(alone, tmp_path / "cache")
    seen = watchers["evaluation"].on_checkpoint(alone.base, 0)
    images = watchers["validation"].on_checkpoint(alone.base, 0).images
    settings = alone.model_dump(mode="json", exclude={"output"}, exclude_defaults=True)
    done = forks.run(
        ["-c", _TWO, tmp_path, json.dumps(settings)],
        env={
            **os.environ,
            "ACCELERATE_USE_FSDP": "true",
            "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
        },
    )
    assert done.returncode == 0, done.stderr
    for backend in ("gloo", "fake"):
        output = tmp_path / backend
        for rank in (0, 1):
            assert json.loads((output / f"{rank}.json").read_text()) == seen.figures
        for file in images.values():
            other = np.asarray(Image.open(output / file.relative_to(alone.output)))
            assert np.abs(np.asarray(Image.open(file)).astype(int) - other).max() <= 1
        (record,) = (output / "results").rglob("run.json")
        made = json.loads(record.read_text())["made"]
        assert (made["processes"], made["generated"]) == (2, 3)

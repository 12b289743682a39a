"""A resume state is read page by page, straight to where it belongs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from diffusers.training_utils import EMAModel

from training.parallel import Parallel
from training.state import Trained, load_state, save_state

WIDTH = 2048
MIB = 2**20


def trained():
    """A layer of 16 MiB after one step, with its average."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(WIDTH, WIDTH, bias=False)
    optimizer = torch.optim.AdamW(layer.parameters())
    average = EMAModel(layer.parameters(), decay=0.9)
    layer(torch.ones(1, WIDTH)).sum().backward()
    optimizer.step()
    average.step(layer.parameters())
    return Trained(layer, optimizer, average)


def fresh():
    layer = torch.nn.Linear(WIDTH, WIDTH, bias=False)
    optimizer = torch.optim.AdamW(layer.parameters())
    return Trained(layer, optimizer, EMAModel(layer.parameters(), decay=0.9))


def own_memory():
    """Bytes of this process that no file backs."""
    return 1024 * int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1])


@pytest.fixture()
def parallel(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    return Parallel("fp32")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux shows what is mapped")
def test_a_state_is_mapped_and_not_held(tmp_path, parallel, monkeypatch):
    before = trained()
    save_state(tmp_path, 1, before, parallel, "run")
    (file,) = tmp_path.rglob("*.pt")
    assert file.stat().st_size > 64 * MIB  # weights, two moments and the average
    after = fresh()
    load, taken = Trained.load, []

    def measured(self, state):
        taken.append(own_memory() - start)
        load(self, state)

    monkeypatch.setattr(Trained, "load", measured)
    start = own_memory()
    assert load_state(tmp_path, after, parallel, "run", lambda words: None) == 1
    assert taken[0] < 8 * MIB
    # Another state replaces the file while the run goes on.
    assert str(file) not in Path("/proc/self/maps").read_text()

    assert torch.equal(after.transformer.weight, before.transformer.weight)
    loaded, saved = (t.optimizer.state_dict()["state"][0] for t in (after, before))
    assert all(torch.equal(loaded[name], saved[name]) for name in ("exp_avg", "exp_avg_sq", "step"))
    loaded, saved = (t.average.state_dict() for t in (after, before))
    assert torch.equal(loaded.pop("shadow_params")[0], saved.pop("shadow_params")[0])
    assert loaded == saved

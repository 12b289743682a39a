"""``deterministic: true`` asks torch for reproducible kernels in steps, and nowhere else."""

from __future__ import annotations

import os

import pytest
import torch
from safetensors.torch import load_file

from soar_bench.trainer.pipeline import BasePipeline
from soar_bench.trainer.run import check
from training.callbacks import Observation
from training.deterministic import WORKSPACE, deterministic
from training.types import TrainingError


class Looker:
    """Notes whether deterministic algorithms are asked for while checkpoints are looked at."""

    name, every, subject = "looker", 1, "it"

    def __init__(self):
        self.seen = []
        self.higher_is_better = {}

    def on_checkpoint(self, checkpoint, step):
        self.seen.append(torch.are_deterministic_algorithms_enabled())
        return Observation({})


@pytest.fixture()
def asked(monkeypatch):
    """Whether the transformer's passes ran with deterministic algorithms."""
    seen, load = [], BasePipeline.load

    def watched(pipeline, parts):
        loaded = load(pipeline, parts)
        if loaded.transformer is not None:
            loaded.transformer.register_forward_pre_hook(
                lambda *_: seen.append(torch.are_deterministic_algorithms_enabled())
            )
        return loaded

    monkeypatch.setattr(BasePipeline, "load", watched)
    return seen


def test_steps_are_deterministic_and_looks_at_checkpoints_are_not(
    asked, tiny_config, tiny_train, monkeypatch
):
    monkeypatch.delenv(WORKSPACE, raising=False)
    looker = Looker()
    tiny_train(tiny_config(steps=2, save_every=1, deterministic=True), callbacks=[looker])
    assert asked and all(asked)
    assert looker.seen == [False] * 3
    assert not torch.are_deterministic_algorithms_enabled()
    assert os.environ[WORKSPACE] == ":4096:8"  # read by cuBLAS


def test_a_reward_may_use_an_operation_without_a_deterministic_form(
    asked, tiny_config, tiny_train, monkeypatch
):
    """As the cumulative sums of GenEval's detector on a GPU."""
    monkeypatch.delenv(WORKSPACE, raising=False)

    class Put:
        names, identity = ("put",), {"put": {}}

        def __call__(self, images, prompts, metadata):
            values = torch.zeros(len(images))
            values.put_(torch.arange(len(images)), torch.from_numpy(images[:, 0, 0, 0]).float())
            return {"put": values.double().numpy()}

        def reason(self, name):
            return ""

    settings = {"data": "shapes-clean:4", "nft": {"group": 4, "steps": 2}, "rewards": {"put": 1}}
    config = tiny_config(method="nft", steps=1, deterministic=True, **settings)
    with pytest.warns(UserWarning, match="put_ does not have a deterministic implementation"):
        tiny_train(config, rewards=Put())
    assert asked and all(asked)
    assert not torch.are_deterministic_algorithms_enabled()


def test_by_default_nothing_is_asked_for(asked, tiny_config, tiny_train):
    tiny_train(tiny_config(steps=1))
    assert asked and not any(asked)


def test_on_a_cpu_it_changes_no_bit_and_every_operation_is_allowed(
    tiny_config, tiny_train, tmp_path
):
    lora = {"rank": 2, "dropout": 0.5}
    settings = {"steps": 2, "gradient_checkpointing": True, "lora": lora}
    usual, exact = (
        tiny_train(tiny_config(output=tmp_path / str(on), deterministic=on, **settings))
        for on in (False, True)
    )
    (a,), (b,) = usual.rglob("*.safetensors"), exact.rglob("*.safetensors")
    a, b = load_file(a), load_file(b)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_workspace_that_is_not_reproducible_is_refused_before_anything_else(
    tiny_config, tiny_train, monkeypatch
):
    monkeypatch.setenv(WORKSPACE, ":0:0")
    for run in (check, tiny_train):
        with pytest.raises(TrainingError, match=f"{WORKSPACE}=:0:0") as error:
            run(tiny_config(deterministic=True))
        assert "unset it" in str(error.value)


def test_settings_of_before_return_after_an_error():
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = True
    try:
        with pytest.raises(ValueError), deterministic(True):
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
            assert not torch.backends.cudnn.benchmark
            raise ValueError
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.backends.cudnn.benchmark
        assert torch.utils.deterministic.fill_uninitialized_memory
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = False

"""The disk that a run will need, against what real runs take, and counted by hand."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from training import state as state_module
from training.checkpoint import checkpoints
from training.run import Run
from training.space import Sizes, peak, rollout_bytes
from training.types import Stopped, TrainingError


def used(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.fixture()
def measured(monkeypatch):
    """Bytes of an output whenever a state had been written and none deleted. A tenth or less of
    what so small a run writes is the tensors' names.
    """
    seen = []
    delete = state_module.delete_states

    def note(output, but=None):
        seen.append(used(output))
        delete(output, but)

    monkeypatch.setattr(state_module, "delete_states", note)
    return seen


def sizes_of(config):
    from soar_bench.trainer.pipeline import BasePipeline

    return BasePipeline(Path(config.base)).sizes(config)


def stopping(step):
    """Return a ``progress`` that asks the training to stop after a step."""

    def progress(stage, done, total, figures):
        if stage == "train" and done == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return progress


@pytest.mark.parametrize(
    "changes",
    [{}, {"keep_last": 1}, {"ema_decay": 0.5}, {"lora": {"rank": 64}, "save_every": 1}],
    ids=["all stay", "one stays", "average", "adapter"],
)
def test_a_run_takes_what_was_foreseen(changes, tiny_config, tiny_train, measured):
    config = tiny_config(**{"steps": 8, "save_every": 2, "method": "sft", **changes})
    foreseen = peak(config, sizes_of(config), 0, ())
    tiny_train(config)
    assert foreseen == pytest.approx(max(measured), rel=0.1)


def test_a_resumed_run_takes_one_more_state_and_not_two(tiny_config, tiny_train, measured):
    """One is there already, and goes when the new one is whole."""
    config = tiny_config(steps=6, save_every=2, method="sft")

    with pytest.raises(Stopped):
        tiny_train(config, progress=stopping(2))
    before, sizes = used(config.output), sizes_of(config)
    del measured[:]
    foreseen = peak(config, sizes, 3, (2,))
    tiny_train(config)
    assert foreseen == pytest.approx(max(measured) - before, rel=0.1)
    assert foreseen == sizes.checkpoint(config) + sizes.state(config)


def test_sd35_medium_with_five_saves(tiny_config):
    """By hand: at the fourth save four checkpoints of 9.88 GB stand beside two states of 26.9."""
    config = tiny_config(steps=5000, save_every=1000)
    sizes = Sizes(2_243_171_520, 2_243_171_520, 384 * 384 * 1536)
    assert sizes.checkpoint(config) == pytest.approx(9.88e9, rel=1e-3)
    assert sizes.state(config) == pytest.approx(26.9e9, rel=1e-3)
    assert peak(config, sizes, 0, ()) == pytest.approx(93.3e9, rel=1e-3)
    assert peak(config, sizes, 4000, (1000, 2000, 3000, 4000)) == sizes.checkpoint(config)
    halves = tiny_config(optimizer={"kind": "adamw8bit"}, ema_decay=0.9)
    assert sizes.state(halves) == (4 + 4 + 2) * sizes.trained


def test_checkpoints_that_go_at_the_start_make_room_first(tiny_config, tiny_train, measured):
    """A run that is told to keep fewer, as its refusal advises, needs their room no more."""
    sizes = Sizes(100, 100, 20)  # a checkpoint takes 480 bytes, a state 1200
    keeping_one, keeping_two = (
        tiny_config(steps=60, save_every=10, keep_last=last) for last in (1, 2)
    )
    assert peak(keeping_one, sizes, 40, (10, 20, 30, 40)) == -3 * 480 + 480 + 1200
    assert peak(keeping_two, sizes, 40, (10, 20, 30, 40)) == -2 * 480 + 480 + 1200
    assert peak(keeping_one, sizes, 50, (10, 20, 30, 40, 50)) == 0, (
        "the last is smaller than those four"
    )
    config = tiny_config(steps=8, save_every=1, method="sft")

    with pytest.raises(Stopped):
        tiny_train(config, progress=stopping(3))
    before, fewer = used(config.output), config.model_copy(update={"keep_last": 1})
    on_disk = [*checkpoints(config.output)]
    assert len(on_disk) > 3
    del measured[:]
    tiny_train(fewer)
    foreseen = peak(fewer, sizes_of(fewer), max(on_disk), on_disk)
    assert before + foreseen == pytest.approx(max(measured[:-1]), rel=0.1)


class Length:
    """A reward that costs nothing."""

    names = ("length",)
    identity = {"length": {}}  # noqa: RUF012

    def __call__(self, images, prompts, metadata):
        return {"length": images.mean(axis=(1, 2, 3), dtype=float)}


def test_a_state_amid_a_rollout_takes_its_samples_too(tiny_config, tiny_train, measured):
    """32 images, of each the last state and those around 3 steps."""
    config = tiny_config(
        method="flow-grpo",
        flow_grpo={"group": 4, "steps": 4, "guidance": 1.0, "updates": 2},
        rewards={"length": 1.0},
        batch_size=16,
        lora={"rank": 64},
        trackers=[],
        steps=4,
        save_every=1,
        soar={},
    )
    latent = 4 * 4 * 16 * 16
    assert rollout_bytes(config, latent) == 32 * (3 + 2) * latent
    sizes = sizes_of(config)
    tiny_train(config, rewards=Length())
    foreseen = peak(config, sizes, 0, (), rollout_bytes(config, latent))
    assert foreseen == pytest.approx(max(measured), rel=0.1)
    # Two of them never stand at once: the state between has no samples.
    assert foreseen - peak(config, sizes, 0, ()) == 32 * (3 + 2) * latent
    even = config.model_copy(update={"save_every": 2})
    assert peak(even, sizes, 0, (), 10**6) == peak(even, sizes, 0, ())


class Disk:
    """A disk of one size for all folders."""

    def __init__(self, monkeypatch, free):
        import shutil

        monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=free))


def test_room_for_captions_is_asked_for_before_the_first_image_is_encoded(
    tiny_config, tiny_train, tmp_path, monkeypatch
):
    """Twelve images of 64 x 64 and their captions, by hand; and the dry run says the same."""
    from soar_bench.trainer.run import check
    from training.encoders import Encoders

    settings = {"data": "shapes-clean:12", "cache": tmp_path / "cache", "steps": 1}
    config = tiny_config(**settings)
    plan = check(config)
    texts = {plan.checked.source.caption(i) for i in range(12)}
    latents = 12 * 4 * (4 * 16 * 16)
    embeds = (len(texts) + 1) * 4 * (28 * 128 + 128)
    asked = []
    monkeypatch.setattr("training.cache.Cache.check_space", lambda self, size: asked.append(size))
    check(config)
    assert asked == [latents + embeds]
    monkeypatch.undo()
    monkeypatch.setattr(Encoders, "images", lambda *given: pytest.fail("an image was encoded"))
    Disk(monkeypatch, free=latents + embeds - 1)
    for run in (check, tiny_train):
        with pytest.raises(TrainingError, match=r"encodings need .* [kM]?B more in .*cache"):
            run(config)
    assert not (tmp_path / "cache" / "latents").exists()
    # One disk for both: what the run writes stands beside the encodings.
    Disk(monkeypatch, free=latents + embeds + sizes_of(config).checkpoint(config) - 1)
    for run in (check, tiny_train):
        with pytest.raises(TrainingError, match=r"checkpoints: 1, the state, and .* encodings\)"):
            run(config)


def test_encodings_that_are_there_are_not_asked_for_again(
    tiny_config, tiny_train, tmp_path, monkeypatch
):
    config = tiny_config(cache=tmp_path / "cache", steps=1)
    tiny_train(config)
    asked = []
    monkeypatch.setattr(Run, "check_space", lambda self, sizes, coming: asked.append(coming))
    tiny_train(tiny_config(cache=tmp_path / "cache", steps=1, output=tmp_path / "other"))
    assert asked == [0]

"""The disk that a run will need, against what real runs take, and counted by hand."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from training import state as state_module
from training.run import Run
from training.space import Sizes, peak
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

    def stop(stage, done, total, figures):
        if stage == "train" and done == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        tiny_train(config, progress=stop)
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
        with pytest.raises(TrainingError, match=r"encodings need .* GB more in .*cache"):
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

"""Objectives on the model's own samples, in the loop: figures, stops, refusals."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from soar_bench.core.errors import SoarBenchError
from soar_bench.trainer.data import open_prompts
from soar_bench.trainer.run import check
from training.state import states
from training.types import Stopped, TrainingError


class Brightness:
    """A reward that a few steps can raise."""

    names = ("brightness",)
    identity = {"brightness": {"version": "1"}}  # noqa: RUF012

    def __init__(self, unscored: bool = False, flat: bool = False) -> None:
        self.unscored, self.flat = unscored, flat

    def __call__(self, images, prompts, metadata):
        assert images.dtype == np.uint8
        assert images.shape[1:] == (64, 64, 3)
        assert len(images) == len(prompts) == len(metadata)
        assert all(
            record["prompt"] == prompt for record, prompt in zip(metadata, prompts, strict=True)
        )
        values = images.mean(axis=(1, 2, 3)) / 255 * (not self.flat)
        return {"brightness": np.full(len(images), np.nan) if self.unscored else values}

    def reason(self, name):
        return "it is dark" if self.unscored else ""


#: Two updates of eight samples per rollout: four prompts, four images each.
SETTINGS = {
    "flow-grpo": {"flow_grpo": {"group": 4, "steps": 4, "guidance": 2.0, "clip": 1e-3}},
    "fast": {
        "flow_grpo": {
            "group": 4, "steps": 6, "guidance": 1.0, "step": "cps", "noise_scale": 0.8,
            "window": 2, "kl_weight": 0.0,
        },
    },
    "nft": {"nft": {"group": 4, "steps": 4, "updates": 2}},
    "d-opsd": {"d_opsd": {"steps": 3, "teacher_decay": 0.9}},
}  # fmt: skip


def settings(kind, **changes):
    method = "flow-grpo" if kind == "fast" else kind
    rewarded = {} if kind == "d-opsd" else {"rewards": {"brightness": 1.0}}
    return {
        "method": method,
        "data": "shapes-clean:8",
        "steps": 5,
        "save_every": 3,
        "batch_size": 4,
        "accumulate": 2,
        "trackers": [],
        "optimizer": {"lr": 1e-3},
        **rewarded,
        **SETTINGS[kind],
        **changes,
    }


def weights(checkpoint):
    (file,) = checkpoint.rglob("*.safetensors")
    return load_file(file)


def metrics(output):
    drop = ("samples_per_second", "memory_gib")
    lines = [json.loads(x) for x in (output / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in drop} for line in lines]


@pytest.mark.parametrize("kind", SETTINGS)
@pytest.mark.parametrize("lora", [0, 4])
def test_stopped_in_a_rollout_or_between_its_steps_it_ends_with_the_same_bits(
    kind, lora, tiny_config, tiny_train, tmp_path
):
    adapter = {"lora": {"rank": lora}} if lora else {}

    def config(name):
        return tiny_config(**settings(kind, output=tmp_path / name, ema_decay=0.9, **adapter))

    whole = tiny_train(config("whole"), rewards=Brightness())

    # A signal after step 2 is seen while the second rollout is made, which is dropped.
    def signalled(stage, done, total, figures):
        if stage == "train" and done == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped) as stopped:
        tiny_train(config("parts"), rewards=Brightness(), progress=signalled)
    on_rollouts = kind != "d-opsd"
    assert stopped.value.step == (2 if on_rollouts else 3)

    # Killed in step 4: the state is that of step 3, between the two steps of a rollout.
    class Killed(BaseException):
        pass

    def killed(stage, done, total, figures):
        if stage == "train" and done == 4:
            raise Killed

    with pytest.raises(Killed):
        tiny_train(config("parts"), rewards=Brightness(), progress=killed)
    files = {file.name for file in (tmp_path / "parts").glob("state-000003/*.pt")}
    assert files == {"process-0.pt"} | ({"samples-0.pt"} if on_rollouts else set())
    parts = tiny_train(config("parts"), rewards=Brightness())
    a, b = weights(whole), weights(parts)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "parts")
    assert not states(tmp_path / "parts")


@pytest.mark.parametrize("kind", ["flow-grpo", "fast"])
def test_before_the_first_update_the_ratio_is_one_and_nothing_has_drifted(
    kind, tiny_config, tiny_train
):
    config = tiny_config(**settings(kind))
    tiny_train(config, rewards=Brightness())
    first, second, *_ = metrics(config.output)
    assert first["ratio_off"] == 0
    assert first["kl"] == 0
    assert second["ratio_off"] > 0, "the second update is of samples of the first one's policy"
    assert second["kl"] > 0


def test_rewards_are_logged_raw_and_rise(tiny_config, tiny_train):
    changes = {"steps": 16, "optimizer": {"lr": 3e-3}, "save_every": 100}
    config = tiny_config(**settings("flow-grpo", **changes, data="shapes-clean:4"))
    tiny_train(config, rewards=Brightness())
    lines = metrics(config.output)
    for line in lines:
        assert 0 < line["reward_brightness"] < 1
        assert line["reward_brightness_std"] > 0
        assert line["reward_brightness_unscored"] == 0
    assert lines[-1]["reward_brightness"] > lines[0]["reward_brightness"]


def test_nfts_old_policy_lags_behind_as_its_schedule_says(tiny_config, tiny_train):
    config = tiny_config(**settings("nft"))
    tiny_train(config, rewards=Brightness())
    contrasts = [line["contrast"] for line in metrics(config.output)]
    assert contrasts[0] == 0, "at first the old policy is the current one"
    assert contrasts[1] > 0
    assert 0 < contrasts[2] < contrasts[1], "it has followed, but for the decay of 0.002"


def test_a_reward_that_scores_nothing_ends_the_run_with_its_reason(tiny_config, tiny_train):
    with pytest.raises(TrainingError, match=r"scored none of the 16 images .*it is dark"):
        tiny_train(tiny_config(**settings("nft")), rewards=Brightness(unscored=True))


@pytest.mark.parametrize("kind", ["flow-grpo", "nft"])
def test_a_reward_that_is_always_the_same_moves_nothing_and_is_said(
    kind, tiny_config, tiny_train, tiny_pipeline
):
    notes = []
    config = tiny_config(**settings(kind, steps=2, optimizer={"lr": 1e-3, "weight_decay": 0.0}))
    checkpoint = tiny_train(config, rewards=Brightness(flat=True), note=notes.append)
    assert sum("nothing is learnt" in note for note in notes) == 1
    base = weights(tiny_pipeline / "transformer")
    assert all(torch.equal(t, base[name]) for name, t in weights(checkpoint).items())
    assert metrics(config.output)[0]["flat_groups"] == 1


def test_without_a_difference_of_contexts_the_student_is_its_own_teacher(
    tiny_config, tiny_train, tiny_pipeline
):
    changes = {"d_opsd": {"steps": 3, "student_words": 99}, "steps": 1}
    config = tiny_config(**settings("d-opsd", **changes))
    with pytest.raises(SoarBenchError, match="student sees all that its teacher does"):
        tiny_train(config)
    tiny_train(config, source=open_prompts("shapes-clean:8"))
    (line,) = metrics(config.output)
    assert line["loss"] == 0
    other = tiny_config(**settings("d-opsd", steps=1, output=config.output.with_name("other")))
    tiny_train(other)
    assert metrics(other.output)[0]["loss"] > 0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"rewards": {}}, "nft needs rewards"),
        ({"rewards": {"brightness": 0}}, r"rewards\.brightness has weight 0"),
        ({"reward_scaling": {"other": "standard"}}, "no reward has that name"),
        ({"nft": {"group": 5, "updates": 2}}, "make it a multiple of nft.updates"),
        ({"nft": {"group": 6, "updates": 2}}, "is no whole number of groups"),
        ({"nft": {"group": 4, "decay_rate": 0}}, "velocities never differ"),
        ({"nft": {"group": 4, "decay_flat": 4}}, "at each of 5 steps, so .* never differ"),
        ({"lora": {"rank": 2, "dropout": 0.1}}, r"set lora\.dropout to 0"),
        ({"caption_dropout": 0.1}, "drops no captions"),
        ({"flow_grpo": {"guidance": 1.0}}, "flow_grpo is read by flow-grpo alone"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_sentence(changes, sentence, tiny_config):
    with pytest.raises(SoarBenchError, match=sentence) as refused:
        tiny_config(**settings("nft", **changes))
    assert "\n" not in str(refused.value)


def test_flow_grpo_is_not_compiled(tiny_config):
    """Compiled, the first ratios of the tiny model were 2.6e-5 off 1; Flow-GRPO-Fast clips 1e-5."""
    for kind in ("flow-grpo", "fast"):
        with pytest.raises(SoarBenchError, match="ratios would not begin at 1: set compile to"):
            tiny_config(**settings(kind, compile=True))
    assert tiny_config(**settings("nft", compile=True)).compile


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"window": 4, "steps": 6}, "only 3 steps with noise lie in the first"),
        ({"step": "cps", "noise_scale": 1.5}, "at most 1"),
        ({"trained_share": 0.05}, "leaves no step to train on"),
        ({"window": 1, "trained_share": 0.5}, "trained_share has no effect with a window"),
        ({"window_range": 0.8}, "window_range has no effect without a window"),
    ],
)
def test_rollouts_that_cannot_be_are_refused(changes, sentence, tiny_config):
    grpo = {"group": 4, **changes}
    with pytest.raises(SoarBenchError, match=sentence):
        tiny_config(**settings("flow-grpo", flow_grpo=grpo))


@pytest.mark.parametrize("kind", ["nft", "d-opsd"])
def test_deepspeed_is_refused_before_anything_is_encoded(
    kind, tiny_config, tiny_train, monkeypatch
):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    rewards = {} if kind == "d-opsd" else {"rewards": {"shapes-clipscore": 1.0}}
    for run in (check, tiny_train):
        with pytest.raises(TrainingError, match=f"{kind} needs copies of the weights"):
            run(tiny_config(**settings(kind, **rewards)))


def test_rewards_that_are_handed_over_are_those_with_weights(tiny_config, tiny_train):
    config = tiny_config(**settings("nft", rewards={"brightness": 1.0, "sharpness": 0.5}))
    with pytest.raises(TrainingError, match=r"brightness, sharpness, but .* handed brightness:"):
        tiny_train(config, rewards=Brightness())


def test_unknown_rewards_and_metrics_are_named_before_anything_is_loaded(tiny_config):
    for reward, sentence in (
        ("shapes-clipscor", "did you mean shapes-clipscore"),
        ("shapes-geneval/stric", "metric of shapes-geneval"),
        ("pickscore", "fetch"),
    ):
        config = tiny_config(**settings("nft", rewards={reward: 1.0}))
        with pytest.raises(SoarBenchError, match=sentence) as refused:
            check(config)
        assert "\n" not in str(refused.value)

"""The folder of a run: what is looked at, what stays, and what is refused before the first step."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from training import run as run_module
from training.callbacks import Observation
from training.checkpoint import checkpoints
from training.run import EVALUATIONS_FILE
from training.state import states
from training.types import Diverged, Stopped, TrainingError


@dataclass
class Sees:
    """A watcher that finds what it was told to find."""

    values: dict[int, float] = field(default_factory=dict)
    every: int = 2
    name: str = "evaluation"
    subject: str = "a suite"
    higher: bool = True
    looked: list[tuple[str, int]] = field(default_factory=list)
    before: object = None

    @property
    def higher_is_better(self):
        return {"score": self.higher}

    def on_checkpoint(self, checkpoint, step):
        if self.before is not None:
            self.before(step)
        self.looked.append((checkpoint, step))
        return Observation({"score": self.values.get(step, 0.5)})


def evaluations(config):
    lines = (config.output / EVALUATIONS_FILE).read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/x"])
def test_an_output_that_cannot_be_written_is_refused_before_training(tmp_path, place):
    from soar_bench.core.errors import SoarBenchError
    from soar_bench.trainer.run import check
    from training.types import Config

    (tmp_path / "file").write_text("")
    output = tmp_path / place
    config = Config(
        method="sft",
        base="shapes",
        data="shapes-clean:4",
        steps=2,
        batch_size=2,
        output=output,
        resolution=64,
    )
    with pytest.raises(SoarBenchError, match=f"nothing can be written to {output}: .*; name"):
        check(config)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


EVERY = {"every": 2, "suite": "shapes"}


def test_the_base_and_due_checkpoints_and_the_last_are_looked_at(tiny_config, tiny_train):
    config = tiny_config(steps=5, save_every=1, evaluation=EVERY)
    watcher = Sees({0: 0.1, 2: 0.2, 4: 0.3, 5: 0.4})
    tiny_train(config, callbacks=[watcher])
    places = [config.base] + [str(checkpoints(config.output)[step]) for step in (2, 4, 5)]
    assert watcher.looked == list(zip(places, (0, 2, 4, 5), strict=True))
    assert [(look["step"], look["figures"]) for look in evaluations(config)] == [
        (0, {"score": 0.1}), (2, {"score": 0.2}), (4, {"score": 0.3}), (5, {"score": 0.4}),
    ]  # fmt: skip
    tiny_train(config, callbacks=[watcher])
    assert len(watcher.looked) == 4, "what was seen is not looked at again"


def test_looked_at_with_something_else_it_is_another_look(tiny_config, tiny_train):
    config = tiny_config(steps=4, save_every=2, evaluation=EVERY)
    tiny_train(config, callbacks=[Sees()])
    other = Sees(subject="another suite")
    tiny_train(config, callbacks=[other])
    assert [step for _, step in other.looked] == [4], "what is still to be seen"


@pytest.mark.parametrize(
    ("higher", "expected"),
    [(True, [2, 8, 10]), (False, [4, 8, 10])],
)
def test_the_last_and_the_best_stay(higher, expected, tiny_config, tiny_train):
    config = tiny_config(
        steps=10, save_every=2, keep_last=2, keep_best="score", evaluation=EVERY, method="sft"
    )
    watcher = Sees({0: 99 if higher else -99, 2: 0.9, 4: 0.1, 6: 0.9, 8: 0.5, 10: 0.4})
    watcher.higher = higher
    tiny_train(config, callbacks=[watcher])
    assert sorted(checkpoints(config.output)) == expected


def test_without_keeping_rules_all_stay(tiny_config, tiny_train):
    config = tiny_config(steps=6, save_every=2)
    tiny_train(config)
    assert sorted(checkpoints(config.output)) == [2, 4, 6]


def test_a_best_by_a_metric_that_nothing_gives_is_refused(tiny_config, tiny_train):
    config = tiny_config(steps=4, save_every=2, keep_last=1, keep_best="beauty", evaluation=EVERY)
    with pytest.raises(TrainingError, match=r"no metric 'beauty' is evaluated; there are score"):
        tiny_train(config, callbacks=[Sees()])
    assert not checkpoints(config.output)


@pytest.mark.parametrize("step", [0, 2, 4])
def test_stopped_while_looking_it_looks_again_when_run_again(step, tiny_config, tiny_train):
    config = tiny_config(steps=4, save_every=2, evaluation=EVERY)

    def stop(at):
        if at == step:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped) as stopped:
        tiny_train(config, callbacks=[Sees(before=stop)])
    assert stopped.value.step == step
    assert list(states(config.output)) == ([2] if step == 2 else [])
    watcher = Sees()
    tiny_train(config, callbacks=[watcher])
    assert [at for _, at in watcher.looked] == [at for at in (0, 2, 4) if at >= step]
    assert [look["step"] for look in evaluations(config)] == [0, 2, 4]


def test_a_loss_above_its_limit_stops_with_the_last_good_checkpoint(tiny_config, tiny_train):
    config = tiny_config(
        steps=60, save_every=1, log_every=1000, loss_limit=20.0,
        optimizer={"lr": 3.0, "clip_norm": 1e9},
    )  # fmt: skip
    with pytest.raises(Diverged, match=r"above loss_limit \(20\), at step") as diverged:
        tiny_train(config)
    good = sorted(checkpoints(config.output))
    named = str(checkpoints(config.output)[good[-1]]) if good else "the base itself"
    assert f"the last good checkpoint is {named};" in str(diverged.value)


@pytest.mark.parametrize(
    ("keep", "copies"),
    # When the last state is written beside the one before it: five checkpoints of the six, or the
    # two that stay with the newest.
    [({}, 5), ({"keep_last": 2}, 3)],
)
def test_a_disk_too_small_for_what_is_to_come_is_refused_before_the_first_step(
    keep, copies, tiny_config, tiny_train, tiny_pipeline, monkeypatch
):
    from safetensors.torch import load_file

    file = tiny_pipeline / "transformer" / "diffusion_pytorch_model.safetensors"
    sizes = {name: 4 * tensor.numel() for name, tensor in load_file(file).items()}
    whole = sum(sizes.values())
    trained = whole - sizes["pos_embed.pos_embed"]
    needed = copies * whole + 2 * 3 * trained  # a state: weights and two moments
    config = tiny_config(steps=6, save_every=1, **keep)
    steps = []

    def observe(stage, done, total, figures):
        if stage == "train":
            steps.append(done)

    class Disk:
        free = needed - 1

    monkeypatch.setattr(run_module.shutil, "disk_usage", lambda place: Disk)
    with pytest.raises(TrainingError, match=rf"needs {needed / 1e6:.1f} MB .* keep_last"):
        tiny_train(config, progress=observe)
    assert not steps
    Disk.free = needed
    tiny_train(config, progress=observe)
    assert len(steps) == 6


def interrupted(tiny_train, config, at):
    def stop(stage, done, total, figures):
        if stage == "train" and done == at:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        tiny_train(config, progress=stop)


@pytest.mark.parametrize("content", [b"", b"no state", None])
def test_a_damaged_state_is_named(content, tiny_config, tiny_train):
    config = tiny_config(steps=4, save_every=2)
    interrupted(tiny_train, config, 2)
    ((_, folder),) = states(config.output).items()
    file = folder / "process-0.pt"
    file.write_bytes(file.read_bytes()[:5000] if content is None else content)
    with pytest.raises(
        TrainingError, match=r"process-0\.pt cannot be read .*: delete .*state-00000"
    ):
        tiny_train(config)


@pytest.mark.parametrize("name", ["metrics.jsonl", "evaluations.jsonl"])
@pytest.mark.parametrize("line", [b"{", b"[]", b"{}", b'{"step": "2"}', b"\xff", b"[" * 100_000])
def test_a_damaged_line_of_figures_is_named(name, line, tiny_config, tiny_train):
    config = tiny_config(steps=4, save_every=2)
    interrupted(tiny_train, config, 2)
    good = b'{"step": 1, "watcher": "a", "subject": "b", "figures": {}}\n'
    (config.output / name).write_bytes(good + line + b"\n" + good)
    with pytest.raises(TrainingError, match=rf"{name}, line 2 is damaged: delete that line, or"):
        tiny_train(config)


def test_figures_that_two_processes_once_doubled_are_there_once_again(tiny_config, tiny_train):
    config = tiny_config(steps=4, save_every=2)
    interrupted(tiny_train, config, 2)
    file = config.output / "metrics.jsonl"
    file.write_text(2 * file.read_text() + '{"step": 2, "torn')
    tiny_train(config)
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1, 2, 3, 4]


@pytest.mark.parametrize("content", ["[]", "{", '"a"', "[" * 100_000, "null"])
def test_damaged_settings_of_a_run_are_named(content, tiny_config, tiny_train):
    config = tiny_config(steps=1)
    config.output.mkdir()
    (config.output / "config.json").write_text(content)
    with pytest.raises(TrainingError, match=r"config\.json is damaged: .*: name another output"):
        tiny_train(config)


def test_killed_after_its_last_checkpoint_a_run_leaves_no_state(tiny_config, tiny_train):
    config = tiny_config(steps=4, save_every=2)
    interrupted(tiny_train, config, 2)
    ((_, folder),) = states(config.output).items()
    kept = {file.name: file.read_bytes() for file in folder.iterdir()}
    tiny_train(config)
    folder.mkdir()
    for name, content in kept.items():
        (folder / name).write_bytes(content)
    tiny_train(config)
    assert not states(config.output)


def test_what_a_killed_run_left_half_written_is_cleared_away(tiny_config, tiny_train):
    config = tiny_config(steps=1)
    config.output.mkdir()
    (config.output / ".checkpoint-000007.abcdef").mkdir()
    (config.output / ".metrics.jsonl.xyz").write_text("half")
    (config.output / ".mine").write_text("not ours to touch")
    tiny_train(config)
    assert [p.name for p in config.output.glob(".*")] == [".mine"]


#: Copies that people make beside a run's own folders.
COPIES = "{0}-best {0}-000002-copy {0}-last {0}- {0}-2 {0}-0000002 {0}-٠٠٠٠٠٢ .{0}-old".split()


def test_copies_in_an_output_are_left_alone_and_are_none_of_the_run(tiny_config, tiny_train):
    """On going on, on keeping the last checkpoints, on dry runs and on naming the newest."""
    from soar_bench.trainer.run import check
    from training.checkpoint import latest_checkpoint

    config = tiny_config(steps=4, save_every=2, keep_last=1)
    interrupted(tiny_train, config, 2)
    copies = [
        config.output / copy.format(name) for name in ("checkpoint", "state") for copy in COPIES
    ]
    newest = {"checkpoint": checkpoints(config.output), "state": states(config.output)}
    for copy in copies:
        ((_, folder),) = newest["checkpoint" if "checkpoint" in copy.name else "state"].items()
        shutil.copytree(folder, copy)
    (config.output / "state-000009").write_text("a file")
    (config.output / "checkpoint-000009").mkdir()
    assert newest == {
        "checkpoint": checkpoints(config.output), "state": states(config.output)
    }  # fmt: skip
    check(config)
    last = tiny_train(config)
    assert last == latest_checkpoint(config.output) == config.output / "checkpoint-000004"
    tiny_train(config)
    assert not [copy for copy in copies if not any(copy.iterdir())]
    assert (config.output / "state-000009").exists()


def test_an_empty_folder_by_the_last_checkpoints_name_is_no_checkpoint(tiny_config, tiny_train):
    config = tiny_config(steps=2)
    (config.output / "checkpoint-000002").mkdir(parents=True)
    assert (tiny_train(config) / "checkpoint.json").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"evaluation": {**EVERY, "every": 3}, "save_every": 2}, "multiple of save_every"),
        ({"evaluation": {"every": 2}}, "both evaluation.every and evaluation.suite"),
        ({"validation": {"prompts": ["a star"]}}, "both validation.every and validation.prompts"),
        ({"keep_best": "score", "keep_last": 1}, "keep_best needs an evaluation"),
        ({"evaluation": {"every": 3, "suite": "shapes"}, "keep_best": "score"}, "set it to use"),
        ({"images": {"flip": True}}, "set images.crops to an even number"),
        ({"trackers": ["tensorbord"]}, "trackers"),
        ({"loss_limit": 0}, "loss_limit"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_together_are_refused_in_a_sentence(changes, words, tiny_config):
    from soar_bench.core.errors import SoarBenchError

    with pytest.raises(SoarBenchError) as refused:
        tiny_config(**changes)
    assert words in str(refused.value)
    assert len(str(refused.value)) < 250


def test_where_things_go_and_what_is_looked_at_is_no_part_of_a_run(tiny_config, tiny_train):
    """A run goes on with other trackers, looks and rules of what stays."""
    interrupted(tiny_train, tiny_config(steps=4, save_every=2), 2)
    other = tiny_config(steps=4, save_every=1, keep_last=1, trackers=[], loss_limit=50.0)
    assert tiny_train(other) == Path(other.output) / "checkpoint-000004"


def test_a_run_that_drew_its_random_numbers_otherwise_does_not_go_on(tiny_config, tiny_train):
    """Its folder says nothing of draws: it was begun before they were keyed by sample."""
    config = tiny_config(steps=1)
    tiny_train(config)
    file = config.output / "config.json"
    settings = json.loads(file.read_text())
    del settings["draws"]
    file.write_text(json.dumps(settings))
    with pytest.raises(TrainingError, match=r"other settings \(draws: .*by sample.*another output"):
        tiny_train(config)

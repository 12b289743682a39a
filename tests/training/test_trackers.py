"""What TensorBoard and Weights & Biases are told, read back with their own formats."""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from training import trackers
from training.trackers import Trackers, check_trackers
from training.types import Config, TrainingError

IDENTITY = {"settings": {"seed": 3, "soar": {"points": 6}}, "base": "ab*c_d"}
ROOT = Path(__file__).parents[2]


def config(output, *names):
    return Config(base="base", data="data", output=output, trackers=names)


def tell(trackers, step):
    """What a run tells after this step: the loss, and after every third an evaluation."""
    trackers.figures(step, {"train/loss": 1 / step, "train/lr": 2.0**-step})
    if step % 3 == 0:
        trackers.figures(step, {"evaluation/accuracy": step / 10})


def pictures(folder):
    """Two PNG files of noise, by prompt."""
    generator = np.random.default_rng(0)
    files = {"a red star / left of a blue one": folder / "1.png", "two circles": folder / "2.png"}
    for file in files.values():
        Image.fromarray(generator.integers(0, 256, (6, 9, 3), dtype=np.uint8)).save(file)
    return files


def read(output):
    """TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    everything = {"scalars": 0, "images": 0, "tensors": 0}
    events = EventAccumulator(str(output / "tensorboard"), size_guidance=everything)
    return events.Reload()


def curves(output):
    events = read(output)
    return {
        tag: [(point.step, point.value) for point in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def settings_shown(output):
    return [
        json.loads(event.tensor_proto.string_val[0])
        for event in read(output).Tensors("settings/text_summary")
    ]


def test_the_module_imports_none_of_its_libraries():
    code = (
        "import sys, training.trackers;"
        "assert not {'torch', 'tensorboard', 'wandb', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_run_without_trackers_leaves_nothing(tmp_path):
    check_trackers(config(tmp_path))
    with Trackers(config(tmp_path), 0, IDENTITY) as trackers:
        tell(trackers, 3)
        trackers.images(3, pictures(tmp_path))
    assert not [file for file in tmp_path.iterdir() if file.is_dir()]


def test_a_killed_run_that_goes_on_shows_the_curves_of_one_that_was_not(tmp_path):
    with Trackers(config(tmp_path / "whole", "tensorboard"), 0, IDENTITY) as trackers:
        for step in range(1, 11):
            tell(trackers, step)

    parts = tmp_path / "parts"
    code = (
        "import os, sys, test_trackers as t;"
        "trackers = t.Trackers(t.config(t.Path(sys.argv[1]), 'tensorboard'), 0, t.IDENTITY);"
        "[t.tell(trackers, step) for step in range(1, 8)];"
        "os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, str(parts)],
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}"},
    )
    assert killed.returncode == -signal.SIGKILL
    assert [step for step, _ in curves(parts)["train/loss"]] == [1, 2, 3, 4, 5, 6, 7]

    # Its last state was of step 4.
    with Trackers(config(parts, "tensorboard"), 4, IDENTITY) as trackers:
        assert [step for step, _ in curves(parts)["train/loss"]] == [1, 2, 3, 4]
        for step in range(5, 11):
            tell(trackers, step)
    expected = curves(tmp_path / "whole")
    assert expected["train/loss"] == [(n, pytest.approx(1 / n)) for n in range(1, 11)]
    assert expected["evaluation/accuracy"] == [(n, pytest.approx(n / 10)) for n in (3, 6, 9)]
    assert curves(parts) == expected
    assert settings_shown(parts) == settings_shown(tmp_path / "whole") == [IDENTITY]


def test_a_run_that_goes_on_at_once_keeps_what_the_base_was_seen_to_do(tmp_path):
    """Killed before its first state: step 0 is not looked at again."""
    for _ in range(3):
        with Trackers(config(tmp_path, "tensorboard"), 0, IDENTITY) as trackers:
            if not curves(tmp_path):
                trackers.figures(0, {"evaluation/accuracy": 0.5})
            tell(trackers, 1)
    assert curves(tmp_path)["evaluation/accuracy"] == [(0, 0.5)]
    assert curves(tmp_path)["train/loss"] == [(1, 1)]


def test_tensorboard_shows_the_pixels_of_the_files(tmp_path):
    from io import BytesIO

    files = pictures(tmp_path)
    with Trackers(config(tmp_path, "tensorboard"), 0, IDENTITY) as trackers:
        trackers.images(5, files)
    events = read(tmp_path)
    assert set(events.Tags()["images"]) == {f"images/{prompt}" for prompt in files}
    for prompt, file in files.items():
        (picture,) = events.Images(f"images/{prompt}")
        assert picture.step == 5
        pixels = np.asarray(Image.open(BytesIO(picture.encoded_image_string)))
        assert np.array_equal(pixels, np.asarray(Image.open(file)))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_full_disk_is_an_error(tmp_path):
    with Trackers(config(tmp_path, "tensorboard"), 0, IDENTITY) as trackers:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))
        try:
            with pytest.raises(OSError):
                for step in range(1, 1_000):
                    tell(trackers, step)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            with pytest.raises(OSError):
                trackers.close()
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and thread.name.startswith("Thread-"):
            thread.join(timeout=10)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("tensorboard", "pip install tensorboard"),
        ("wandb", r"pip install .*\[wandb\]'"),
    ],
)
def test_a_tracker_that_is_not_installed_is_refused_with_its_remedy(
    name, remedy, tmp_path, monkeypatch
):
    monkeypatch.setattr(trackers, "find_spec", lambda _: None)
    with pytest.raises(TrainingError, match=f"{name} is not installed: {remedy}"):
        check_trackers(config(tmp_path, name))


class FakeWandb(ModuleType):
    """The parts of wandb that are used, which keep what they are told."""

    class AuthenticationError(Exception):
        pass

    def __init__(self, mode="online", logged_in=True):
        super().__init__("wandb")
        self.__spec__ = ModuleSpec("wandb", None)
        self.settings, self.errors, self.mode = self, self, mode
        self.logged_in, self.calls, self.opened = logged_in, [], []

    def setup(self):
        return self

    def login(self, prompt):
        assert prompt is False
        self.calls.append("login")
        if isinstance(self.logged_in, Exception):
            raise self.logged_in
        return self.logged_in

    def Image(self, file, caption):  # noqa: N802
        return (file, caption)

    def init(self, **options):
        self.opened.append(options)
        return self

    def define_metric(self, name, **options):
        self.calls.append(("define_metric", name, options))

    def log(self, figures):
        self.calls.append(("log", figures))

    def finish(self, exit_code):
        self.calls.append(("finish", exit_code))


@pytest.fixture()
def fake(monkeypatch):
    def use(**options):
        wandb = FakeWandb(**options)
        monkeypatch.setitem(sys.modules, "wandb", wandb)
        return wandb

    for name in ("WANDB_PROJECT", "RANK"):
        monkeypatch.delenv(name, raising=False)
    return use


def test_one_folder_is_one_run_of_wandb_and_a_new_folder_another(tmp_path, fake, monkeypatch):
    wandb = fake()
    runs = [config(tmp_path / name, "wandb") for name in ("soar-seed0", "soar-seed1")]
    for run, step in ((runs[0], 0), (runs[0], 4), (runs[1], 0)):
        with Trackers(run, step, IDENTITY):
            pass
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    with Trackers(runs[0], 6, IDENTITY):
        pass
    first, resumed, other, theirs = wandb.opened
    assert first["id"] == resumed["id"] == theirs["id"] != other["id"]
    assert first["resume"] == "allow" and first["config"] == IDENTITY
    assert (first["name"], other["name"]) == ("soar-seed0", "soar-seed1")
    assert first["dir"] == str(tmp_path / "soar-seed0")
    assert (first["project"], theirs["project"]) == ("soar-bench", "theirs")


def test_wandb_is_told_the_step_as_an_axis_that_may_go_back(tmp_path, fake):
    wandb, files = fake(), pictures(tmp_path)
    with Trackers(config(tmp_path, "wandb"), 0, IDENTITY) as trackers:
        trackers.figures(7, {"train/loss": 0.5})
        trackers.figures(5, {"train/loss": 0.25})
        trackers.images(5, files)
    assert wandb.calls == [
        ("define_metric", "step", {"hidden": True}),
        ("define_metric", "*", {"step_metric": "step"}),
        ("log", {"step": 7, "train/loss": 0.5}),
        ("log", {"step": 5, "train/loss": 0.25}),
        ("log", {"step": 5, "images": [(str(file), name) for name, file in files.items()]}),
        ("finish", 0),
    ]


def test_a_run_that_fails_is_a_failed_run_of_wandb(tmp_path, fake):
    wandb = fake()
    with pytest.raises(ZeroDivisionError), Trackers(config(tmp_path, "wandb"), 0, IDENTITY):
        1 / 0  # noqa: B018
    assert wandb.calls[-1] == ("finish", 1)


def test_a_tracker_that_cannot_be_opened_says_so_and_closes_the_others(tmp_path, fake, monkeypatch):
    wandb = fake()

    def unreachable(**options):
        raise ConnectionError("no route")

    wandb.init = unreachable
    closed = []
    leave = trackers._TensorBoard.__exit__
    monkeypatch.setattr(
        trackers._TensorBoard, "__exit__", lambda *a: (closed.append(True), leave(*a))[1]
    )
    with pytest.raises(ConnectionError, match="no route"):
        Trackers(config(tmp_path, "tensorboard", "wandb"), 0, IDENTITY)
    assert closed == [True]


@pytest.mark.parametrize(
    ("logged_in", "says"),
    [
        (False, "nobody is logged in"),
        (FakeWandb.AuthenticationError("the key is wrong"), "the key is wrong"),
    ],
)
def test_whoever_is_not_logged_in_to_wandb_learns_it_before_any_work(
    logged_in, says, tmp_path, fake
):
    fake(logged_in=logged_in)
    with pytest.raises(TrainingError, match=rf"{says}; run `wandb login`, or set WANDB_MODE=offl"):
        check_trackers(config(tmp_path, "wandb"))


def test_no_login_is_asked_for_offline_nor_of_processes_that_tell_nothing(
    tmp_path, fake, monkeypatch
):
    for mode in ("offline", "disabled"):
        wandb = fake(mode=mode, logged_in=False)
        check_trackers(config(tmp_path, "wandb"))
        assert not wandb.calls
    wandb = fake()
    check_trackers(config(tmp_path, "wandb"))
    assert wandb.calls == ["login"]
    monkeypatch.setenv("RANK", "1")
    wandb = fake(logged_in=False)
    check_trackers(config(tmp_path, "wandb"))
    assert not wandb.calls


def records(file):
    """The records of a run's own file: a log in blocks of 32 KiB after a head of 7 bytes, each
    part led by a checksum (4 bytes), its length (2) and its kind (1: whole, 4: the last part).
    """
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, parts = file.read_bytes(), 7, b""
    while place + 7 <= len(content):
        room = 32_768 - place % 32_768
        if room < 7:
            place += room
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield Record.FromString(parts)
            parts = b""


def test_wandb_offline_keeps_a_resumed_run_as_one(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    output, files = tmp_path / "soar-seed3", pictures(tmp_path)
    output.mkdir()
    check_trackers(config(output, "wandb"))
    for first, last in ((0, 5), (3, 6)):
        with Trackers(config(output, "wandb"), first, IDENTITY) as trackers:
            for step in range(first + 1, last + 1):
                tell(trackers, step)
            trackers.images(last, files)

    rows, ids, steps = [], set(), []
    for file in sorted(output.glob("wandb/offline-run-*/run-*.wandb")):
        for record in records(file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                ids.add(record.run.run_id)
                assert (record.run.project, record.run.display_name) == ("soar-bench", output.name)
                settings = {item.key: item.value_json for item in record.run.config.update}
                assert json.loads(settings["settings"]) == IDENTITY["settings"]
            if kind == "history":
                row = {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json)
                    for item in record.history.item
                }
                steps.append(row["step"])
                rows.append({name: v for name, v in row.items() if not name.startswith("_")})
    assert len(ids) == 1
    assert steps == [1, 2, 3, 3, 4, 5, 5, 4, 5, 6, 6, 6]
    assert rows[0] == {"step": 1, "train/loss": 1, "train/lr": 0.5}
    assert rows[-1]["images/captions"] == list(files)

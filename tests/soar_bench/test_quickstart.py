"""The quickstart on the shipped base with everything small, and its interruption."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time

import forks
import numpy as np
import pytest
from PIL import Image


@pytest.fixture()
def small_world(monkeypatch):
    """Two prompts a task, three sampling steps."""
    from soar_bench import quickstart
    from soar_bench.suites import get_suite

    def suite(name):
        whole = get_suite(name)
        tasks = dict.fromkeys(p.task for p in whole.prompts)
        prompts = tuple(p for t in tasks for p in [p for p in whole.prompts if p.task == t][:2])
        return dataclasses.replace(whole, prompts=prompts)

    monkeypatch.setattr(quickstart, "get_suite", suite)
    protocol = dataclasses.replace(quickstart.SHAPES_PROTOCOL, steps=3)
    monkeypatch.setattr(quickstart, "SHAPES_PROTOCOL", protocol)
    monkeypatch.setattr(
        quickstart,
        "load_config",
        lambda file, options: load_small(
            file, {**options, "data": "shapes-clean:16", "batch_size": 2, "log_every": 1}
        ),
    )
    return quickstart


def load_small(file, options):
    from soar_bench.trainer.config import load_config

    return load_config(file, options)


def test_the_whole_path_and_again_without_work(small_world, tmp_path):
    seen = []

    def show(stage, *rest):
        seen.append(stage)

    result = small_world.quickstart(tmp_path, steps=2, images=1, seed=0, show=show)
    assert "sft: train" in seen
    assert "soar: train" in seen
    page = result.leaderboard.read_text()
    for name in ("shapes", "sft-seed0", "soar-seed0"):
        assert f"| {name} |" in page
    assert "## shapes under shapes" in page
    assert "## shapes-signs under shapes" in page
    picture = Image.open(result.picture)
    assert picture.width > 3 * 128
    assert picture.height > 7 * 128
    text = small_world.words(result)
    board, against_base, between = text.split("\n\n")
    header, *rows = board.splitlines()
    assert header.split() == ["shapes_geneval", "shapes_clipscore", "ocr_accuracy"]
    assert [row.split()[0] for row in rows] == ["shapes", "sft-seed0", "soar-seed0"]
    assert len(against_base.splitlines()) == 2 * 4, "two checkpoints, two metrics of two suites"
    assert all("than shapes (" in s or "and shapes: " in s for s in against_base.splitlines())
    assert all(line.startswith("soar-seed0 ") for line in between.splitlines())
    assert "(ocr_accuracy on shapes-signs, " in between
    assert "gallery" in result.report.read_text()

    seen.clear()
    again = small_world.quickstart(tmp_path, steps=2, images=1, seed=0, show=show)
    assert again.leaderboard.read_text() == page
    assert small_world.words(again) == text
    assert not [stage for stage in seen if "train" in stage or "generate" in stage]


def test_all_three_start_from_the_same_noise(small_world, tmp_path):
    from soar_bench.records import read_runs

    small_world.quickstart(tmp_path, steps=1, images=1, seed=0, show=_silent)
    runs = [r for r in read_runs(tmp_path / "results") if r.record.suite.name == "shapes"]
    assert len(runs) == 3
    noise = [r.scores().set_index(["metric", "prompt_id", "index"])["noise"] for r in runs]
    assert all(n.equals(noise[0]) for n in noise)
    images = [r.scores()["image"].tolist() for r in runs]
    assert images[0] != images[1] != images[2], "three checkpoints, three sets of pictures"


def test_interrupted_training_says_how_to_go_on(tmp_path):
    """Ctrl-C in a real process: exit code, sentence and state."""
    command = [
        "-m", "soar_bench", "train", "sft", "--base", "shapes",
        "--data", "shapes-clean:16", "--steps", "100000", "--output", str(tmp_path / "run"),
        "--set", "log_every=1", "--set", "batch_size=2",
    ]  # fmt: skip
    process = forks.Process(command)
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and not (metrics.exists() and metrics.stat().st_size > 300):
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    code, errors = process.wait(timeout=120), process.stderr
    assert code == 130, errors
    assert "the same command goes on from there" in errors
    step = int(errors.split("stopped at step ")[1].split(";")[0])
    assert step == json.loads(metrics.read_text().splitlines()[-1])["step"]
    state = tmp_path / "run" / f"state-{step:06d}" / "process-0.pt"
    assert state.stat().st_size > 1_000_000


def test_the_quickstart_interrupted_goes_on_when_run_again(small_world, tmp_path):
    """A signal in the middle of SFT, then one in the middle of SOAR, then to the end."""
    from training.types import Stopped

    whole = small_world.quickstart(tmp_path / "whole", steps=3, images=1, seed=0, show=_silent)
    for method in ("sft", "soar"):

        def interrupt(stage, done, total, figures=None, method=method):
            if stage == f"{method}: train" and done == 1:
                os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(Stopped):
            small_world.quickstart(tmp_path / "parts", steps=3, images=1, seed=0, show=interrupt)
    parts = small_world.quickstart(tmp_path / "parts", steps=3, images=1, seed=0, show=_silent)
    assert small_world.words(parts) == small_world.words(whole)
    assert parts.leaderboard.read_text() == whole.leaderboard.read_text()


def _silent(stage, done, total, figures=None):
    pass


def test_the_picture_marks_right_and_wrong():
    from soar_bench.core.gallery import grid

    images = [[np.full((64, 64, 3), 128, np.uint8)] * 3]
    picture = np.asarray(grid(["a", "b", "c"], ["prompt"], images, [[True, False, None]]))
    colors = {tuple(c) for c in picture.reshape(-1, 3)}
    assert (38, 140, 70) in colors
    assert (200, 50, 45) in colors


def test_long_and_strange_names_fit_the_picture():
    from soar_bench.core.gallery import grid

    images = [[np.zeros((64, 64, 3), np.uint8)]]
    picture = grid(["x" * 500], ["<b>\n" * 300], images, [[None]])
    assert picture.width < 200

"""Killed at any point and started again, an evaluation ends as if nothing had happened."""

from __future__ import annotations

import json
import random
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from forks import launch, serve


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("kill")


@pytest.fixture(scope="module")
def server(place):
    with serve(place) as server:
        yield server


@pytest.fixture(scope="module")
def command(place, tiny_pipeline, small_suite):
    """The command in a folder: 18 images in batches of 5, two evaluators in batches."""
    file = place / "small prompts.jsonl"
    lines = [{"id": p.id, "prompt": p.text, **p.metadata} for p in small_suite.prompts]
    file.write_text("\n".join(json.dumps(line) for line in lines))

    def arguments(folder):
        return (
            "eval", tiny_pipeline, "--suite", file, "--protocol", "shapes", "--steps", 6,
            "--images", 3, "--evaluators", "shapes-geneval,shapes-clipscore", "--batch-size", 5,
            "--device", "cpu", "--results", folder / "results", "--cache", folder / "cache",
        )  # fmt: skip

    return arguments


def record(folder):
    """The bytes of the scores, and the record without when and how it was made."""
    (file,) = (folder / "results").rglob("run.json")
    told = json.loads(file.read_text())
    made = told.pop("made")
    return (file.with_name("scores.parquet").read_bytes(), told), made


@pytest.fixture(scope="module")
def whole(place, server, command):
    """The record of a run that nothing disturbed, and how long it took."""
    started = time.monotonic()
    assert server.run(*command(place / "whole")) == 0, server.printed
    return record(place / "whole")[0], time.monotonic() - started


def kill_often(place, server, command, whole, kills, seed):
    """Starts and kills runs at random points until so many were killed, each up to three times, and
    lets every one end.
    """
    expected, seconds = whole
    chance = random.Random(seed)
    killed = number = 0
    while killed < kills:
        folder = place / f"killed-{seed}-{number}"
        number += 1
        for _ in range(3):
            code = server.run(*command(folder), kill_after=chance.uniform(0.02, 1) * seconds)
            assert code in (0, -9), server.printed
            if code == 0:  # it was through already: the machine is faster than it was
                seconds *= 0.9
                break
            killed += 1
        assert server.run(*command(folder)) == 0, server.printed
        assert record(folder)[0] == expected
        images = [f for f in (folder / "cache" / "images").rglob("*.png") if f.name[0] != "."]
        assert len(images) == 18
        shutil.rmtree(folder)


def test_killed_at_random_points_it_ends_with_the_same_record(place, server, command, whole):
    """Byte for byte, apart from times."""
    kill_often(place, server, command, whole, kills=15, seed=1)


@pytest.mark.slow
def test_killed_at_very_many_random_points(place, server, command, whole):
    kill_often(place, server, command, whole, kills=150, seed=2)


def test_what_is_there_is_not_made_again(place, server, command, whole):
    """Run once more, nothing is generated or scored and the record is left as it was."""
    folder = place / "again"
    assert server.run(*command(folder)) == 0
    (file,) = (folder / "results").rglob("run.json")
    before = file.stat().st_mtime_ns, record(folder)[1]["generated"]
    assert server.run(*command(folder)) == 0
    assert "0 (all 18 here)" in server.printed
    assert (file.stat().st_mtime_ns, 18) == (before[0], before[1])


def test_two_processes_make_the_same_record_as_one(place, command, whole):
    """With what torchrun sets, over gloo; 18 images do not divide into batches of 5 for two."""
    folder = place / "two"
    home = {"SOAR_BENCH_HOME": str(place / "home")}
    printed = launch(["-m", "soar_bench", *command(folder)], **home)[0]
    # The progress counts both processes, and says whose images are made for what.
    for stage in ("generate", "shapes-geneval", "shapes-clipscore"):
        lines = [line for line in printed.splitlines() if f", {stage}: " in line]
        whole_stage = f"pipeline on small prompts (shapes+steps=6), {stage}: 18/18"
        assert lines[-1].startswith(whole_stage), lines
    told, made = record(folder)
    assert told == whole[0]
    assert made["processes"] == 2
    assert made["generated"] == 18
    assert made["scored"] == {"shapes-geneval": 18, "shapes-clipscore": 18}


def test_two_evaluations_at_once_do_not_disturb_each_other(place, command, whole):
    """The second waits for the images of the first instead of making them too."""
    folder = place / "at-once"

    def go(name):
        with serve(place / name) as server:
            return server.run(*command(folder)), server.printed

    for name in ("left", "right"):
        (place / name).mkdir()
    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(go, ("left", "right")))
    assert [code for code, _ in ends] == [0, 0], ends
    assert record(folder)[0] == whole[0]

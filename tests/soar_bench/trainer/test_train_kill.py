"""Killed or stopped at any point and started again, a training ends as if nothing had happened."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from forks import serve
from safetensors.torch import load_file

#: What differs from run to run.
_SPEED = ("samples_per_second", "memory_gib")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("train-kill")


@pytest.fixture(scope="module")
def server(place):
    with serve(place) as server:
        yield server


@pytest.fixture(scope="module")
def command(place, tiny_pipeline):
    """Eight steps of each kind, with everything on that has a state; a checkpoint every other."""
    config = place / "config.yaml"
    config.write_text(
        json.dumps(
            {
                "method": "soar",
                "base": str(tiny_pipeline),
                "data": "shapes-clean:24",
                "steps": 8,
                "batch_size": 2,
                "accumulate": 2,
                "resolution": 64,
                "max_sequence_length": 14,
                "caption_dropout": 0.2,
                "precision": "fp32",
                "cache": str(place / "cache"),
                "save_every": 2,
                "keep_last": 2,
                "log_every": 1,
                "ema_decay": 0.9,
                "soar": {"points": 2, "guidance": 2.0, "paths": 2, "aux_chunk": 5},
                "optimizer": {"lr": 1e-3, "schedule": "cosine", "warmup_steps": 2},
            }
        )
    )
    adapter = ("--set", "lora.rank=4", "--set", "lora.dropout=0.2", "--set", "accumulate=1")

    def arguments(kind, folder):
        output = ("train", "soar", "--config", config, "--seed", 1, "--output", folder)
        return output if kind == "full" else (*output, *adapter)

    return arguments


def result(folder):
    """Every tensor of every checkpoint, its story, the metrics, and what else is there."""
    tensors = {
        (file.parents[1].name, name): tensor
        for file in folder.glob("checkpoint-*/*/*.safetensors")
        for name, tensor in load_file(file).items()
    }
    stories = [f.read_text() for f in sorted(folder.glob("checkpoint-*/checkpoint.json"))]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    metrics = [{k: v for k, v in line.items() if k not in _SPEED} for line in lines]
    files = sorted(p.name for p in folder.iterdir())
    return tensors, (stories, metrics, files)


@pytest.fixture(scope="module", params=["full", "adapter"])
def whole(request, place, server, command):
    """What a training that nothing disturbed leaves, and how long it took."""
    folder = place / f"whole-{request.param}"
    assert server.run(*command(request.param, folder)) == 0, server.printed
    started = time.monotonic()
    shutil.rmtree(folder)
    assert server.run(*command(request.param, folder)) == 0, server.printed
    return request.param, result(folder), time.monotonic() - started


def disturb(place, server, command, whole, times, seed):
    """Kills with SIGKILL, or asks to end with SIGTERM or SIGINT, at random points, each run up to
    three times, until so many were; lets every one end.
    """
    kind, (tensors, rest), seconds = whole
    chance = random.Random(seed)
    disturbed = number = 0
    while disturbed < times:
        folder = place / f"{kind}-{seed}-{number}"
        number += 1
        for _ in range(3):
            by = chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
            moment = chance.uniform(0.02, 1) * seconds
            code = server.run(*command(kind, folder), kill_after=moment, by=by)
            # Asked to end before it could hear of it, a process ends by the signal itself.
            assert code in (0, -by, 130), server.printed
            if code == 130:
                assert "the same command goes on" in server.printed
            if code == 0:
                seconds *= 0.9
                break
            disturbed += 1
        assert server.run(*command(kind, folder)) == 0, server.printed
        weights, others = result(folder)
        assert others == rest
        assert weights.keys() == tensors.keys()
        assert all(weights[name].equal(tensor) for name, tensor in tensors.items())
        shutil.rmtree(folder)


def test_disturbed_at_random_points_it_ends_with_the_same_weights(place, server, command, whole):
    """Bit for bit, with the same metrics, and nothing left lying about."""
    disturb(place, server, command, whole, times=9, seed=1)


@pytest.mark.slow
def test_disturbed_at_very_many_random_points(place, server, command, whole):
    disturb(place, server, command, whole, times=75, seed=2)


def test_two_trainings_in_one_output_wait_for_one_another(place, server, command, whole):
    """The second waits, also with another home, and does not write between the first's lines."""
    kind, (tensors, rest), _ = whole
    folder, other_home = place / f"{kind}-twice", place / f"{kind}-home"
    other_home.mkdir()
    with serve(other_home) as other, ThreadPoolExecutor(2) as pool:
        servers = [server, other]
        codes = list(pool.map(lambda server: server.run(*command(kind, folder)), servers))
    printed = [server.printed for server in servers]
    assert codes == [0, 0], printed
    note = f"waiting for another training in {folder}"
    assert sum(note in text.replace("\n", "") for text in printed) == 1, printed
    weights, others = result(folder)
    assert others == rest
    assert all(weights[name].equal(tensor) for name, tensor in tensors.items())

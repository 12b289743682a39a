"""How long the leaderboard takes: reading records, the figures of all boards, and each form.

    python benchmarks/leaderboard.py                  a thousand runs on 10 boards
    python benchmarks/leaderboard.py --boards 1       on one: half a million pairs to test

The records are made by hand: GenEval's 553 prompts in six tasks with four images each and two
metrics, checkpoints with three training seeds.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from soar_bench.boards.standings import standings
from soar_bench.output.leaderboard import FORMS, load, render
from soar_bench.records import RunDraft, write_run

TASKS = (80, 99, 80, 94, 100, 100)
IMAGES = 4


@dataclass
class Time:
    """Seconds by the clock and of the processor, which differ on a busy machine."""

    wall: float = 0.0
    processor: float = 0.0

    def __add__(self, other: Time) -> Time:
        return Time(self.wall + other.wall, self.processor + other.processor)

    def __str__(self) -> str:
        return f"{self.wall:.2f} s (processor {self.processor:.2f} s)"


@contextmanager
def clock() -> Iterator[Time]:
    taken = Time()
    wall, processor = time.perf_counter(), time.process_time()
    yield taken
    taken.wall = time.perf_counter() - wall
    taken.processor = time.process_time() - processor


def declared(aggregate: str) -> dict[str, Any]:
    return {
        "unit": "share", "range": [0.0, 1.0], "higher_is_better": True, "version": "1",
        "source": "", "aggregate": aggregate,
    }  # fmt: skip


def record(board: int, training: int, seed: int) -> RunDraft:
    name = f"training-{training}"
    base = {"name": "base", "digest": "base"}
    story = {
        "name": name, "method": "soar", "step": 1000, "seed": seed, "base": base,
        "data": {"digest": "d"}, "config": {"seed": seed},
    }  # fmt: skip
    return RunDraft.model_validate({
        "checkpoint": {
            "label": f"{name}-seed{seed}", "name": name, "digest": f"{board}-{training}-{seed}",
            "form": "transformer", "base": base, "revision": "", "story": story,
        },
        "suite": {
            "name": f"suite-{board}", "digest": "s", "seed": 0, "prompts": sum(TASKS),
            "images_per_prompt": IMAGES, "source": "",
        },
        "protocol": {"name": "soar-paper", "settings": {"steps": 40}},
        "evaluators": {
            "judge": {
                "given": "judge", "version": "1", "identity": {},
                "metrics": {"right": declared("task_mean"), "liked": declared("mean")},
            }
        },
        "metrics": {},
        "made": {"finished": "2026-11-20T11:00:00+00:00"},
    })  # fmt: skip


def scores(generator: np.random.Generator, skill: float) -> pd.DataFrame:
    prompts = np.repeat([f"geneval-{i:05d}" for i in range(sum(TASKS))], IMAGES)
    one = {
        "prompt_id": prompts,
        "index": np.tile(np.arange(IMAGES), sum(TASKS)),
        "task": np.repeat([f"task {i}" for i in range(6)], np.array(TASKS) * IMAGES),
        "prompt": [f"a photo for {p}" for p in prompts],
        "noise": "0",
        "image": "0",
        "unscored": "",
        "details": '{"detections": []}',
    }
    right = (generator.random(len(prompts)) < skill).astype(float)
    return pd.concat(
        [
            pd.DataFrame({**one, "metric": "right", "value": right}),
            pd.DataFrame({**one, "metric": "liked", "value": generator.random(len(prompts))}),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--boards", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="leaderboard-"))
    generator = np.random.default_rng(0)
    try:
        for number in range(options.runs):
            training, seed = divmod(number // options.boards, options.seeds)
            skill = 0.4 + 0.3 * generator.random()
            write_run(
                folder, record(number % options.boards, training, seed), scores(generator, skill)
            )
        with clock() as reading:
            runs = load(folder)
        print(f"read {len(runs)} runs: {reading}")
        with clock() as figures:
            boards = standings(runs)
        pairs = sum(len(b.rows) * (len(b.rows) - 1) // 2 for b in boards)
        print(f"figures of {len(boards)} boards, {pairs} pairs tested: {figures}")
        for form in FORMS:
            with clock() as page:
                text = render(boards, folder, folder / "leaderboard", form)
            print(f"{form}: {page}, {len(text) / 1e6:.2f} MB; with figures {figures + page}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

"""Records of one metric made by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
from records_by_hand import contents, declared, score_row, write_run

METRICS = {"shapes_geneval": declared(range=[0, 1], aggregate="task_mean")}


def record(label, digest, story=None, steps=20, suite="shapes"):
    return contents(
        label, METRICS, story=story, digest=digest,
        suite={"name": suite, "prompts": 30, "images_per_prompt": 2},
        protocol={"name": "shapes", "settings": {"steps": steps, "guidance": 3.0}},
    )  # fmt: skip


def story(name, seed, method="soar", base="base", step=400):
    return {
        "name": name, "method": method, "step": step, "seed": seed, "base": {"digest": base},
        "data": {"digest": "d"}, "config": {"seed": seed, "steps": 400},
    }  # fmt: skip


def scores(probability, seed=0, prompts=30):
    rng = np.random.default_rng(seed)
    rows = [
        score_row(
            f"p{i:02d}", k, float(rng.random() < probability), f"prompt {i}",
            task="colors" if i % 2 else "counting", metric="shapes_geneval",
        )
        for i in range(prompts) for k in range(2)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def write_trained(results, name, seed, probability):
    """Write the record of one seed of a training."""
    contents = record(f"{name}-seed{seed}", f"{name}{seed}", story(name, seed))
    write_run(results, contents, scores(probability, seed))

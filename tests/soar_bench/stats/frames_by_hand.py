"""Frames of one metric made by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd


def frame(values, prompts=None, tasks=None, index=None):
    n = len(values)
    return pd.DataFrame(
        {
            "prompt_id": prompts if prompts is not None else [f"p{i}" for i in range(n)],
            "task": tasks if tasks is not None else [""] * n,
            "index": index if index is not None else [0] * n,
            "value": values,
        }
    )


def geneval_like(rng, lift=0.0, lost=0):
    """GenEval's six tasks, four images a prompt, as two sides of equal or shifted difficulty."""
    sizes = [80, 99, 80, 94, 100, 100]
    prompts = np.repeat(np.arange(553), 4)
    tasks = np.repeat(np.repeat(list("abcdef"), sizes), 4)
    index = np.tile(np.arange(4), 553)
    chance = np.repeat(rng.beta(1.5, 1.0, size=553), 4)
    sides = []
    for add in (lift, 0.0):
        values = (rng.random(len(prompts)) < chance + add).astype(float)
        values[rng.choice(len(values), lost, replace=False)] = math.nan
        sides.append(frame(values, prompts, tasks, index))
    return sides

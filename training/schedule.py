"""The learning rate of a step."""

from __future__ import annotations

import math


def learning_rate(
    lr: float, step: int, steps: int, *, warmup: int = 0, cosine: bool = False
) -> float:
    """Linear warm-up over ``warmup`` steps, then constant, or a cosine to zero at the end."""
    if step < warmup:
        return lr * (step + 1) / warmup
    if not cosine:
        return lr
    progress = (step - warmup) / max(steps - warmup, 1)
    return lr * 0.5 * (1 + math.cos(math.pi * progress))

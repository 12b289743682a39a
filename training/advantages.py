"""From rewards of groups to advantages. Everything is float64 NumPy over a whole rollout.

Unscored samples are NaN. They enter no mean and no deviation, and are masked, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from training.sections import Scaling

#: Added to the standard deviation (Flow-GRPO and DiffusionNFT).
EPSILON = 1e-4


def combine(
    raw: Mapping[str, np.ndarray], weights: Mapping[str, float], scaling: Mapping[str, Scaling]
) -> np.ndarray:
    """Return the weighted sum of rewards, float64 of their shape; NaN where any is unscored.

    ``raw`` takes values as they are; ``standard`` subtracts the rollout's mean and divides by its
    deviation, so that units do not matter; ``pickscore/26`` is the size that the Flow-GRPO family
    gives PickScore beside rewards in [0, 1].
    """
    total = np.zeros(next(iter(raw.values())).shape)
    for name, values in raw.items():
        total = total + weights[name] * _scaled(values, scaling.get(name, "raw"))
    return total


def _scaled(values: np.ndarray, scaling: Scaling) -> np.ndarray:
    if scaling == "raw" or np.isnan(values).all():
        return values
    if scaling == "standard":
        return (values - np.nanmean(values)) / (np.nanstd(values) + EPSILON)
    return values / 26


def advantages(
    rewards: np.ndarray, deviation: Literal["batch", "group"], clip: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return advantages float64 [P, G] of P groups of G rewards, and which of them count, bool.

    ``(r - mean of its group) / (deviation + 1e-4)``, clipped; the deviation (of the population) is
    that of all rewards or of the group. Groups whose rewards do not differ tell nothing and do not
    count, nor do unscored samples; the advantage of what does not count is 0.
    """
    scored = ~np.isnan(rewards)
    counts = scored.sum(axis=1, keepdims=True)
    filled = np.where(scored, rewards, 0.0)
    means = filled.sum(axis=1, keepdims=True) / np.maximum(counts, 1)
    centred = np.where(scored, rewards - means, 0.0)
    spread = np.sqrt((centred**2).sum(axis=1, keepdims=True) / np.maximum(counts, 1))
    different = np.nanmax(np.where(scored, rewards, -np.inf), axis=1, keepdims=True) > np.nanmin(
        np.where(scored, rewards, np.inf), axis=1, keepdims=True
    )
    used = scored & different & (counts > 1)
    everywhere = np.nanstd(rewards) if scored.any() else 0.0
    divisor = spread if deviation == "group" else everywhere
    values = np.clip(centred / (divisor + EPSILON), -clip, clip)
    return np.where(used, values, 0.0), used

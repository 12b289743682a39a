"""Evaluators of the mean of a channel."""

from __future__ import annotations

import random

import numpy as np
import torch

from evaluators import Evaluator, Metric, Score

RED = Metric("red", "share", (0.0, 1.0), True, "1", "here", "mean of the red values / 255")
BLUE = Metric("blue", "share", (0.0, 1.0), True, "1", "here", "mean of the blue values / 255")


class Colours(Evaluator):
    """Two metrics; blue is unscored where the prompt says so. Notes how it was called."""

    name = "colours"
    metrics = (RED, BLUE)
    dtypes = ("float32", "float16")

    def __init__(self):
        self.batches, self.loaded, self.modes = [], None, []

    def load(self, device="cpu", dtype="float32"):
        self.loaded = (device, dtype)
        self.disturb()

    def score(self, samples):
        self.batches.append(len(samples))
        self.samples = samples
        self.disturb()
        return [
            {
                "red": Score(float(s.image[..., 0].mean() / 255)),
                "blue": Score(None, "not asked for")
                if "no blue" in s.prompt
                else Score(float(s.image[..., 2].mean() / 255)),
            }
            for s in samples
        ]

    def disturb(self):
        """Draw numbers and make tensors of the default kind, as a model does while it is made."""
        torch.rand(3), np.random.rand(3), random.random()
        made = torch.ones(2) @ torch.ones(2)
        self.modes.append((torch.is_grad_enabled(), made.dtype, made.device.type))


class Red(Colours):
    name = "red"
    metrics = (RED,)

    def score(self, samples):
        return [{"red": scores["red"]} for scores in super().score(samples)]


def noise(count=5, height=8, width=12):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)

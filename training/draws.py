"""Random draws of a step, keyed by sample.

Each sample of a step has a counter-based generator of its own, whose key is a digest of (seed,
step, place in the global batch). A process therefore draws its own samples and no others, and what
a sample draws does not depend on how many processes share the step, nor on the device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch


def key(*parts: object) -> int:
    """A random seed, 63 bits, that depends on the parts alone."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Random:
    """Random numbers of B samples, each from a stream of its own: float32 on the CPU."""

    def __init__(self, seed: int, step: int, places: Sequence[int]) -> None:
        """``places`` are the samples' numbers in the global batch."""
        self._streams = [_stream(seed, step, place) for place in places]
        self._common = _stream(seed, step, "all")

    def normal(self, *shape: int) -> torch.Tensor:
        """Draw from the standard normal distribution: [B, *shape]."""
        return self._stacked(shape, lambda stream: stream.standard_normal(shape, np.float32))

    def uniform(self, *shape: int) -> torch.Tensor:
        """Draw uniformly from [0, 1): [B, *shape]."""
        return self._stacked(shape, lambda stream: stream.random(shape, np.float32))

    def integer(self, bound: int) -> int:
        """Draw one number, 0 <= n < bound, that all samples of the step share on every process."""
        return int(self._common.integers(bound))

    def _stacked(
        self, shape: tuple[int, ...], draw: Callable[[np.random.Generator], Any]
    ) -> torch.Tensor:
        values = np.empty((len(self._streams), *shape), np.float32)
        for row, stream in enumerate(self._streams):
            values[row] = draw(stream)
        return torch.from_numpy(values)


def _stream(*parts: object) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=key(*parts)))

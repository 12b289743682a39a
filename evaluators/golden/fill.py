"""Values of a tensor from its name alone, the same on every machine and in every version."""

from __future__ import annotations

import math
import zlib

import numpy as np


def fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return float32 values for a weight, from Philox bits, whose stream NumPy never changes.

    Matrices keep the variance of their inputs, scales are near 1, offsets near 0.
    """
    bits = np.random.Philox(key=zlib.crc32(name.encode("utf-8"))).random_raw(math.prod(shape))
    uniform = (bits >> np.uint64(11)).astype(np.float64) / 2**53  # 53 bits: [0, 1)
    noise = (2 * uniform - 1) * math.sqrt(3)  # variance 1
    if len(shape) <= 1:
        values = 1 + 0.1 * noise if name.endswith(".weight") else 0.05 * noise
    else:
        values = noise / math.sqrt(math.prod(shape[1:]))
    return values.reshape(shape).astype(np.float32)

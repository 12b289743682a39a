"""The noise a sample starts from: a function of the suite's seed, the prompt's id and the index.

It is drawn with a counter-based generator keyed by a digest of the three, on the CPU, in float32:
the same on every device, in every batch, order and process, and different for every sample.
"""

from __future__ import annotations

import hashlib

import numpy as np


def noise_key(suite_seed: int, prompt_id: str, index: int) -> int:
    """Return a 128-bit key of the sample."""
    text = f"{suite_seed}\n{index}\n{prompt_id}"
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:16], "big")


def initial_noise(
    suite_seed: int, prompt_id: str, index: int, shape: tuple[int, int, int]
) -> np.ndarray:
    """Return standard normal noise of a latent's shape [C, h, w], float32."""
    generator = np.random.Generator(np.random.Philox(key=noise_key(suite_seed, prompt_id, index)))
    return generator.standard_normal(shape, dtype=np.float32)

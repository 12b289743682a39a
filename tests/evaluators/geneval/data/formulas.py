"""Weights and pictures made by formulas, so that none need to be stored."""

from __future__ import annotations

import zlib

import numpy as np

#: height and width of each picture; made to fit 1333x800, the last two need padding
PICTURES = {"square": (512, 512), "wide": (333, 500), "tall": (640, 300)}


def fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A float32 tensor that depends on its key's name and shape alone.

    Gains lie around 1, biases around 0, and a matrix keeps the scale of what it multiplies.
    """
    seed = zlib.crc32(name.encode())
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    if len(shape) > 1:
        fan_in = int(np.prod(shape[1:]))
        return (values / np.sqrt(fan_in)).astype(np.float32)
    if name.endswith(".weight"):
        return 1 + 0.1 * values
    return 0.05 * values


def lively_fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The same, but a small model's queries differ more, and its masks are smaller: so it finds
    different classes in different places.
    """
    values = fill(name, shape)
    if "query_" in name:
        return (values * np.sqrt(shape[1])).astype(np.float32)
    if name.endswith("cls_embed.weight"):
        return 3 * values
    # the two are multiplied, which lowers every mask's logits
    if name.endswith("mask_feature.bias"):
        values[0] += 3
    if name.endswith("mask_embed.4.bias"):
        values[0] -= 1
    return values


def picture(name: str) -> np.ndarray:
    """uint8 RGB [H, W, 3]: slopes, stripes, a chequerboard and two discs, in whole numbers."""
    height, width = PICTURES[name]
    y, x = np.mgrid[:height, :width]
    red = (x * 255) // (width - 1)
    green = (y * 255) // (height - 1)
    blue = 60 + 120 * ((x // 24 + y // 24) % 2)
    disc = (x - width // 3) ** 2 + (y - height // 3) ** 2 < (min(height, width) // 5) ** 2
    other = (x - 2 * width // 3) ** 2 + (y - 2 * height // 3) ** 2 < (min(height, width) // 6) ** 2
    red = np.where(disc, 230, np.where(other, 20, red))
    green = np.where(disc, 40, np.where(other, 90 + (x % 7) * 15, green))
    blue = np.where(disc, 50 + (y % 5) * 20, np.where(other, 210, blue))
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)

"""Resize, crop and flip of training images."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from training.types import Images

#: No side of a bucket is longer than this many times the other.
MAX_ASPECT = 2.5

Size = tuple[int, int]


@dataclass(frozen=True)
class View:
    """One way to cut an image: ``x``, ``y`` in [0, 1] say which part stays of what is cut off."""

    x: float = 0.5
    y: float = 0.5
    flipped: bool = False


def view(key: str, variant: int, images: Images) -> View:
    """Return variant number ``variant`` of the image of that content.

    Odd variants are flipped where flips are asked for. A random crop is drawn from the image's
    content and the variant's number, so every seed and every run sees the same variants.
    """
    flipped = images.flip and variant % 2 == 1
    if images.crop == "centre":
        return View(flipped=flipped)
    digest = hashlib.sha256(f"{key}/{variant}".encode()).digest()
    x, y = (int.from_bytes(digest[i : i + 8], "big") / 2**64 for i in (0, 8))
    return View(x, y, flipped)


def cut(image: np.ndarray, size: Size, how: View = View()) -> np.ndarray:
    """Resize to cover ``size`` (width, height; Lanczos) and crop: uint8 [height, width, 3]."""
    width, height = size
    if image.shape[:2] != (height, width):
        fitted = ImageOps.fit(
            Image.fromarray(image), size, Image.Resampling.LANCZOS, centering=(how.x, how.y)
        )
        image = np.asarray(fitted)
    return image[:, ::-1] if how.flipped else image


def fit_to(image: np.ndarray, resolution: int) -> np.ndarray:
    """Resize the shorter side to ``resolution`` (Lanczos) and crop the centre: [R, R, 3]."""
    return cut(image, (resolution, resolution))


def bucket_sizes(resolution: int, step: int) -> list[Size]:
    """Return (width, height) of every bucket, narrow to wide.

    Sides are multiples of ``step``; for each width the greatest height with
    ``width * height <= resolution^2``, and for each height the greatest width; no side is longer
    than MAX_ASPECT times the other.
    """
    area = resolution * resolution
    sizes = set()
    for short in range(step, resolution + 1, step):
        long = area // short // step * step
        if long <= MAX_ASPECT * short:
            sizes |= {(short, long), (long, short)}
    return sorted(sizes, key=lambda size: (size[0] / size[1], size[0]))


def bucket_of(width: int, height: int, sizes: list[Size]) -> int:
    """Return the bucket whose aspect ratio is nearest (in logarithm); of equals the largest."""
    aspect = math.log(width / height)

    def far(number: int) -> tuple[float, int]:
        w, h = sizes[number]
        return round(abs(math.log(w / h) - aspect), 9), -w * h

    return min(range(len(sizes)), key=far)

"""Colours, outlines and letters of the embedded world.

The renderer draws from these masks and the detector compares with them. Coordinates are pixels of a
64x64 image, x to the right, y down; a shape of radius r centred on the corner (x, y) of four pixels
fills at most ``[x - r, x + r] x [y - r, y + r]``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise

import numpy as np

IMAGE_SIZE = 64

#: RGB by name: some of GenEval's ten colours, far apart.
PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (222, 45, 38),
    "yellow": (244, 196, 48),
    "green": (44, 160, 70),
    "blue": (40, 90, 220),
    "purple": (150, 60, 190),
    "black": (28, 28, 32),
}

SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star", "cross", "ring")

#: Sizes of shapes.
RADII: tuple[int, ...] = (8, 9, 10)

_SUPERSAMPLING = 8


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    height = (y + 0.95) / 1.8  # 0 at the apex, 1 at the base
    return (height >= 0) & (height <= 1) & (np.abs(x) <= height)


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Five points, inner radius 0.45: points below the edge from a tip to the next notch."""
    sector = 2 * np.pi / 5
    radius = np.hypot(x, y)
    angle = np.abs((np.arctan2(x, -y) + sector / 2) % sector - sector / 2)  # from the nearest tip
    x_notch, y_notch = 0.45 * np.cos(sector / 2), 0.45 * np.sin(sector / 2)
    # The line through the tip (1, 0) and the notch, in polar form.
    return radius <= y_notch / (y_notch * np.cos(angle) + (1 - x_notch) * np.sin(angle))


_OUTLINES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "circle": lambda x, y: np.hypot(x, y) <= 0.97,
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) <= 0.88,
    "triangle": _triangle,
    "star": _star,
    "cross": lambda x, y: (
        (np.minimum(np.abs(x), np.abs(y)) <= 0.32) & (np.maximum(np.abs(x), np.abs(y)) <= 0.97)
    ),
    "ring": lambda x, y: (np.hypot(x, y) <= 1.0) & (np.hypot(x, y) >= 0.52),
}


@cache
def shape_mask(shape: str, radius: int) -> np.ndarray:
    """Return each pixel's coverage by the shape: read-only float32 [2*radius, 2*radius]."""
    n = 2 * radius * _SUPERSAMPLING
    axis = (np.arange(n) + 0.5) / n * 2 - 1
    x, y = np.meshgrid(axis, axis)
    inside = _OUTLINES[shape](x, y).astype(np.float32)
    size = 2 * radius
    mask = inside.reshape(size, _SUPERSAMPLING, size, _SUPERSAMPLING).mean(axis=(1, 3))
    mask.setflags(write=False)
    return mask


# Letters are strokes on a box 1 wide and 1 high; an arc is (cx, cy, rx, ry, from, to) in degrees,
# clockwise from 3 o'clock because y points down.
_Stroke = tuple[tuple[float, float], ...]


def _arc(cx: float, cy: float, rx: float, ry: float, start: float, end: float) -> _Stroke:
    steps = np.radians(np.linspace(start, end, 17))
    return tuple((cx + rx * float(np.cos(t)), cy + ry * float(np.sin(t))) for t in steps)


_LETTERS: dict[str, tuple[_Stroke, ...]] = {
    "A": (((0, 1), (0.5, 0), (1, 1)), ((0.2, 0.64), (0.8, 0.64))),
    "C": (_arc(0.52, 0.5, 0.52, 0.5, 42, 318),),
    "E": (((1, 0), (0, 0), (0, 1), (1, 1)), ((0, 0.48), (0.85, 0.48))),
    "H": (((0, 0), (0, 1)), ((1, 0), (1, 1)), ((0, 0.5), (1, 0.5))),
    "L": (((0, 0), (0, 1), (0.95, 1)),),
    "N": (((0, 1), (0, 0), (1, 1), (1, 0)),),
    "O": (_arc(0.5, 0.5, 0.5, 0.5, 0, 360),),
    "P": (((0, 1), (0, 0), (0.55, 0)), _arc(0.55, 0.28, 0.43, 0.28, -90, 90),
          ((0.55, 0.56), (0, 0.56))),
    "R": (((0, 1), (0, 0), (0.55, 0)), _arc(0.55, 0.27, 0.41, 0.27, -90, 90),
          ((0.55, 0.54), (0, 0.54)), ((0.5, 0.54), (1, 1))),
    "S": (
        _arc(0.5, 0.26, 0.46, 0.26, -25, -180) + _arc(0.5, 0.26, 0.46, 0.24, 180, 90),
        _arc(0.5, 0.75, 0.48, 0.25, -90, 155),
    ),
    "T": (((0, 0), (1, 0)), ((0.5, 0), (0.5, 1))),
    "U": (((0, 0), (0, 0.62)), _arc(0.5, 0.62, 0.5, 0.38, 180, 0), ((1, 0.62), (1, 0))),
    "X": (((0, 0), (1, 1)), ((1, 0), (0, 1))),
}  # fmt: skip

LETTERS: tuple[str, ...] = tuple(_LETTERS)
#: Width of a stroke, in pixels.
_THICKNESS = 3.2


@cache
def letter_mask(letter: str, width: int = 16, height: int = 24) -> np.ndarray:
    """Return each pixel's coverage by the letter: float32 [height, width] in [0, 1], read-only."""
    s = _SUPERSAMPLING
    y, x = np.mgrid[0 : height * s, 0 : width * s]
    x, y = (x + 0.5) / s, (y + 0.5) / s
    left, top = 3.2, 3.2  # the margin inside the cell, in pixels
    inner_width, inner_height = width - 2 * left, height - 2 * top
    distance = np.full(x.shape, np.inf)
    for stroke in _LETTERS[letter]:
        points = [(left + px * inner_width, top + py * inner_height) for px, py in stroke]
        for (ax, ay), (bx, by) in pairwise(points):
            dx, dy = bx - ax, by - ay
            length2 = max(dx**2 + dy**2, 1e-12)
            t = np.clip(((x - ax) * dx + (y - ay) * dy) / length2, 0, 1)
            distance = np.minimum(distance, np.hypot(x - ax - t * dx, y - ay - t * dy))
    inside = (distance <= _THICKNESS / 2).astype(np.float32)
    mask = inside.reshape(height, s, width, s).mean(axis=(1, 3))
    mask.setflags(write=False)
    return mask

"""From a scene to its 64x64 picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluators.shapes.geometry import IMAGE_SIZE, PALETTE, letter_mask, shape_mask

BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (250, 250, 250),
    "cream": (253, 243, 222),
    "mist": (224, 236, 250),
    "mint": (226, 245, 230),
}

_INK = np.array((28, 28, 32), np.float32)
_BOARD = np.array((255, 255, 255), np.float32)
BOARD_HEIGHT, LETTER_WIDTH, LETTER_HEIGHT = 32, 16, 24


@dataclass(frozen=True)
class Thing:
    """One coloured shape centred on the pixel corner (x, y)."""

    shape: str
    color: str
    x: int
    y: int
    radius: int


@dataclass(frozen=True)
class Sign:
    """A white board as wide as the image less a margin, with a word of at most three letters."""

    word: str
    top: int


@dataclass(frozen=True)
class Scene:
    background: str
    things: tuple[Thing, ...] = ()
    sign: Sign | None = None


def _blend(canvas: np.ndarray, mask: np.ndarray, color: np.ndarray, x: int, y: int) -> None:
    """Paint ``color`` through ``mask`` with its top left corner at (x, y), cut at the borders."""
    height, width = mask.shape
    y0, y1, x0, x1 = max(y, 0), min(y + height, IMAGE_SIZE), max(x, 0), min(x + width, IMAGE_SIZE)
    alpha = mask[y0 - y : y1 - y, x0 - x : x1 - x, None]
    canvas[y0:y1, x0:x1] += alpha * (color - canvas[y0:y1, x0:x1])


def _draw_sign(canvas: np.ndarray, sign: Sign) -> None:
    top, bottom = sign.top, sign.top + BOARD_HEIGHT
    canvas[top:bottom, 4 : IMAGE_SIZE - 4] = _INK
    canvas[top + 2 : bottom - 2, 6 : IMAGE_SIZE - 6] = _BOARD
    left = (IMAGE_SIZE - LETTER_WIDTH * len(sign.word)) // 2
    for i, letter in enumerate(sign.word):
        mask = letter_mask(letter, LETTER_WIDTH, LETTER_HEIGHT)
        x, y = left + i * LETTER_WIDTH, top + (BOARD_HEIGHT - LETTER_HEIGHT) // 2
        _blend(canvas, mask, _INK, x, y)


def render(scene: Scene) -> np.ndarray:
    """Return the scene's picture: uint8 RGB [64, 64, 3]. Later things cover earlier ones."""
    canvas = np.empty((IMAGE_SIZE, IMAGE_SIZE, 3), np.float32)
    canvas[:] = BACKGROUNDS[scene.background]
    if scene.sign is not None:
        _draw_sign(canvas, scene.sign)
    for thing in scene.things:
        mask = shape_mask(thing.shape, thing.radius)
        color = np.array(PALETTE[thing.color], np.float32)
        _blend(canvas, mask, color, thing.x - thing.radius, thing.y - thing.radius)
    return np.rint(canvas).astype(np.uint8)

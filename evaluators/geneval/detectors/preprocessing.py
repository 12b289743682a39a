"""mmdet's preprocessing of a picture for Mask2Former, in numpy, without OpenCV.

``mmdet3`` (mmdet 3.3, config ``mask2former_swin-s-p4-w7-224_8xb2-lsj-50e_coco``) resizes as
float32, normalises, and pads with 0. ``mmdet2`` (mmdet 2.27, config
``mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco``, which the official GenEval script names) resizes
as uint8, pads with 128, and normalises. On a square picture only the resize's rounding differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from evaluators.types import EvaluatorError

#: Whose preprocessing; see above.
Preprocessing = Literal["mmdet3", "mmdet2"]
#: Order of the channels given to mmdet. It takes them for BGR, as it reads files, and swaps them:
#: given RGB, its network sees red as blue.
Channels = Literal["bgr", "rgb"]

#: Mean and standard deviation of the network's input by channel, on the scale of uint8.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
#: Longest and shortest side after the resize, in pixels.
LONG_SIDE, SHORT_SIDE = 1333, 800
#: Height and width are padded to multiples of it.
DIVISOR = 32
_GREY = 128

# Weights of OpenCV's uint8 resize are whole numbers of 1/2048.
_WEIGHT_BITS = 11


@dataclass(frozen=True)
class Prepared:
    """A picture for the network."""

    #: float32 [3, H, W], normalised; H and W are multiples of 32
    pixels: np.ndarray
    #: height and width of the picture inside ``pixels``; the rest, right and below, is padding
    size: tuple[int, int]


def prepare(
    image: np.ndarray, channels: Channels = "bgr", preprocessing: Preprocessing = "mmdet3"
) -> Prepared:
    """Return the network's input for a uint8 RGB image [H, W, 3].

    EvaluatorError if the image is so narrow that nothing is left of its short side.
    """
    height, width = new_size(image.shape[0], image.shape[1])
    if min(height, width) < 1:
        raise EvaluatorError(
            f"an image of {image.shape[1]}x{image.shape[0]} is too narrow to detect objects on"
        )
    # given BGR, mmdet swaps to RGB, which the image is already
    seen = image if channels == "bgr" else image[..., ::-1]
    if preprocessing == "mmdet3":
        pixels = _padded(normalise(resize_float(seen, height, width)), 0)
    else:
        pixels = normalise(_padded(resize_uint8(seen, height, width), _GREY))
    return Prepared(np.ascontiguousarray(pixels.transpose(2, 0, 1)), (height, width))


def new_size(height: int, width: int) -> tuple[int, int]:
    """Return height and width fitted into 1333x800 or 800x1333, by mmcv's rounding."""
    scale = min(LONG_SIDE / max(height, width), SHORT_SIDE / min(height, width))
    return int(height * scale + 0.5), int(width * scale + 0.5)


def normalise(pixels: np.ndarray) -> np.ndarray:
    """Return pixels of mean 0 and variance 1 on average, by channel: float32 [H, W, 3]."""
    mean, std = (np.array(values, dtype=np.float32) for values in (MEAN, STD))
    return (pixels.astype(np.float32) - mean) / std


def _padded(pixels: np.ndarray, value: int) -> np.ndarray:
    bottom, right = (-side % DIVISOR for side in pixels.shape[:2])
    return np.pad(pixels, ((0, bottom), (0, right), (0, 0)), constant_values=value)


def resize_uint8(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return OpenCV's ``resize`` with ``INTER_LINEAR`` of uint8 [H, W, C], to the bit.

    It is in fixed point: weights have 11 bits, and lowest bits of their products are dropped.
    """
    if image.shape[:2] == (height, width):
        return image
    if image.shape[:2] == (2 * height, 2 * width):
        return ((_quarters(image.astype(np.int32)) + 2) >> 2).astype(np.uint8)
    left, right, share_x = _neighbours(image.shape[1], width, np.float32)
    top, bottom, share_y = _neighbours(image.shape[0], height, np.float32)
    share_x[left == right] = 0  # at its sides OpenCV takes the edge exactly, above and below not
    x0, x1 = (_fixed(w)[None, :, None] for w in (1 - share_x, share_x))
    y0, y1 = (_fixed(w)[:, None, None] for w in (1 - share_y, share_y))
    pixels = image.astype(np.int32)
    rows = (pixels[:, left] * x0 + pixels[:, right] * x1) >> 4  # [H, width, C]
    total = ((rows[top] * y0) >> 16) + ((rows[bottom] * y1) >> 16) + 2
    return np.clip(total >> 2, 0, 255).astype(np.uint8)


def resize_float(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return OpenCV's ``resize`` with ``INTER_LINEAR`` of the image as float32 [H, W, C].

    Equal but for the last bits of float32, which depend on OpenCV's processor.
    """
    pixels = image.astype(np.float32)
    if image.shape[:2] == (height, width):
        return pixels
    if image.shape[:2] == (2 * height, 2 * width):
        return _quarters(pixels) * np.float32(0.25)
    left, right, share_x = _neighbours(image.shape[1], width, np.float64)
    top, bottom, share_y = _neighbours(image.shape[0], height, np.float64)
    rows = pixels[:, left]  # [H, width, C]
    rows += (pixels[:, right] - rows) * share_x[None, :, None]
    resized = rows[top]
    resized += (rows[bottom] - resized) * share_y[:, None, None]
    return resized


def _quarters(pixels: np.ndarray) -> np.ndarray:
    """Sum each 2x2 block: at exactly half the size OpenCV takes the area's mean instead."""
    return pixels[0::2, 0::2] + pixels[0::2, 1::2] + pixels[1::2, 0::2] + pixels[1::2, 1::2]


def _neighbours(
    size: int, new: int, precision: type[np.floating]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, for each new position, the two old ones around it and the second's share (float32).

    Centres of pixels are aligned, and computed in ``precision``. The picture's edge is repeated
    outside it.
    """
    centres = ((np.arange(new) + 0.5) * (1 / (new / size)) - 0.5).astype(precision)
    first = np.floor(centres).astype(np.int64)
    share = (centres - first).astype(np.float32)
    return np.clip(first, 0, size - 1), np.clip(first + 1, 0, size - 1), share


def _fixed(weights: np.ndarray) -> np.ndarray:
    return np.rint(weights * np.float32(1 << _WEIGHT_BITS)).astype(np.int32)

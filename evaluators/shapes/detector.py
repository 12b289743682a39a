"""An object detector for the embedded world: classical vision, no weights.

Each pixel is un-mixed into background and one palette colour, connected components of one colour
become objects, and an object's outline, scaled to one size, is compared with every shape's. The
score is how clearly the best shape fits, so that a malformed blob scores low.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import ndimage

from evaluators.geneval.rules import Detection
from evaluators.shapes.geometry import PALETTE, RADII, SHAPES, shape_mask

#: A pixel belongs to an object if the palette colour makes up at least this share of it.
_FOREGROUND = 0.5
#: Smaller components (in pixels) are specks, not objects.
_MINIMUM_AREA = 30
#: Overlaps (intersection over union) of score 0 and of score 1, a clean render's; the score is
#: linear in between.
_IOU_ZERO, _IOU_ONE = 0.60, 0.85
#: Side of the square, in samples, on which outlines are compared.
_CANVAS = 32


def background_of(image: np.ndarray) -> np.ndarray:
    """Return the median colour of the image's outermost two pixels: float [3] in 0..255."""
    edges = (image[:2], image[-2:], image[:, :2], image[:, -2:])
    return np.median(np.concatenate([edge.reshape(-1, 3) for edge in edges]), axis=0)


def label_colors(image: np.ndarray) -> np.ndarray:
    """Return the palette index of each pixel, -1 for background: int [H, W].

    Solves pixel = (1 - a) background + a colour for each palette colour with a in [0, 1] and keeps
    the colour that leaves the smallest residual.
    """
    background = background_of(image)
    palette = np.array(list(PALETTE.values()), float) - background  # [C, 3]
    offset = image.astype(float) - background  # [H, W, 3]
    lengths = np.maximum((palette**2).sum(1), 1)  # a background may be of a palette colour
    share = np.clip(offset @ palette.T / lengths, 0, 1)  # [H, W, C]
    residual = np.linalg.norm(offset[:, :, None] - share[..., None] * palette, axis=-1)
    best = residual.argmin(-1)
    chosen = np.take_along_axis(share, best[..., None], -1)[..., 0]
    return np.where(chosen >= _FOREGROUND, best, -1)


def _stretch(mask: np.ndarray) -> np.ndarray:
    """Return the mask, centred in a square, resampled to [_CANVAS, _CANVAS], in [0, 1].

    Proportions are kept: half a square is not a square.
    """
    height, width = mask.shape
    side = max(height, width)
    samples = ((np.arange(_CANVAS) + 0.5) / _CANVAS - 0.5) * side - 0.5
    grid = np.meshgrid(samples + height / 2, samples + width / 2, indexing="ij")
    return ndimage.map_coordinates(mask.astype(float), grid, order=1)


@cache
def _templates() -> np.ndarray:
    """Return every shape's stretched outlines at the world's sizes: [S, R, _CANVAS, _CANVAS].

    There is one per size because a thin arm's width depends on it by a pixel.
    """
    return np.stack([[_outline(shape, radius) for radius in RADII] for shape in SHAPES])


def _outline(shape: str, radius: int) -> np.ndarray:
    mask = shape_mask(shape, radius) >= _FOREGROUND
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return _stretch(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def detect(image: np.ndarray) -> list[Detection]:
    """Return the image's objects with shape, colour, score in [0, 1] and box, best first.

    ``image`` is uint8 RGB [H, W, 3] on a plain light background.
    """
    colors = label_colors(image)
    templates = _templates()
    objects = []
    for index, color in enumerate(PALETTE):
        components, _ = ndimage.label(colors == index)
        for number, (rows, columns) in enumerate(ndimage.find_objects(components), start=1):
            mask = components[rows, columns] == number
            if mask.sum() < _MINIMUM_AREA:
                continue
            outline = _stretch(mask)
            overlap = np.minimum(templates, outline).sum((2, 3))
            iou = (overlap / np.maximum(templates, outline).sum((2, 3))).max(1)
            best = int(iou.argmax())
            score = float(np.clip((iou[best] - _IOU_ZERO) / (_IOU_ONE - _IOU_ZERO), 0, 1))
            left, right = float(columns.start), float(columns.stop)
            box = (left, float(rows.start), right, float(rows.stop))
            objects.append(Detection(SHAPES[best], score, box, color))
    return sorted(objects, key=lambda d: -d.score)

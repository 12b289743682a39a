"""From a picture to the patches that a Qwen-VL model reads: our own resize rule, pinned.

The processors of the hub take sizes, resampling and normalisation from files and defaults that
change between versions. Source of the rule: QwenLM/Qwen2-VL, ``qwen-vl-utils``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

#: Frames, and rows and columns of patches.
Grid = tuple[int, int, int]
#: Patches of a picture are given twice, as if they were two frames.
FRAMES = 2
#: Patches of a square of this side become one token.
MERGE = 2
#: A picture whose sides differ more than this cannot be judged.
RATIO = 200


@dataclass(frozen=True)
class PixelRule:
    """How pictures are resized and normalised; every part changes scores."""

    #: side of a patch in pixels
    patch: int
    #: fewest and most pixels of the resized picture
    fewest: int
    most: int
    #: by channel in RGB order, of values in [0, 1]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def step(self) -> int:
        """Both sides of the resized picture are multiples of this."""
        return self.patch * MERGE

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width after resizing. ValueError if the sides differ too much.

        The nearest multiples of the step; if those have too many or too few pixels, the sides are
        scaled by one factor and rounded towards what is allowed.
        """
        if max(height, width) > RATIO * min(height, width):
            raise ValueError(f"an image of {width}x{height} is too narrow to judge")
        step = self.step
        high, wide = (max(step, round(side / step) * step) for side in (height, width))
        if high * wide > self.most:
            scale = math.sqrt(height * width / self.most)
            high, wide = (max(step, math.floor(s / scale / step) * step) for s in (height, width))
        elif high * wide < self.fewest:
            scale = math.sqrt(self.fewest / (height * width))
            high, wide = (math.ceil(s * scale / step) * step for s in (height, width))
        return high, wide

    def patches(self, image: np.ndarray) -> tuple[np.ndarray, Grid]:
        """Return the patches, float32 [P, 3 * 2 * patch * patch], and the grid (1, rows, columns).

        ``image`` is uint8 RGB [H, W, 3]; Pillow's bicubic. Patches come square by square of those
        that become one token.
        """
        high, wide = self.size(*image.shape[:2])
        picture = Image.fromarray(image)
        if picture.size != (wide, high):
            picture = picture.resize((wide, high), Image.Resampling.BICUBIC)
        values = np.asarray(picture).astype(np.float32) / np.float32(255)
        mean, std = np.array([self.mean, self.std], np.float32)
        values = (values - mean) / std
        rows, columns = high // self.patch, wide // self.patch
        split = values.reshape(
            rows // MERGE, MERGE, self.patch, columns // MERGE, MERGE, self.patch, 3
        )
        # token row, token column, patch row, patch column, channel, pixel row, pixel column
        ordered = split.transpose(0, 3, 1, 4, 6, 2, 5)[:, :, :, :, :, None]
        frames = np.broadcast_to(ordered, (*ordered.shape[:5], FRAMES, self.patch, self.patch))
        return frames.reshape(rows * columns, -1), (1, rows, columns)


_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_HALF = (0.5, 0.5, 0.5)


def rule_of(kind: str, fewest: int | None = None, most: int | None = None) -> PixelRule:
    """Return the rule of a kind of model (``model_type``), with its published bounds of pixels."""
    if kind == "qwen3_vl":
        return PixelRule(16, fewest or 256 * 256, most or 4096 * 4096, _HALF, _HALF)
    return PixelRule(14, fewest or 56 * 56, most or 12_845_056, _CLIP_MEAN, _CLIP_STD)

"""Preprocessing of uint8 pictures for vision towers, pinned down to the rounding.

Libraries differ in how they resize and crop, and change their defaults between versions; scores
move with them by up to a few per cent. So each evaluator names its steps from this module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import torch

#: Mean and standard deviation of the data CLIP was trained on, by channel in RGB order.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

#: Mean and standard deviation of ImageNet, likewise.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_BICUBIC = Image.Resampling.BICUBIC

#: Function from an image, uint8 RGB [H, W, 3], and a size to a float32 tensor [3, size, size].
View = Callable[[np.ndarray, int], "torch.Tensor"]


def normalise(
    pixels: torch.Tensor,
    mean: tuple[float, ...] = CLIP_MEAN,
    std: tuple[float, ...] = CLIP_STD,
) -> torch.Tensor:
    """Normalise values in [0, 1], [3, H, W], by a mean and deviation, CLIP's unless given."""
    import torch

    middle, spread = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
    return (pixels - middle) / spread


def _to_unit(image: np.ndarray) -> torch.Tensor:
    """Convert uint8 [H, W, 3] to float32 [3, H, W] in [0, 1]."""
    import torch

    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def _short_side(height: int, width: int, size: int) -> tuple[int, int]:
    """Return height and width for a short side of ``size``; the long side is rounded down."""
    if height <= width:
        return size, int(size * width / height)
    return int(size * height / width), size


def pillow_view(centre: Literal["floor", "round"]) -> View:
    """Return CLIP's own preprocessing: Pillow's bicubic to a short side of ``size``, centre crop.

    Where an odd number of rows is cut, transformers' CLIPProcessor ("floor") cuts the smaller half
    first; torchvision, and so open_clip and ImageReward ("round"), use Python's ``round``. On
    square images both are the same.
    """

    def view(image: np.ndarray, size: int) -> torch.Tensor:
        return normalise(_to_unit(_resized_crop(image, size, size, centre)))

    return view


def dinov2_view() -> View:
    """Return DINOv2's own preprocessing, transformers' BitImageProcessor: Pillow's bicubic to a
    short side of 8/7 of ``size`` (256 for 224), centre crop, ImageNet's mean and deviation.
    """

    def view(image: np.ndarray, size: int) -> torch.Tensor:
        crop = _resized_crop(image, size * 8 // 7, size, "floor")
        return normalise(_to_unit(crop), IMAGENET_MEAN, IMAGENET_STD)

    return view


def _resized_crop(
    image: np.ndarray, short_side: int, size: int, centre: Literal["floor", "round"]
) -> np.ndarray:
    """Return the centre [size, size, 3] of an image after Pillow's bicubic to a short side."""
    height, width = _short_side(image.shape[0], image.shape[1], short_side)
    picture = Image.fromarray(image)
    if picture.size != (width, height):
        picture = picture.resize((width, height), _BICUBIC)
    halves = ((height - size) / 2, (width - size) / 2)
    top, left = (int(h) if centre == "floor" else round(h) for h in halves)
    return np.asarray(picture)[top : top + size, left : left + size]


def tensor_view(antialias: bool) -> View:
    """Return the Flow-GRPO family's preprocessing for CLIPScore.

    Values in [0, 1], bilinear resize of the tensor to a short side of ``size``, centre crop.
    """

    def view(image: np.ndarray, size: int) -> torch.Tensor:
        height, width = _short_side(image.shape[0], image.shape[1], size)
        pixels = _resize(_to_unit(image), height, width, "bilinear", antialias)
        top, left = round((height - size) / 2), round((width - size) / 2)
        return normalise(pixels[:, top : top + size, left : left + size])

    return view


def padded_view(antialias: bool) -> View:
    """Return HPSv2's preprocessing.

    Values in [0, 1], bicubic resize of the tensor to a long side of ``size``, black padding to a
    square, then CLIP's normalisation.
    """

    def view(image: np.ndarray, size: int) -> torch.Tensor:
        import torch

        scale = size / max(image.shape[:2])
        height, width = (round(side * scale) for side in image.shape[:2])
        pixels = _resize(_to_unit(image), height, width, "bicubic", antialias)
        top, left = (size - height) // 2, (size - width) // 2
        margins = (left, size - width - left, top, size - height - top)
        return normalise(torch.nn.functional.pad(pixels, margins))

    return view


def square_view() -> View:
    """Return CMMD's preprocessing: the centre square, resized by Pillow's bicubic."""

    def view(image: np.ndarray, size: int) -> torch.Tensor:
        side = min(image.shape[:2])
        top, left = ((length - side) // 2 for length in image.shape[:2])
        picture = Image.fromarray(image[top : top + side, left : left + side])
        return normalise(_to_unit(np.asarray(picture.resize((size, size), _BICUBIC))))

    return view


def stretched_view() -> View:
    """Return BLIP's preprocessing: Pillow's bicubic to a square, whatever the ratio of sides."""

    def view(image: np.ndarray, size: int) -> torch.Tensor:
        picture = Image.fromarray(image)
        if picture.size != (size, size):
            picture = picture.resize((size, size), _BICUBIC)
        return normalise(_to_unit(np.asarray(picture)))

    return view


def _resize(
    pixels: torch.Tensor, height: int, width: int, mode: str, antialias: bool
) -> torch.Tensor:
    import torch

    if tuple(pixels.shape[1:]) == (height, width):
        return pixels
    return torch.nn.functional.interpolate(
        pixels[None], size=(height, width), mode=mode, align_corners=False, antialias=antialias
    )[0]


def stack(images: Sequence[np.ndarray], view: View, size: int) -> torch.Tensor:
    """Return a batch of images through one view: [B, 3, size, size], float32."""
    import torch

    return torch.stack([view(image, size) for image in images])

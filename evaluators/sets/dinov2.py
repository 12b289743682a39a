"""DINOv2, from the hub's layout: one vector per image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from evaluators.clip import at_once
from evaluators.loading import empty_model, load_strictly, read_safetensors
from evaluators.types import EvaluatorError
from evaluators.weights import Weights
from soar_bench.core.torchvision import mend_torchvision

if TYPE_CHECKING:
    import torch

#: Mean and standard deviation of ImageNet, by channel in RGB order.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Short side after resizing, and the centre crop, which is the network's input.
_RESIZED, CROP = 256, 224


def view(image: np.ndarray) -> torch.Tensor:
    """Return uint8 RGB [H, W, 3] as the network's input: float32 [3, 224, 224].

    Pillow's bicubic to a short side of 256, centre crop, ImageNet's mean and deviation.
    """
    import torch

    height, width = image.shape[:2]
    scale = _RESIZED / min(height, width)
    size = (max(round(width * scale), _RESIZED), max(round(height * scale), _RESIZED))
    picture = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    left, top = ((side - CROP) // 2 for side in size)
    pixels = np.asarray(picture.crop((left, top, left + CROP, top + CROP)), np.float32) / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (torch.from_numpy(pixels).permute(2, 0, 1) - mean) / std


class Encoder:
    """The network in memory."""

    def __init__(self, weights: Weights, device: str, dtype: str) -> None:
        """EvaluatorError if the files are damaged or of another network."""
        import torch

        mend_torchvision()
        from transformers import Dinov2Config, Dinov2Model

        file = weights.file("config.json")
        try:
            config = Dinov2Config.from_dict(json.loads(file.read_text("utf-8")))
        except (ValueError, TypeError, AttributeError) as error:
            raise EvaluatorError(f"{file} is no configuration of a DINOv2 ({error})") from None
        file = weights.file("model.safetensors")
        model = empty_model(lambda: Dinov2Model(config))
        load_strictly(model, read_safetensors(file), file, "DINOv2 ViT-B/14")
        self._model = model.to(device, getattr(torch, dtype)).eval()
        self._device, self._batch = device, at_once(device)

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return the class token after the last norm: float32 [B, D]."""
        import torch

        rows = []
        for start in range(0, len(images), self._batch):
            pixels = torch.stack([view(image) for image in images[start : start + self._batch]])
            with torch.inference_mode():
                output = self._model(pixel_values=pixels.to(self._device, self._model.dtype))
            rows.append(output.pooler_output.float().cpu().numpy())
        return np.concatenate(rows) if rows else np.empty((0, 0), np.float32)

"""DINOv2, from the hub's layout: one vector per image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluators.clip import at_once
from evaluators.images import dinov2_view, stack
from evaluators.loading import empty_model, load_strictly, read_config, read_safetensors
from evaluators.weights import Weights
from soar_bench.core.torchvision import mend_torchvision

VIEW = dinov2_view()
#: Side of the network's input.
SIDE = 224


class Encoder:
    """The network in memory."""

    def __init__(self, weights: Weights, device: str, dtype: str) -> None:
        """EvaluatorError if the files are damaged or of another network."""
        import torch

        mend_torchvision()
        from transformers import Dinov2Config, Dinov2Model

        config = read_config(weights.file("config.json"), Dinov2Config.from_dict, "a DINOv2")
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
            pixels = stack(images[start : start + self._batch], VIEW, SIDE)
            with torch.inference_mode():
                output = self._model(pixel_values=pixels.to(self._device, self._model.dtype))
            rows.append(output.pooler_output.float().cpu().numpy())
        return np.concatenate(rows) if rows else np.empty((0, 0), np.float32)

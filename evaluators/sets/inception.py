"""The Inception network of the published FID, through the package torch-fidelity."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

import numpy as np

from evaluators.clip import at_once
from evaluators.loading import read_checkpoint
from evaluators.types import EvaluatorError
from evaluators.weights import Weights
from soar_bench.core.packages import install
from soar_bench.core.torchvision import mend_torchvision

_LAYER = "2048"


def check() -> None:
    """Raise EvaluatorError unless the package is installed."""
    if find_spec("torch_fidelity") is None:
        raise EvaluatorError(
            f"FID's Inception network needs the package torch-fidelity: {install('fidelity')}"
        )


def package_version() -> str:
    """Return the package's version, which decides how pictures are resized."""
    return version("torch-fidelity")


class Encoder:
    """The network in memory: pooled features of 2048 numbers, after TensorFlow 1's resizing."""

    def __init__(self, weights: Weights, device: str) -> None:
        mend_torchvision()
        from torch_fidelity import feature_extractor_inceptionv3 as package

        # The package would unpickle the file, or download it: it is handed what we have read.
        state = read_checkpoint(weights.file(weights.files[0].path))
        with patch.object(package, "load_state_dict_from_url", lambda *_, **__: state):
            network = package.FeatureExtractorInceptionV3("inception-v3-compat", [_LAYER])
        self._network: Any = network.to(device)
        self._device, self._batch = device, at_once(device)

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return features of uint8 RGB [H, W, 3] images: float32 [B, 2048]; one size at a time."""
        import torch

        rows = np.empty((len(images), int(_LAYER)), np.float32)
        sizes: dict[tuple[int, ...], list[int]] = {}
        for place, image in enumerate(images):
            sizes.setdefault(image.shape, []).append(place)
        for places in sizes.values():
            for start in range(0, len(places), self._batch):
                chosen = places[start : start + self._batch]
                pixels = torch.from_numpy(np.stack([images[i] for i in chosen])).permute(0, 3, 1, 2)
                with torch.inference_mode():
                    rows[chosen] = self._network(pixels.to(self._device))[0].cpu().numpy()
        return rows

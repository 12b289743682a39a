"""LPIPS between the images of a prompt: AlexNet's features under the published linear heads.

Source: Zhang et al., arXiv 1801.03924; richzhang/PerceptualSimilarity, version 0.1. The trunk is
torchvision's AlexNet, of which only the convolutions are used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from evaluators import catalogue
from evaluators.loading import check_keys, read_checkpoint
from evaluators.sets.pairs import scores_of_pairs
from evaluators.types import Metric, Sample, Score, SetEvaluator
from evaluators.weights import Weights

if TYPE_CHECKING:
    import torch

#: Place in torchvision's ``features``, output and input channels, kernel, stride and padding of
#: each convolution; a max pooling follows the first two.
CONVOLUTIONS = (
    (0, 64, 3, 11, 4, 2),
    (3, 192, 64, 5, 1, 2),
    (6, 384, 192, 3, 1, 1),
    (8, 256, 384, 3, 1, 1),
    (10, 256, 256, 3, 1, 1),
)
TRUNK_FILE, HEADS_FILE = "alexnet-owt-7be5be79.pth", "alex.pth"
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_SMALLEST = 32


def trunk_shapes() -> dict[str, tuple[int, ...]]:
    """Return the shapes of the convolutions by their names in torchvision's file."""
    shapes: dict[str, tuple[int, ...]] = {}
    for place, outputs, inputs, kernel, _, _ in CONVOLUTIONS:
        shapes[f"features.{place}.weight"] = (outputs, inputs, kernel, kernel)
        shapes[f"features.{place}.bias"] = (outputs,)
    return shapes


def head_shapes() -> dict[str, tuple[int, ...]]:
    """Return the shapes of the linear heads by their names in the published file."""
    return {f"lin{i}.model.1.weight": (1, c[1], 1, 1) for i, c in enumerate(CONVOLUTIONS)}


class LpipsDiversity(SetEvaluator):
    """Mean LPIPS over the pairs of a prompt's images, at their own size."""

    name = "diversity-lpips"
    metrics = (
        Metric(
            name="lpips_distance",
            unit="LPIPS",
            range=(0.0, float("inf")),
            higher_is_better=True,
            version="1",
            source="arXiv 1801.03924; richzhang/PerceptualSimilarity 0.1, AlexNet",
            description="Mean over the pairs of a prompt's images of their LPIPS distance.",
            licence=catalogue.LPIPS_HEADS.licence,
            skewed=True,
        ),
    )

    def __init__(
        self, trunk: Weights = catalogue.ALEXNET, heads: Weights = catalogue.LPIPS_HEADS
    ) -> None:
        self.weights = (trunk, heads)

    def load(self, device: str = "cpu", dtype: str = "float32") -> None:
        self.check()
        trunk, heads = self.weights
        file = trunk.file(TRUNK_FILE)
        state = read_checkpoint(file)
        convolutions = {k: v for k, v in state.items() if k.startswith("features.")}
        check_keys(trunk_shapes(), convolutions, (), file, "AlexNet's convolutions")
        file = heads.file(HEADS_FILE)
        linear = read_checkpoint(file)
        check_keys(head_shapes(), linear, (), file, "LPIPS's heads over AlexNet")
        self._device = device
        self._trunk = {name: tensor.float().to(device) for name, tensor in convolutions.items()}
        self._heads = [linear[name].float().flatten().to(device) for name in head_shapes()]

    def embed(self, samples: Sequence[Sample]) -> list[np.ndarray]:
        """Return, for each image, all features so scaled that LPIPS is their squared distance.

        The last two numbers are height and width: images of other sizes do not compare.
        """
        return [self._row(sample.image) for sample in samples]

    def _row(self, image: np.ndarray) -> np.ndarray:
        import torch

        parts = []
        with torch.inference_mode():
            features = activations(self._trunk, image, self._device)
            for layer, head in zip(features, self._heads, strict=True):
                unit = layer / (layer.pow(2).sum(0, keepdim=True).sqrt() + 1e-10)
                weight = (head / unit[0].numel()).sqrt()
                parts.append((unit * weight[:, None, None]).flatten().cpu())
        size = torch.tensor(image.shape[:2], dtype=torch.float32)
        return torch.cat([*parts, size]).numpy()

    def score_set(self, rows: Sequence[np.ndarray]) -> list[dict[str, Score]]:
        sizes = {(int(row[-1]), int(row[-2])) for row in rows}
        name = self.metrics[0].name
        if len(sizes) > 1:
            seen = " and ".join(f"{width}x{height}" for width, height in sorted(sizes))
            reason = f"the prompt's images differ in size ({seen}), and LPIPS needs one size"
            return [{name: Score(None, reason)} for _ in rows]
        if min(min(size) for size in sizes) < _SMALLEST:
            reason = f"LPIPS needs images of {_SMALLEST}x{_SMALLEST} pixels or more"
            return [{name: Score(None, reason)} for _ in rows]
        pairs = np.zeros((len(rows), len(rows)))
        for i, first in enumerate(rows):
            for j in range(i):
                pairs[i, j] = pairs[j, i] = np.square(first - rows[j], dtype=np.float64).sum()
        return scores_of_pairs(name, pairs)


def activations(
    trunk: Mapping[str, torch.Tensor], image: np.ndarray, device: str
) -> list[torch.Tensor]:
    """Return the features after each of AlexNet's five rectifiers, [C, h, w], of uint8 RGB.

    Images too small for the pooling are padded; they stay unscored.
    """
    import torch
    from torch.nn import functional

    pixels = torch.from_numpy(np.array(image)).to(device).permute(2, 0, 1).float() / 127.5 - 1
    shift, scale = (torch.tensor(v, device=device).view(3, 1, 1) for v in (_SHIFT, _SCALE))
    x = (pixels - shift) / scale
    margins = [max(_SMALLEST - side, 0) for side in x.shape[1:]]
    x = functional.pad(x, (0, margins[1], 0, margins[0]))
    layers = []
    for number, (place, *_, stride, padding) in enumerate(CONVOLUTIONS):
        if number in (1, 2):
            x = functional.max_pool2d(x, 3, 2)
        weight, bias = trunk[f"features.{place}.weight"], trunk[f"features.{place}.bias"]
        x = functional.relu(functional.conv2d(x, weight, bias, stride, padding))
        layers.append(x)
    return layers

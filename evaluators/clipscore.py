"""CLIPScore as in the Flow-GRPO family: the cosine in CLIP ViT-L/14."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evaluators import catalogue
from evaluators.clip import Tower, TowerEvaluator, tower
from evaluators.images import View, pillow_view, tensor_view
from evaluators.types import Metric, Sample
from evaluators.weights import Weights

if TYPE_CHECKING:
    import torch

#: CLIP's own preprocessing; the same object as the aesthetic score's, so one pass serves both.
PROCESSOR_VIEW = pillow_view("floor")

_VIEWS: dict[str, tuple[View, str]] = {
    "clipscore": (tensor_view(True), "bilinear resize of the tensor with antialiasing"),
    "clipscore-no-antialias": (
        tensor_view(False),
        "bilinear resize of the tensor without antialiasing",
    ),
    "clipscore-processor": (PROCESSOR_VIEW, "CLIP's own bicubic resize of the picture"),
}


class ClipScore(TowerEvaluator):
    """Cosine of image and prompt embeddings in OpenAI's CLIP ViT-L/14.

    Published numbers resize the picture as a tensor, bilinearly, by torchvision's default, which is
    with antialiasing since 0.17 (Flow-GRPO pins 0.21): that is ``clipscore``. Not Hessel's
    CLIPScore (arXiv 2104.08718), which is 2.5 max(cosine, 0) in ViT-B/32 with another prompt.
    """

    shares = "clip-vit-l-14"

    def __init__(
        self,
        name: str = "clipscore",
        weights: Weights = catalogue.CLIP_VIT_L_14,
        *,
        embedding: int = 768,
    ) -> None:
        self.name = name
        self._view, resize = _VIEWS[name]
        self._embedding = embedding
        self.weights = (weights,)
        self.metrics = (
            Metric(
                name=name.replace("-", "_"),
                unit="cosine; published values are about 0.28",
                range=(-1.0, 1.0),
                higher_is_better=True,
                version=f"1, {resize}",
                source="arXiv 2103.00020; yifan123/flow_grpo",
                description="Cosine of image and prompt embeddings in OpenAI's CLIP ViT-L/14, "
                f"{resize}.",
                licence=catalogue.CLIP_VIT_L_14.licence,
            ),
        )

    def load(self, device: str = "cpu", dtype: str = "float32") -> None:
        (weights,) = self.weights
        self._tower = tower(weights, weights, device, dtype, "CLIP ViT-L/14", self._embedding)

    def values(self, tower: Tower, samples: Sequence[Sample]) -> torch.Tensor:
        return tower.cosines(samples, self._view)


def clipscore_no_antialias() -> ClipScore:
    """Return the family's CLIPScore as it was with torchvision before 0.17."""
    return ClipScore("clipscore-no-antialias")


def clipscore_processor() -> ClipScore:
    """Return CLIPScore with the preprocessing of transformers' CLIPProcessor."""
    return ClipScore("clipscore-processor")

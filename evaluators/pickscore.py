"""PickScore: the picture that people would pick."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evaluators import catalogue
from evaluators.clip import Tower, TowerEvaluator, tower
from evaluators.images import pillow_view
from evaluators.types import Metric, Sample
from evaluators.weights import Weights

if TYPE_CHECKING:
    import torch

_VIEW = pillow_view("floor")


class PickScore(TowerEvaluator):
    """exp(logit scale) x cosine of image and prompt in a CLIP ViT-H/14 tuned on people's picks.

    Source: Kirstain et al., "Pick-a-Pic" (arXiv 2305.01569), eq. 1 without the softmax.
    """

    name = "pickscore"
    metrics = (
        Metric(
            name="pickscore",
            unit="exp(logit scale) x cosine; published values are about 22",
            range=(-100.0, 100.0),
            higher_is_better=True,
            version="1",
            source="arXiv 2305.01569; yuvalkirstain/PickScore",
            description="How a CLIP tuned on people's choices between pictures of one prompt rates "
            "this picture for its prompt.",
            licence=catalogue.PICKSCORE.licence,
        ),
    )

    def __init__(
        self,
        weights: Weights = catalogue.PICKSCORE,
        tokenizer: Weights = catalogue.CLIP_TOKENIZER,
        *,
        embedding: int = 1024,
    ) -> None:
        self.weights = (weights, tokenizer)
        self._embedding = embedding

    def load(self, device: str = "cpu", dtype: str = "float32") -> None:
        weights, tokenizer = self.weights
        what = "PickScore's CLIP ViT-H/14"
        self._tower = tower(weights, tokenizer, device, dtype, what, self._embedding)

    def values(self, tower: Tower, samples: Sequence[Sample]) -> torch.Tensor:
        return tower.logit_scale * tower.cosines(samples, _VIEW)

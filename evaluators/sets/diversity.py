"""Diversity of a prompt's images: mean distance of pairs, and the Vendi score, of embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluators import catalogue
from evaluators.clip import tower
from evaluators.clipscore import PROCESSOR_VIEW
from evaluators.sets import dinov2
from evaluators.sets.pairs import cosine_distances, scores_of_pairs, vendi
from evaluators.types import Metric, Sample, Score, SetEvaluator
from evaluators.weights import Weights

_VENDI = "arXiv 2210.02410; vertaix/Vendi-Score"


class Diversity(SetEvaluator):
    """Base class: ``embed`` gives a vector per image, of which these are the two metrics."""

    dtypes = ("float32", "bfloat16", "float16")

    def __init__(self, name: str, encoder: str, source: str, licence: str) -> None:
        self.name = f"diversity-{name}"
        self._distance, self._vendi = f"{name}_distance", f"{name}_vendi"
        self.metrics = (
            Metric(
                name=self._distance,
                unit="1 - cosine",
                range=(0.0, 2.0),
                higher_is_better=True,
                version="1",
                source=source,
                description=f"Mean over the pairs of a prompt's images of 1 - cosine of their "
                f"{encoder} embeddings.",
                licence=licence,
                skewed=True,
            ),
            Metric(
                name=self._vendi,
                unit="effective number of images",
                range=(1.0, float("inf")),
                higher_is_better=True,
                version="1",
                source=f"{_VENDI}; {source}",
                description=f"Vendi score of a prompt's images under the cosine of their {encoder} "
                "embeddings: from 1, all alike, to their number.",
                licence=licence,
                skewed=True,
            ),
        )

    def score_set(self, rows: Sequence[np.ndarray]) -> list[dict[str, Score]]:
        vectors = np.stack(rows)
        scores = scores_of_pairs(self._distance, cosine_distances(vectors))
        score = Score(vendi(vectors))
        return [{**of_image, self._vendi: score} for of_image in scores]


class ClipDiversity(Diversity):
    """In CLIP ViT-L/14, which other evaluators use too."""

    def __init__(self, clip: Weights = catalogue.CLIP_VIT_L_14, *, embedding: int = 768) -> None:
        super().__init__("clip", "CLIP ViT-L/14", "arXiv 2103.00020", clip.licence)
        self.weights = (clip,)
        self._embedding = embedding

    def load(self, device: str = "cpu", dtype: str = "float32") -> None:
        self.check()
        (clip,) = self.weights
        self._tower = tower(clip, clip, device, dtype, "CLIP ViT-L/14", self._embedding)

    def embed(self, samples: Sequence[Sample]) -> list[np.ndarray]:
        images = [sample.image for sample in samples]
        return list(self._tower.embed_images(images, PROCESSOR_VIEW).numpy())


class DinoDiversity(Diversity):
    """In DINOv2 ViT-B/14, which was trained without texts and sees style and layout too."""

    def __init__(self, weights: Weights = catalogue.DINOV2) -> None:
        super().__init__("dinov2", "DINOv2 ViT-B/14", "arXiv 2304.07193", weights.licence)
        self.weights = (weights,)

    def load(self, device: str = "cpu", dtype: str = "float32") -> None:
        self.check()
        self._encoder = dinov2.Encoder(self.weights[0], device, dtype)

    def embed(self, samples: Sequence[Sample]) -> list[np.ndarray]:
        return list(self._encoder([sample.image for sample in samples]))

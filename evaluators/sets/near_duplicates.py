"""Near-duplicates among the images of a prompt: what is left of a model that has collapsed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from evaluators.sets.pairs import scores_of_pairs
from evaluators.types import Metric, Sample, Score, SetEvaluator

#: Side of the thumbnails that are compared.
SIDE = 32
#: Two images are near-duplicates up to this root mean square difference of thumbnails in [0, 1].
ALIKE = 0.05


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Return uint8 RGB [H, W, 3] averaged over boxes: float32 [32, 32, 3] in [0, 1]."""
    small = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float32) / 255


class NearDuplicates(SetEvaluator):
    """Share of the pairs of a prompt's images that are nearly the same; ignores the prompt."""

    name = "near-duplicates"
    metrics = (
        Metric(
            name="near_duplicates",
            unit="share of pairs",
            range=(0.0, 1.0),
            higher_is_better=False,
            version="1",
            source="soar-bench, docs/metrics/near-duplicates.md",
            description=f"Pairs of a prompt's images whose {SIDE}x{SIDE} thumbnails differ by a "
            f"root mean square of up to {ALIKE:g} of the range of values.",
        ),
    )

    def embed(self, samples: Sequence[Sample]) -> list[np.ndarray]:
        return [thumbnail(sample.image) for sample in samples]

    def score_set(self, rows: Sequence[np.ndarray]) -> list[dict[str, Score]]:
        flat = np.stack([row.reshape(-1) for row in rows]).astype(np.float64)
        alike = np.array([np.sqrt(((flat - row) ** 2).mean(1)) <= ALIKE for row in flat])
        return scores_of_pairs("near_duplicates", alike.astype(np.float64))

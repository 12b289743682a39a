"""PickScore: the picture that people would pick."""

from __future__ import annotations

from collections.abc import Sequence

from evaluators import catalogue
from evaluators.clip import Tower, tower
from evaluators.images import pillow_view
from evaluators.types import Evaluator, Metric, Sample, Score
from evaluators.weights import Weights

_VIEW = pillow_view("floor")


class PickScore(Evaluator):
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
    dtypes = ("float32", "bfloat16", "float16")

    def __init__(
        self,
        weights: Weights = catalogue.PICKSCORE,
        tokenizer: Weights = catalogue.CLIP_TOKENIZER,
        *,
        embedding: int = 1024,
    ) -> None:
        self.weights = (weights, tokenizer)
        self._embedding = embedding
        self._tower: Tower | None = None

    def load(self, device: str = "cpu", dtype: str = "float32") -> None:
        weights, tokenizer = self.weights
        what = "PickScore's CLIP ViT-H/14"
        self._tower = tower(weights, tokenizer, device, dtype, what, self._embedding)

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Score]]:
        if not samples:
            return []
        assert self._tower is not None, "load first"
        values = self._tower.logit_scale * self._tower.cosines(samples, _VIEW)
        return [{"pickscore": Score(value)} for value in values.tolist()]

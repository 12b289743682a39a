"""ImageReward: how much people would like the picture for its prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from evaluators import catalogue
from evaluators.clip import at_once
from evaluators.imagereward.layout import OFFICIAL, Architecture
from evaluators.images import pillow_view, stack
from evaluators.types import Evaluator, EvaluatorError, Metric, Sample, Score
from evaluators.weights import Weights

if TYPE_CHECKING:
    from evaluators.imagereward.model import Model
    from evaluators.imagereward.tokenizer import Tokenizer

_VIEW = pillow_view("round")


class ImageReward(Evaluator):
    """Normalised output of ImageReward-v1.0, one pass per pair of image and prompt.

    Source: Xu et al., "ImageReward" (arXiv 2304.05977); the package image-reward 1.5.
    docs/metrics/image-reward.md explains the number and how it differs from others'.
    """

    name = "image-reward"
    metrics = (
        Metric(
            name="image_reward",
            unit="reward, normalised by its authors' mean and standard deviation",
            # The model has no bound, but values of a few units: beyond 10 the weights are wrong.
            # Records are JSON, which has no infinity.
            range=(-10.0, 10.0),
            higher_is_better=True,
            version="1",
            source="arXiv 2304.05977; zai-org/ImageReward, package image-reward 1.5",
            description="How a BLIP trained on people's rankings of pictures rates this picture "
            "for its prompt.",
            licence=catalogue.IMAGE_REWARD.licence,
        ),
    )
    dtypes = ("float32", "bfloat16", "float16")
    _batch = 1

    def __init__(
        self,
        weights: Weights = catalogue.IMAGE_REWARD,
        tokenizer: Weights = catalogue.BERT_TOKENIZER,
        architecture: Architecture = OFFICIAL,
    ) -> None:
        self.weights, self._architecture = (weights, tokenizer), architecture
        self._model: Model | None = None
        self._tokenizer: Tokenizer | None = None

    def load(self, device: str = "cpu", dtype: str = "float32") -> None:
        from evaluators.imagereward import model
        from evaluators.imagereward.tokenizer import Tokenizer

        self.check()
        self._batch = at_once(device)
        weights, words = self.weights
        self._tokenizer = Tokenizer(words.file("vocab.txt"), self._architecture.vocabulary)
        self._model = model.load(weights.file("ImageReward.pt"), self._architecture, device, dtype)

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Score]]:
        """Score pairs. A prompt of more than 35 tokens is cut, as in the original.

        Its score's details say by how much (``tokens_cut``). An empty prompt is scored too.
        """
        scores: list[dict[str, Score]] = []
        for start in range(0, len(samples), self._batch):
            scores += self._score(samples[start : start + self._batch])
        return scores

    def _score(self, samples: Sequence[Sample]) -> list[dict[str, Score]]:
        assert self._model is not None and self._tokenizer is not None, "load first"
        pixels = stack([s.image for s in samples], _VIEW, self._architecture.image_size)
        tokens = self._tokenizer([s.prompt for s in samples])
        values = self._model.rewards(pixels, tokens.ids, tokens.mask).tolist()
        if not all(math.isfinite(value) for value in values):
            raise EvaluatorError(
                f"{self.name} gave a score that is no number: the weights are damaged, or their "
                "precision is too small; use float32"
            )
        return [
            {self.metrics[0].name: Score(value, details={"tokens_cut": cut} if cut else {})}
            for value, cut in zip(values, tokens.cut, strict=True)
        ]

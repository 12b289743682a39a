"""VQAScore with the layer's own judge: the probability of yes to "does it show this?"."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluators import catalogue
from evaluators.types import Metric, Sample, Score
from evaluators.vlm.evaluator import VlmEvaluator
from evaluators.vlm.question import Question

TEMPLATE = 'Does this figure show "{}"? Please answer yes or no.'


class VqaScore(VlmEvaluator):
    """Probability that the first token of the answer is ``Yes``."""

    name = "vqascore"
    metrics = (
        Metric(
            name="vqascore",
            unit="probability",
            range=(0.0, 1.0),
            higher_is_better=True,
            version="1",
            source="arXiv 2404.01291; linzhiqiu/t2v_metrics",
            description="Probability under Qwen3-VL-8B of Yes as the first token of the answer to "
            "whether the figure shows the prompt. Published values are CLIP-FlanT5's.",
            licence=catalogue.QWEN3_VL_8B.licence,
        ),
    )

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Score]]:
        questions = [Question(s.image, TEMPLATE.format(s.prompt)) for s in samples]
        (yes,) = self.first_ids(["Yes"])
        values = self._judge.first_token(questions)[:, yes].astype(np.float64)
        return [{"vqascore": Score(min(value, 1.0))} for value in values.tolist()]

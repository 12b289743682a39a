"""OCR accuracy: is the wanted text on the image?"""

from __future__ import annotations

from collections.abc import Sequence

from evaluators.ocr.accuracy import accuracy, normalise, target_of
from evaluators.ocr.engines import Engine, RapidOcr
from evaluators.types import Evaluator, Metric, Sample, Score


class OcrAccuracy(Evaluator):
    """Reads the image with an OCR engine and compares with the text quoted in the prompt.

    The engine and its version decide what is read, so they are part of the identity; the published
    numbers come from PaddleOCR 2.9.1.
    """

    name = "ocr"

    def __init__(self, engine: Engine | None = None) -> None:
        self.engine = engine or RapidOcr()
        self.metrics = (
            Metric(
                name="ocr_accuracy",
                unit="share of characters that are right",
                range=(0.0, 1.0),
                higher_is_better=True,
                version=f"flow-grpo formula 1, {self.engine.name}, no angle classifier",
                source="arXiv 2505.05470; yifan123/flow_grpo",
                description="1 - edit distance between quoted and recognised text over its length.",
            ),
        )

    def check(self) -> None:
        self.engine.check()

    def identity(self) -> dict[str, str]:
        return self.engine.identity()

    def load(self, device: str = "cpu", dtype: str = "float32") -> None:
        self.engine.load()

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Score]]:
        return [{self.metrics[0].name: self._score(sample)} for sample in samples]

    def _score(self, sample: Sample) -> Score:
        target = target_of(sample.prompt)
        if target is None:
            return Score(None, unscored="the prompt quotes no text")
        if not normalise(target):
            return Score(None, unscored="the quoted text is empty")
        lines = self.engine.read(sample.image)
        return Score(accuracy(target, "".join(lines)), details={"recognised": lines})

"""OCR accuracy: how well the image shows the prompt's quoted text.

One evaluator per engine, each with a metric of its own name: engines read differently, so their
numbers must not share a column. docs/metrics/ocr.md says which to use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np

from evaluators.ocr.accuracy import accuracy, normalise, target_of
from evaluators.ocr.engines import Engine, RapidOcr
from evaluators.ocr.paddle import PaddleOcr
from evaluators.ocr.tesseract import Tesseract
from evaluators.pool import Pool
from evaluators.types import Evaluator, Metric, Sample, Score

_FORMULA = "1 - edit distance between quoted and recognised text over its length."


class OcrAccuracy(Evaluator):
    """Accuracy of the text that an OCR engine reads, against the text quoted in the prompt.

    The published numbers come from PaddleOCR 2.9.1. Only images whose prompt quotes a text are
    read, in several processes where that pays. An engine that fails is an error, not a 0.
    """

    def __init__(
        self,
        engine: Engine | None = None,
        name: str = "ocr",
        metric: str = "ocr_accuracy",
        description: str = _FORMULA,
        licence: str = "Apache-2.0 (rapidocr, PP-OCR models)",
    ) -> None:
        self.name = name
        self.engine: Engine = engine or RapidOcr()
        self.metrics = (
            Metric(
                name=metric,
                unit="share of characters that are right",
                range=(0.0, 1.0),
                higher_is_better=True,
                version=f"flow-grpo formula 1, {self.engine.name}, no angle classifier",
                source="arXiv 2505.05470; yifan123/flow_grpo",
                description=description,
                licence=licence,
            ),
        )
        self._pool: Pool[np.ndarray, list[str]] = Pool(
            self.engine.load, f"the OCR engine {self.engine.name}"
        )

    def check(self) -> None:
        self.engine.check()

    def bring(self) -> str:
        bring: Callable[[], str] | None = getattr(self.engine, "bring", None)
        return bring() if bring is not None else ""

    def identity(self) -> dict[str, str]:
        return self.engine.identity()

    def can_judge(self, prompt: str, metadata: Mapping[str, Any]) -> bool:
        return bool(normalise(target_of(prompt) or ""))

    def load(self, device: str = "cpu", dtype: str = "float32") -> None:
        """Check the engine. It runs on the CPU; each process loads its own at its first image."""
        self.engine.check()

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Score]]:
        targets = [target_of(sample.prompt) for sample in samples]
        pairs = zip(samples, targets, strict=True)
        to_read = [sample for sample, target in pairs if target and normalise(target)]
        names = [f"the image of the prompt {shorten(s.prompt, 80)!r}" for s in to_read]
        read = iter(self._pool.map([sample.image for sample in to_read], names))
        scores = []
        for target in targets:
            if target is None:
                score = Score(None, unscored="the prompt quotes no text in straight double quotes")
            elif not normalise(target):
                score = Score(None, unscored="the quoted text is empty")
            else:
                lines = next(read)
                score = Score(accuracy(target, "".join(lines)), details={"recognised": lines})
            scores.append({self.metrics[0].name: score})
        return scores


def ocr_paddle(models: Path | None = None) -> OcrAccuracy:
    """Return OCR accuracy by PaddleOCR, with the channels in the order that its models expect."""
    return OcrAccuracy(
        PaddleOcr(models),
        "ocr-paddle",
        "ocr_accuracy_paddle",
        f"{_FORMULA} Published numbers use PaddleOCR 2.9.1 (English); 3.x reads with the same "
        "recogniser and another detector, and is comparable only with itself.",
        "Apache-2.0 (PaddleOCR, PP-OCR models)",
    )


def ocr_paddle_flow_grpo(models: Path | None = None) -> OcrAccuracy:
    """Return OCR accuracy by PaddleOCR as in the Flow-GRPO family's code, red and blue swapped."""
    return OcrAccuracy(
        PaddleOcr(models, channels="rgb"),
        "ocr-paddle-flow-grpo",
        "ocr_accuracy_paddle_flow_grpo",
        f"{_FORMULA} As Flow-GRPO's code: RGB arrays go to PaddleOCR, which takes them for BGR. "
        "To repeat published numbers, with PaddleOCR 2.9.1.",
        "Apache-2.0 (PaddleOCR, PP-OCR models)",
    )


def ocr_tesseract() -> OcrAccuracy:
    """Return OCR accuracy by Tesseract, an engine of another family."""
    return OcrAccuracy(
        Tesseract(),
        "ocr-tesseract",
        "ocr_accuracy_tesseract",
        f"{_FORMULA} Read by Tesseract (--psm 3, English); no paper's numbers.",
        "Apache-2.0 (Tesseract and its English data)",
    )

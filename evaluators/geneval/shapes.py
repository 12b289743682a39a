"""GenEval's rules over the embedded world's detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluators.geneval.record import UNSCORED, check_record, is_geneval
from evaluators.geneval.rules import Detection, judge
from evaluators.shapes.detector import detect
from evaluators.shapes.geometry import SHAPES
from evaluators.types import Evaluator, Metric, Sample, Score


class ShapesGenEval(Evaluator):
    """Whether the image is right by GenEval's rules over the embedded world's detector.

    Not comparable with GenEval on photographs: the rules are the same, the detector is not.
    """

    name = "shapes-geneval"
    metrics = (
        Metric(
            name="shapes_geneval",
            unit="share of images that are right",
            range=(0.0, 1.0),
            higher_is_better=True,
            version="rules 1, shapes detector 1",
            source="arXiv 2310.11513; djghosh13/geneval; detector of this project",
            description="GenEval's rules over classical detection of the embedded world's shapes; "
            "overall is the unweighted mean of the six tasks.",
            aggregate="task_mean",
        ),
    )

    def can_judge(self, prompt: str, metadata: Mapping[str, Any]) -> bool:
        return is_geneval(metadata)

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Score]]:
        return [{self.metrics[0].name: self._score(sample)} for sample in samples]

    def _score(self, sample: Sample) -> Score:
        if not is_geneval(sample.metadata):
            return UNSCORED
        check_record(sample, SHAPES)
        detections = detect(sample.image)
        verdict = judge(sample.metadata, detections)
        details: dict[str, Any] = {"detections": [_plain(d) for d in detections]}
        if not verdict.correct:
            details["reasons"] = list(verdict.reasons)
        return Score(float(verdict.correct), details=details)


def _plain(detection: Detection) -> dict[str, Any]:
    return {
        "label": detection.label,
        "color": detection.color,
        "score": round(detection.score, 4),
        "box": list(detection.box),
    }

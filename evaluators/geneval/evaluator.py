"""GenEval on photographs: a detector finds objects, CLIP names colours, the rules judge.

With another :class:`~evaluators.geneval.detectors.types.Detector`::

    def mine() -> GenEval:          # name this function in the entry point
        return GenEval(MyDetector())

Unless it says that it is comparable, its name is part of the evaluator's and the metrics' names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal

from evaluators.catalogue import CLIP_VIT_L_14
from evaluators.clip import tower
from evaluators.geneval import credit
from evaluators.geneval.colors import ColorClassifier, Cutout
from evaluators.geneval.credit import Finding
from evaluators.geneval.detectors.names import OBJECT_NAMES
from evaluators.geneval.detectors.types import Detector, Instance
from evaluators.geneval.record import UNSCORED, check_record, is_geneval
from evaluators.geneval.rules import Detection, Verdict, judge_kept, keep_as_official
from evaluators.types import Evaluator, EvaluatorError, Metric, Sample, Score
from evaluators.weights import Weights

#: Objects that count, by class, best first.
Kept = Mapping[str, Sequence[Instance]]
#: Colours of one image's objects, by the object's ``id``.
Colors = dict[int, str | None]

#: Images whose outlines are held at once: a detector returns a hundred per image.
_DETECT = 4

_SOFT_RANGE = (-14.0, 1.0)  # one object asked for, sixteen detected: 1 - 15/1


@dataclass(frozen=True)
class GenEvalProtocol:
    """One family's rules from detections to numbers."""

    #: the evaluator's name
    name: str
    #: the main metric's name; ``_strict`` and ``_soft`` stand behind it for the others
    metric: str
    #: of the rules
    version: str
    #: order of the channels given to the detector, which expects BGR
    channels: Literal["bgr", "rgb"]
    source: str
    aggregate: Literal["mean", "task_mean"]
    #: its part of the metrics' descriptions
    remark: str
    strict: Callable[[Mapping[str, Any], credit.Objects, Sequence[Finding]], bool]
    soft: Callable[[Sequence[Finding]], float]


OFFICIAL = GenEvalProtocol(
    name="geneval",
    metric="geneval",
    version="official rules 1",
    channels="bgr",
    source="arXiv 2310.11513; djghosh13/geneval",
    aggregate="task_mean",
    remark="Overall is the unweighted mean of the six tasks.",
    strict=credit.strict,
    soft=credit.soft,
)

FLOW_GRPO = GenEvalProtocol(
    name="geneval-flow-grpo",
    metric="geneval_flow_grpo",
    version="flow-grpo rules 1",
    channels="rgb",
    source="arXiv 2505.05470; yifan123/reward-server",
    aggregate="mean",
    remark="As the Flow-GRPO family computes it: the detector sees red and blue swapped, a wrong "
    "relation gets part of the credit, overall is the mean over images. Not comparable with "
    "official GenEval numbers.",
    strict=lambda _metadata, _objects, findings: credit.strict_flow_grpo(findings),
    soft=credit.soft_flow_grpo,
)


class GenEval(Evaluator):
    """Whether the image shows the objects of the prompt in their numbers, colours and places.

    ``classes`` are the detector's, ``embedding`` is the width of ``clip``. ``name`` tells apart
    evaluators of different backends. EvaluatorError if the detector's ``channels`` are not the
    protocol's.
    """

    shares = CLIP_VIT_L_14.name

    def __init__(
        self,
        detector: Detector,
        *,
        protocol: GenEvalProtocol = OFFICIAL,
        clip: Weights = CLIP_VIT_L_14,
        embedding: int = 768,
        classes: Collection[str] = OBJECT_NAMES,
        name: str | None = None,
    ) -> None:
        channels = getattr(detector, "channels", protocol.channels)
        if channels != protocol.channels:
            raise EvaluatorError(
                f"the protocol {protocol.name} hands its detector {protocol.channels.upper()}, "
                f"not {channels.upper()}: make the detector with channels={protocol.channels!r}"
            )
        self.detector, self.protocol, self.classes = detector, protocol, classes
        self.clip, self.embedding = clip, embedding
        self.weights = (*detector.weights, clip)
        own = "" if detector.comparable else f"-{_word(detector, '-')}"
        self.name = name or protocol.name + own
        self.metrics = _metrics(protocol, detector)
        self._classifier: ColorClassifier | None = None

    def check(self) -> None:
        self.detector.check()  # first: its package is a greater lack than a file
        super().check()

    def identity(self) -> dict[str, str]:
        return {**super().identity(), **self.detector.identity()}

    def can_judge(self, prompt: str, metadata: Mapping[str, Any]) -> bool:
        return is_geneval(metadata)

    def load(self, device: str = "cpu", dtype: str = "float32") -> None:
        self.detector.load(device, dtype)
        what = "GenEval's colour classifier CLIP ViT-L/14"
        clip = tower(self.clip, self.clip, device, dtype, what, self.embedding)
        self._classifier = ColorClassifier(clip)

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Score]]:
        """Raise EvaluatorError if a record is malformed or the detector breaks its contract."""
        todo = [sample for sample in samples if is_geneval(sample.metadata)]
        for sample in todo:
            check_record(sample, self.classes)
        kept = [
            objects
            for start in range(0, len(todo), _DETECT)
            for objects in self._detect(todo[start : start + _DETECT])
        ]
        colors = self._classify(todo, kept)
        judged = iter([self._judge(*of) for of in zip(todo, kept, colors, strict=True)])
        unscored = {metric.name: UNSCORED for metric in self.metrics}
        return [next(judged) if is_geneval(s.metadata) else dict(unscored) for s in samples]

    def _detect(self, samples: Sequence[Sample]) -> list[Kept]:
        """Return the objects that count, image by image."""
        detected = self.detector.detect([sample.image for sample in samples])
        if len(detected) != len(samples):
            raise EvaluatorError(
                f"the detector {self.detector.name} returned objects of {len(detected)} images for "
                f"{len(samples)}: report this to its author"
            )
        kept: list[Kept] = []
        for sample, objects in zip(samples, detected, strict=True):
            size = sample.image.shape[:2]
            for o in objects:
                if o.mask is not None and o.mask.shape != size:
                    raise EvaluatorError(
                        f"the detector {self.detector.name} gave a mask of {list(o.mask.shape)} "
                        f"for an image of {list(size)}: report this to its author"
                    )
            kept.append(keep_as_official(objects, sample.metadata["tag"]))
        return kept

    def _classify(self, samples: Sequence[Sample], kept: Sequence[Kept]) -> list[Colors]:
        """Return the colours that the rules will ask for, by sample, in one pass for all."""
        colors: list[Colors] = [{} for _ in samples]
        cutouts: dict[tuple[int, int], Cutout] = {}
        for index, (sample, objects) in enumerate(zip(samples, kept, strict=True)):
            for clause in sample.metadata["include"]:
                best = objects.get(clause["class"], ())[: clause["count"]]
                if "color" not in clause or len(best) < clause["count"]:
                    continue
                for o in best:
                    if o.color is not None:
                        colors[index][id(o)] = o.color
                    else:
                        cutouts[index, id(o)] = Cutout(sample.image, o.box, o.mask, o.label)
        if cutouts:
            assert self._classifier is not None, "load first"
            named = self._classifier.classify(list(cutouts.values()))
            for (index, key), color in zip(cutouts, named, strict=True):
                colors[index][key] = color
        return colors

    def _judge(self, sample: Sample, objects: Kept, colors: Colors) -> dict[str, Score]:
        def colors_of(some: Sequence[Detection], _label: str) -> list[str | None]:
            return [colors[id(o)] for o in some]

        verdict = judge_kept(sample.metadata, objects, colors_of)
        findings = credit.examine(sample.metadata, objects, colors_of)
        strict = self.protocol.strict(sample.metadata, objects, findings)
        main, exact, partial = (metric.name for metric in self.metrics)
        return {
            main: Score(float(verdict.correct), details=_details(verdict, objects, colors)),
            exact: Score(float(strict)),
            partial: Score(self.protocol.soft(findings)),
        }


def _details(verdict: Verdict, objects: Kept, colors: Colors) -> dict[str, Any]:
    """Return the reasons, and the objects above the threshold with the colours asked for."""
    detections: list[dict[str, Any]] = []
    for o in chain.from_iterable(objects.values()):
        box = [round(float(edge), 1) for edge in o.box]
        detections.append({"label": o.label, "score": round(float(o.score), 4), "box": box})
        if id(o) in colors:
            detections[-1]["color"] = colors[id(o)]
    details: dict[str, Any] = {"detections": detections}
    if not verdict.correct:
        details["reasons"] = list(verdict.reasons)
    return details


def _metrics(protocol: GenEvalProtocol, detector: Detector) -> tuple[Metric, ...]:
    stem, remark, source = protocol.metric, protocol.remark, protocol.source
    prepared = getattr(detector, "preprocessing", "mmdet3")
    seen_by = f"Mask2Former Swin-S handed {protocol.channels.upper()}, {prepared} preprocessing"
    if not detector.comparable:
        stem = f"{stem}_{_word(detector, '_')}"
        note = f"Objects found by {detector.name}: not comparable with published GenEval numbers."
        remark = f"{remark} {note}"
        source += f"; detector {detector.name}"
        seen_by = f"detector {detector.name}"
    main = Metric(
        name=stem,
        unit="share of images that are right",
        range=(0.0, 1.0),
        higher_is_better=True,
        version=f"{protocol.version}, {seen_by}, CLIP float32",
        source=source,
        description="At least the objects asked for, the best of them in the right colour and "
        f"place. {remark}",
        aggregate=protocol.aggregate,
        stratified=protocol.aggregate == "mean",  # GenEval's tasks and their sizes are fixed
        licence="MIT (GenEval's code); Apache-2.0 (Mask2Former); MIT (CLIP)"
        if detector.comparable
        else "MIT (GenEval's code and CLIP); the detector's own",
    )
    exact = "Exactly the objects asked for and no more, all in the right colour and place."
    soft = "Mean of partial credits for counts, colours and places; objects too many cost credit."
    return (
        main,
        replace(main, name=f"{stem}_strict", description=f"{exact} {remark}"),
        replace(
            main,
            name=f"{stem}_soft",
            unit="partial credit",
            range=_SOFT_RANGE,
            description=f"{soft} {remark}",
        ),
    )


def _word(detector: Detector, joint: str) -> str:
    """Return the detector's name as a part of other names."""
    return re.sub(r"[^0-9a-z]+", joint, detector.name.lower()).strip(joint)


def geneval() -> GenEval:
    """Return official GenEval with the official detector's weights in transformers.

    Pictures are prepared as by mmdet 2, for which the official script was written.
    """
    from evaluators.geneval.detectors.mask2former import Mask2FormerSwinS

    return GenEval(Mask2FormerSwinS("bgr", "mmdet2"))


def geneval_mmdet() -> GenEval:
    """Return official GenEval with the official detector in mmdet 3 itself.

    Its metrics have the names of ``geneval``'s; version and identity tell the backends apart.
    """
    from evaluators.geneval.detectors.mmdet_backend import MmdetDetector

    return GenEval(MmdetDetector(), name="geneval-mmdet")


def geneval_flow_grpo() -> GenEval:
    """Return GenEval as the Flow-GRPO family computes it: RGB to a detector made for BGR."""
    from evaluators.geneval.detectors.mask2former import Mask2FormerSwinS

    return GenEval(Mask2FormerSwinS("rgb", "mmdet2"), protocol=FLOW_GRPO)

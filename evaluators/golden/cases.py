"""The golden check: tiny weights, packaged pictures, recorded values.

That an evaluator gives the recorded values says that this machine's libraries load, preprocess and
compute as ours did; that those values are right is what the parity tests are for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evaluators import catalogue, registry
from evaluators.types import Evaluator, Metric, Sample

IMAGES = Path(__file__).parent / "images"
EXPECTED_FILE = Path(__file__).parent / "expected.json"
#: Of a metric's range: far above rounding, far below any mistake.
_TOLERANCE = 1e-4

#: Values by metric, one a sample; None where unscored.
Values = dict[str, list[float | None]]

_RED_CIRCLE: dict[str, Any] = {
    "tag": "color_attr",
    "include": [
        {"class": "circle", "count": 1, "color": "red"},
        {"class": "square", "count": 1, "color": "blue"},
    ],
}
#: What the tiny detector takes for beds, tennis rackets and ties, and the tiny CLIP for a colour.
_BED: dict[str, Any] = {"tag": "counting", "include": [{"class": "bed", "count": 4}]}
_RACKET: dict[str, Any] = {
    "tag": "position",
    "include": [
        {"class": "tennis racket", "count": 1},
        {"class": "donut", "count": 3, "position": ["left of", 0]},
    ],
}
_TIE: dict[str, Any] = {
    "tag": "colors",
    "include": [{"class": "tie", "count": 2, "color": "yellow"}],
}
_SAMPLES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("stripes.png", "a photo of a red bird", _BED),
    ("disc.png", "the ball on the mat, at night", _RACKET),
    ("shapes.png", "a red circle and a blue square", _RED_CIRCLE),
    ("sign.png", 'a sign that says "SOAR"', _TIE),
)


def samples(name: str) -> list[Sample]:
    """The packaged pictures with prompts, and the metadata that the evaluator of that name knows:
    the embedded world's detector has no classes but its own.
    """
    of_the_world = name.startswith("shapes-")
    return [
        Sample(
            np.asarray(Image.open(IMAGES / file).convert("RGB")),
            prompt,
            {} if of_the_world and metadata is not _RED_CIRCLE else metadata,
        )
        for file, prompt, metadata in _SAMPLES
    ]


def _clip(folder: Path) -> Any:
    from evaluators.golden.clip import write_clip

    write_clip(folder / "clip")
    return catalogue.CLIP_VIT_L_14.at(folder / "clip")


def _pickscore(folder: Path) -> Evaluator:
    from evaluators.golden.clip import EMBEDDING, write_clip
    from evaluators.pickscore import PickScore

    write_clip(folder, activation="gelu")
    weights, tokenizer = catalogue.PICKSCORE.at(folder), catalogue.CLIP_TOKENIZER.at(folder)
    return PickScore(weights, tokenizer, embedding=EMBEDDING)


def _clipscore(name: str) -> Callable[[Path], Evaluator]:
    def make(folder: Path) -> Evaluator:
        from evaluators.clipscore import ClipScore
        from evaluators.golden.clip import EMBEDDING

        return ClipScore(name, _clip(folder), embedding=EMBEDDING)

    return make


def _aesthetic(folder: Path) -> Evaluator:
    from evaluators.aesthetic import Aesthetic
    from evaluators.golden.clip import EMBEDDING, write_aesthetic_head

    write_aesthetic_head(folder / "head")
    head = catalogue.AESTHETIC.at(folder / "head")
    return Aesthetic(head, _clip(folder), embedding=EMBEDDING)


def _hps(name: str) -> Callable[[Path], Evaluator]:
    def make(folder: Path) -> Evaluator:
        from evaluators.golden.clip import ARCHITECTURE, write_hps, write_tokenizer
        from evaluators.hpsv2 import HpsV21

        write_hps(folder)
        write_tokenizer(folder)
        return HpsV21(
            name,
            catalogue.HPS_V2_1.at(folder),
            catalogue.CLIP_TOKENIZER.at(folder),
            architecture=ARCHITECTURE,
        )

    return make


def _hps_package(folder: Path) -> Evaluator:
    from evaluators.clip import Tokenizer
    from evaluators.golden.clip import ARCHITECTURE, write_hps, write_tokenizer
    from evaluators.hpsv2_package import HpsV21Package

    write_hps(folder)
    write_tokenizer(folder)
    weights = catalogue.HPS_V2_1.at(folder)

    def tokenize(texts: list[str]) -> Any:  # its own has the official vocabulary only
        words = Tokenizer(folder, ARCHITECTURE.vocabulary)
        return words(texts, ARCHITECTURE.text_length)

    return HpsV21Package(weights, architecture=ARCHITECTURE, tokenize=tokenize)


def _image_reward(folder: Path) -> Evaluator:
    from evaluators.golden.imagereward import ARCHITECTURE, write_image_reward
    from evaluators.imagereward.evaluator import ImageReward

    write_image_reward(folder)
    weights, words = catalogue.IMAGE_REWARD.at(folder), catalogue.BERT_TOKENIZER.at(folder)
    return ImageReward(weights, words, ARCHITECTURE)


def _detector(folder: Path) -> Any:
    from evaluators.golden.geneval import write_mask2former

    write_mask2former(folder / "detector")
    return catalogue.MASK2FORMER.at(folder / "detector")


def _geneval(folder: Path) -> Evaluator:
    from evaluators.geneval.detectors.architecture import TINY as SMALL
    from evaluators.geneval.detectors.mask2former import Mask2FormerSwinS
    from evaluators.geneval.evaluator import GenEval
    from evaluators.golden.clip import EMBEDDING

    detector = Mask2FormerSwinS("bgr", "mmdet2", _detector(folder), SMALL)
    return GenEval(detector, clip=_clip(folder), embedding=EMBEDDING, classes=_classes())


def _geneval_flow_grpo(folder: Path) -> Evaluator:
    from evaluators.geneval.detectors.architecture import TINY as SMALL
    from evaluators.geneval.detectors.mask2former import Mask2FormerSwinS
    from evaluators.geneval.evaluator import FLOW_GRPO, GenEval
    from evaluators.golden.clip import EMBEDDING

    detector = Mask2FormerSwinS("rgb", "mmdet2", _detector(folder), SMALL)
    return GenEval(
        detector,
        protocol=FLOW_GRPO,
        clip=_clip(folder),
        embedding=EMBEDDING,
        classes=_classes(),
    )


def _classes() -> tuple[str, ...]:
    from evaluators.geneval.detectors.names import OBJECT_NAMES

    return (*OBJECT_NAMES, "circle", "square")


def _as_it_is(name: str) -> Callable[[Path], Evaluator]:
    """An evaluator whose weights, if it has any, come with its package."""
    return lambda _folder: registry.create(name)


#: By evaluator: one over tiny weights that it writes into the folder. Making one loads nothing.
TINY: Mapping[str, Callable[[Path], Evaluator]] = {
    "geneval": _geneval,
    "geneval-flow-grpo": _geneval_flow_grpo,
    "pickscore": _pickscore,
    "hpsv21": _hps("hpsv21"),
    "hpsv21-no-antialias": _hps("hpsv21-no-antialias"),
    "hpsv21-package": _hps_package,
    "image-reward": _image_reward,
    "aesthetic": _aesthetic,
    "clipscore": _clipscore("clipscore"),
    "clipscore-no-antialias": _clipscore("clipscore-no-antialias"),
    "clipscore-processor": _clipscore("clipscore-processor"),
    **{
        name: _as_it_is(name)
        for name in (
            "ocr",
            "ocr-paddle",
            "ocr-paddle-flow-grpo",
            "ocr-tesseract",
            "shapes-geneval",
            "shapes-clipscore",
        )
    },
}


def measure(evaluator: Evaluator, device: str = "cpu") -> Values:
    """The values of one of :data:`TINY` on the packaged pictures."""
    evaluator.load(device)
    scores = evaluator.score(samples(evaluator.name))
    return {m.name: [one[m.name].value for one in scores] for m in evaluator.metrics}


def expected() -> dict[str, Values]:
    """The recorded values by evaluator."""
    return json.loads(EXPECTED_FILE.read_text("utf-8"))


def difference(metrics: tuple[Metric, ...], found: Values, recorded: Values) -> str:
    """What differs from the recorded values, as a clause; empty if nothing does."""
    for metric in metrics:
        allowed = _TOLERANCE * (metric.range[1] - metric.range[0])
        pairs = zip(found[metric.name], recorded.get(metric.name, []), strict=True)
        for (file, _, _), (value, wanted) in zip(_SAMPLES, pairs, strict=True):
            same = value is None and wanted is None
            if value is not None and wanted is not None:
                same = abs(value - wanted) <= allowed
            if not same:
                return f"{metric.name} of {file} is {_shown(value)}, not {_shown(wanted)}"
    return ""


def _shown(value: float | None) -> str:
    return "unscored" if value is None else f"{value:.6g}"

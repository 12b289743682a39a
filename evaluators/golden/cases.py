"""The golden check: tiny weights, packaged pictures, recorded values.

An evaluator that gives the recorded values shows that this machine's libraries load, preprocess and
compute as ours did. The parity tests show that the values are right.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from evaluators import catalogue, registry
from evaluators.aesthetic import Aesthetic
from evaluators.clip import Tokenizer
from evaluators.clipscore import ClipScore
from evaluators.dpg import DpgBench
from evaluators.geneval.detectors.mask2former import Mask2FormerSwinS
from evaluators.geneval.detectors.mmdet_backend import MmdetDetector
from evaluators.geneval.detectors.names import OBJECT_NAMES
from evaluators.geneval.detectors.types import Detector
from evaluators.geneval.evaluator import FLOW_GRPO, OFFICIAL, GenEval, GenEvalProtocol
from evaluators.geneval.vlm import GenEvalVlm
from evaluators.geneval2 import GenEval2
from evaluators.golden import blip_vqa, geneval, imagereward
from evaluators.golden import clip as tiny
from evaluators.golden import sets as tiny_sets
from evaluators.golden import unified_reward as tiny_reward
from evaluators.golden import vlm as tiny_vlm
from evaluators.golden.paddle import write_paddle
from evaluators.hpsv2 import HpsV21
from evaluators.hpsv2_package import HpsV21Package
from evaluators.hpsv3 import HpsV3
from evaluators.imagereward.evaluator import ImageReward
from evaluators.ocr.evaluator import OcrAccuracy, ocr_paddle, ocr_paddle_flow_grpo
from evaluators.ocr.paddle import ModelsMissing, PaddleOcr
from evaluators.openclip_package import OpenClipScore
from evaluators.pickscore import PickScore
from evaluators.sets.diversity import ClipDiversity, DinoDiversity
from evaluators.sets.lpips import LpipsDiversity
from evaluators.types import Evaluator, EvaluatorError, Metric, Sample, SetEvaluator
from evaluators.unified_reward import FORMS, UnifiedReward
from evaluators.vlm.evaluator import VlmEvaluator
from evaluators.vqascore import VqaScore
from evaluators.weights import Weights
from soar_bench.core.images import read_pixels
from soar_bench.core.packages import installed

IMAGES = Path(__file__).parent / "images"
EXPECTED_FILE = Path(__file__).parent / "expected.json"
#: Share of a metric's range: far above rounding, far below any mistake.
_TOLERANCE = 1e-4

#: Values by metric, one per sample; None where unscored.
Values = dict[str, list[float | None]]


def _task(tag: str, *clauses: dict[str, Any]) -> dict[str, Any]:
    """Return a record of GenEval, with what the other judges of questions read beside it."""
    name = str(clauses[0]["class"])
    asked = [[f"Is there a {name} in the image?", "Yes"], [f"How many {name}s are there?", "two"]]
    questions = [
        {"id": 1, "question": asked[0][0], "parents": [0], "category": "entity - whole"},
        {
            "id": 2,
            "question": f"Is the {name} red?",
            "parents": [1],
            "category": "attribute - color",
        },
    ]
    record = {"tag": tag, "include": list(clauses), "questions": questions}
    record["phrases"] = [f"a red {name}", "the mat"]
    return {**record, "vqa_list": asked, "skills": ["object", "count"]}


_RED_CIRCLE = _task(
    "color_attr",
    {"class": "circle", "count": 1, "color": "red"},
    {"class": "square", "count": 1, "color": "blue"},
)
#: Records of objects that the tiny detector finds, and a colour that the tiny CLIP sees.
_BED = _task("counting", {"class": "bed", "count": 4})
_RACKET = _task(
    "position",
    {"class": "tennis racket", "count": 1},
    {"class": "donut", "count": 3, "position": ["left of", 0]},
)
_TIE = _task("colors", {"class": "tie", "count": 2, "color": "yellow"})
_SAMPLES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("stripes.png", "a photo of a red bird", _BED),
    ("disc.png", "the ball on the mat, at night", _RACKET),
    ("shapes.png", "a red circle and a blue square", _RED_CIRCLE),
    ("sign.png", 'a sign that says "SOAR"', _TIE),
)


def samples(name: str) -> list[Sample]:
    """Return the packaged pictures with prompts, and the metadata that an evaluator can read.

    The embedded world's detector knows its own classes alone; the sign, which is read in colourless
    letters, does not tell PaddleOCR's orders of channels apart, so all pictures are read.
    """
    of_the_world, reads_all = name.startswith("shapes-"), name.startswith("ocr-paddle")
    return [
        Sample(
            read_pixels(IMAGES / file)[0],
            _SAMPLES[-1][1] if reads_all else prompt,
            {} if of_the_world and metadata is not _RED_CIRCLE else metadata,
        )
        for file, prompt, metadata in _SAMPLES
    ]


def _clip(folder: Path) -> Weights:
    tiny.write_clip(folder)
    return catalogue.CLIP_VIT_L_14.at(folder)


def _pickscore(folder: Path) -> Evaluator:
    tiny.write_clip(folder, activation="gelu")
    weights, tokenizer = catalogue.PICKSCORE.at(folder), catalogue.CLIP_TOKENIZER.at(folder)
    return PickScore(weights, tokenizer, embedding=tiny.EMBEDDING)


def _clipscore(name: str, folder: Path) -> Evaluator:
    return ClipScore(name, _clip(folder), embedding=tiny.EMBEDDING)


def _aesthetic(folder: Path) -> Evaluator:
    tiny.write_aesthetic_head(folder / "head")
    head = catalogue.AESTHETIC.at(folder / "head")
    return Aesthetic(head, _clip(folder / "clip"), embedding=tiny.EMBEDDING)


def _hps(name: str, folder: Path) -> Evaluator:
    tiny.write_hps(folder)
    tiny.write_tokenizer(folder)
    weights, tokenizer = catalogue.HPS_V2_1.at(folder), catalogue.CLIP_TOKENIZER.at(folder)
    return HpsV21(name, weights, tokenizer, architecture=tiny.ARCHITECTURE)


def _hps_package(folder: Path) -> Evaluator:
    tiny.write_hps(folder)
    tiny.write_tokenizer(folder)

    def tokenize(texts: list[str]) -> Any:  # its own has the official vocabulary only
        words = Tokenizer(folder, tiny.ARCHITECTURE.vocabulary)
        return words(texts, tiny.ARCHITECTURE.text_length)

    weights = catalogue.HPS_V2_1.at(folder)
    return HpsV21Package(weights, architecture=tiny.ARCHITECTURE, tokenize=tokenize)


def _open_clip(folder: Path) -> Evaluator:
    tiny.write_open_clip(folder / "tiny")  # the metric's name has it
    return OpenClipScore(f"local-dir:{folder / 'tiny'}")


def _image_reward(folder: Path) -> Evaluator:
    imagereward.write_image_reward(folder)
    weights, words = catalogue.IMAGE_REWARD.at(folder), catalogue.BERT_TOKENIZER.at(folder)
    return ImageReward(weights, words, imagereward.ARCHITECTURE)


def _geneval(protocol: GenEvalProtocol, folder: Path) -> Evaluator:
    weights = _detector(folder)
    detector = Mask2FormerSwinS(protocol.channels, "mmdet2", weights, geneval.TINY)
    return geneval_of(detector, folder, protocol)


def _geneval_mmdet(folder: Path) -> Evaluator:
    detector = MmdetDetector(OFFICIAL.channels, _detector(folder), geneval.TINY)
    return geneval_of(detector, folder, name="geneval-mmdet")


def _detector(folder: Path) -> Weights:
    geneval.write_mask2former(folder / "detector")
    return catalogue.MASK2FORMER.at(folder / "detector")


def geneval_of(
    detector: Detector, folder: Path, protocol: GenEvalProtocol = OFFICIAL, name: str | None = None
) -> GenEval:
    """Return GenEval over a detector and a tiny CLIP, which is written into ``folder``."""
    return GenEval(
        detector,
        protocol=protocol,
        clip=_clip(folder / "clip"),
        embedding=tiny.EMBEDDING,
        classes=(*OBJECT_NAMES, "circle", "square"),
        name=name,
    )


def _diversity_clip(folder: Path) -> Evaluator:
    return ClipDiversity(_clip(folder), embedding=tiny.EMBEDDING)


def _diversity_dinov2(folder: Path) -> Evaluator:
    tiny_sets.write_dinov2(folder)
    return DinoDiversity(catalogue.DINOV2.at(folder))


def _diversity_lpips(folder: Path) -> Evaluator:
    tiny_sets.write_lpips(folder)
    return LpipsDiversity(catalogue.ALEXNET.at(folder), catalogue.LPIPS_HEADS.at(folder))


def _vlm(kind: type[VlmEvaluator], folder: Path) -> Evaluator:
    return kind(tiny_vlm.weights(folder, catalogue.QWEN3_VL_8B), canary=False)


def _hpsv3(folder: Path) -> Evaluator:
    tiny_vlm.write_hpsv3(folder)
    weights, form = catalogue.HPS_V3.at(folder), catalogue.QWEN2_VL_7B_FORM.at(folder)
    return HpsV3(weights, form, canary=False, instruction=tiny_vlm.INSTRUCTION)


def _unified_reward(version: str, folder: Path) -> Evaluator:
    tiny_reward.write_scripts(folder)
    scripts, writer = catalogue.UNIFIED_REWARD_QUESTIONS.at(folder), tiny_reward.Writer
    return UnifiedReward(FORMS[version], scripts, endpoint=lambda: writer(FORMS[version]))


def _paddle(make: Callable[[Path], OcrAccuracy], folder: Path) -> Evaluator:
    evaluator = make(folder)
    with suppress(EvaluatorError):  # without its packages, check() says what to install
        try:
            evaluator.check()
        except ModelsMissing:
            if (installed("paddleocr") or "").startswith("3."):  # other versions read other files
                write_paddle(*PaddleOcr(folder).folders())
    return evaluator


def _as_it_is(name: str, _folder: Path) -> Evaluator:
    """Return an evaluator whose weights, if it has any, come with its package."""
    return registry.create(name)


#: Evaluators without weights, or with those of their packages.
_AS_THEY_ARE = tuple(
    name
    for name in registry.BUILT_IN
    if name.startswith(("shapes-", "picture-", "near-")) or name in ("ocr", "ocr-tesseract")
)
#: Function per evaluator that writes tiny weights into a folder and returns the evaluator over
#: them, not loaded.
TINY: Mapping[str, Callable[[Path], Evaluator]] = {
    **{protocol.name: partial(_geneval, protocol) for protocol in (OFFICIAL, FLOW_GRPO)},
    "geneval-mmdet": _geneval_mmdet,
    "pickscore": _pickscore,
    **{name: partial(_hps, name) for name in ("hpsv21", "hpsv21-no-antialias")},
    "hpsv21-package": _hps_package,
    "openclip": _open_clip,
    "image-reward": _image_reward,
    "blip-vqa": blip_vqa.write_blip_vqa,
    "aesthetic": _aesthetic,
    **{
        name: partial(_clipscore, name)
        for name in ("clipscore", "clipscore-no-antialias", "clipscore-processor")
    },
    **{kind.name: partial(_vlm, kind) for kind in (GenEval2, VqaScore, DpgBench, GenEvalVlm)},
    "hpsv3": _hpsv3,
    **{f"unified-reward-{version}": partial(_unified_reward, version) for version in FORMS},
    "diversity-clip": _diversity_clip,
    "diversity-dinov2": _diversity_dinov2,
    "diversity-lpips": _diversity_lpips,
    **tiny_sets.REFERENCED,
    "ocr-paddle": partial(_paddle, ocr_paddle),
    "ocr-paddle-flow-grpo": partial(_paddle, ocr_paddle_flow_grpo),
    **{name: partial(_as_it_is, name) for name in _AS_THEY_ARE},
}


@contextmanager
def tiny_evaluator(name: str) -> Iterator[Evaluator]:
    """Make one of :data:`TINY` in a folder that is removed, with all that is remembered of it."""
    with tempfile.TemporaryDirectory() as folder:
        own = {} if name in _AS_THEY_ARE else {"SOAR_BENCH_HOME": str(Path(folder, "home"))}
        with patch.dict(os.environ, own):
            yield TINY[name](Path(folder))


def measure(evaluator: Evaluator, device: str = "cpu") -> Values:
    """Return the values of one of :data:`TINY` on the packaged pictures."""
    evaluator.load(device)
    pictures = samples(evaluator.name)
    if isinstance(evaluator, SetEvaluator):  # of one prompt and size, so that they are one set
        images = [np.resize(sample.image, (64, 64, 3)) for sample in pictures]
        if evaluator.together == "run":  # which needs more; every value depends on all
            images += [255 - image[::-1] for image in images]
        pictures = [Sample(image, "a picture") for image in images]
    scores = evaluator.score(pictures)[: len(_SAMPLES)]
    return {m.name: [of_sample[m.name].value for of_sample in scores] for m in evaluator.metrics}


def expected() -> dict[str, Values]:
    """Return the recorded values by evaluator."""
    return json.loads(EXPECTED_FILE.read_text("utf-8"))


def difference(metrics: tuple[Metric, ...], values: Values, recorded: Values) -> str:
    """Return the first difference from the recorded values, as a clause; empty if there is none."""
    for metric in metrics:
        pairs = zip(values[metric.name], recorded.get(metric.name, []), strict=True)
        for (file, _, _), (value, expected) in zip(_SAMPLES, pairs, strict=True):
            same = value is None and expected is None
            if value is not None and expected is not None:
                span = metric.range[1] - metric.range[0]
                allowed = _TOLERANCE * (span if isfinite(span) else max(1.0, abs(expected)))
                same = abs(value - expected) <= allowed
            if not same:
                return f"{metric.name} of {file} is {_shown(value)}, not {_shown(expected)}"
    return ""


def _shown(value: float | None) -> str:
    return "unscored" if value is None else f"{value:.6g}"

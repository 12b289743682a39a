"""The evaluators on CLIP over tiny weights."""

from __future__ import annotations

from pathlib import Path

from evaluators import catalogue
from evaluators.aesthetic import Aesthetic
from evaluators.clipscore import ClipScore
from evaluators.golden import clip as tiny
from evaluators.hpsv2 import HpsV21
from evaluators.pickscore import PickScore

PROMPTS = ("a red bird on the mat", "", "the mat " * 60, "“Stop” &amp; naïve: 7 + 1")
SIZES = ((64, 64), (50, 81), (32, 32), (91, 60))
ARCHITECTURE = tiny.ARCHITECTURE


def pickscore(folder: Path) -> PickScore:
    return PickScore(
        catalogue.PICKSCORE.at(folder / "pickscore"),
        catalogue.CLIP_TOKENIZER.at(folder / "pickscore"),
        embedding=tiny.EMBEDDING,
    )


def clipscore(folder: Path, name: str = "clipscore") -> ClipScore:
    weights = catalogue.CLIP_VIT_L_14.at(folder / "clip")
    return ClipScore(name, weights, embedding=tiny.EMBEDDING)


def aesthetic(folder: Path) -> Aesthetic:
    head = catalogue.AESTHETIC.at(folder / "aesthetic")
    return Aesthetic(head, catalogue.CLIP_VIT_L_14.at(folder / "clip"), embedding=tiny.EMBEDDING)


def hps(folder: Path, name: str = "hpsv21") -> HpsV21:
    return HpsV21(
        name,
        catalogue.HPS_V2_1.at(folder / "hps"),
        catalogue.CLIP_TOKENIZER.at(folder / "clip"),
        architecture=ARCHITECTURE,
    )


def values(evaluator, samples) -> list[float]:
    evaluator.load()
    (metric,) = evaluator.metrics
    return [scores[metric.name].value for scores in evaluator.score(samples)]

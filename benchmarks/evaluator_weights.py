"""The evaluators over stand-ins for their weights, tiny or of the official sizes.

Values are made by a formula and written in the published file layouts; speed does not depend on
them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from evaluators import catalogue
from evaluators.golden import clip as tiny
from evaluators.golden.fill import fill
from evaluators.types import Evaluator, Sample

#: Side of the pictures, in pixels.
SIZE = 512
#: As in the suites of papers.
_PER_PROMPT = 4
#: values of a large matrix that are drawn
_DRAWN = 99991


@dataclass(frozen=True)
class Scale:
    """Sizes of the stand-ins."""

    clip_l: tiny.Architecture
    clip_h: tiny.Architecture
    image_reward: dict[str, int]


_WORDS = len(tiny.vocabulary())
_SMALL = tiny.Architecture(
    embedding=256, vision_width=256, vision_layers=4, vision_heads=4,
    text_width=128, text_layers=4, text_heads=4, vocabulary=_WORDS,
)  # fmt: skip
SCALES = {
    "small": Scale(
        clip_l=_SMALL,
        clip_h=replace(_SMALL, vision_width=320, vision_layers=6),
        image_reward={
            "vision_width": 256, "vision_layers": 4, "vision_heads": 4,
            "text_width": 192, "text_layers": 4, "text_heads": 4,
        },
    ),
    "official": Scale(
        clip_l=tiny.Architecture(
            embedding=768, vision_width=1024, vision_layers=24,
            text_width=768, text_layers=12, text_heads=12, vocabulary=_WORDS,
        ),
        clip_h=tiny.Architecture(vocabulary=_WORDS),
        image_reward={},
    ),
}  # fmt: skip


def repeated(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return what ``fill`` does, with few values again and again where there are many."""
    if math.prod(shape) <= _DRAWN:
        return fill(name, shape)
    noise = np.resize(fill(name, (_DRAWN, 1)), shape)
    noise /= np.float32(math.sqrt(math.prod(shape[1:])))
    return noise


class Bench:
    """Weights in a folder, and evaluators over them."""

    def __init__(self, folder: Path, scale: Scale, device: str) -> None:
        self.folder, self.scale, self.device = folder, scale, device

    @property
    def image_size(self) -> int:
        return int(self._image_reward().image_size)

    def write(self) -> None:
        from evaluators.golden.imagereward import write_image_reward

        # Billions of values drawn one by one would take minutes.
        with (
            mock.patch("evaluators.golden.clip.fill", repeated),
            mock.patch("evaluators.golden.imagereward.fill", repeated),
        ):
            tiny.write_clip(self.folder / "clip", architecture=self.scale.clip_l)
            tiny.write_clip(self.folder / "pickscore", "gelu", self.scale.clip_h)
            tiny.write_hps(self.folder / "hps", self.scale.clip_h)
            tiny.write_aesthetic_head(self.folder / "head", self.scale.clip_l.embedding)
            write_image_reward(self.folder / "image-reward", self._image_reward())

    def _image_reward(self) -> Any:
        from evaluators.golden.imagereward import VOCABULARY_SIZE
        from evaluators.imagereward.layout import Architecture

        return Architecture(**self.scale.image_reward, vocabulary=VOCABULARY_SIZE)

    def evaluator(self, name: str) -> Evaluator:
        from evaluators.aesthetic import Aesthetic
        from evaluators.clipscore import ClipScore
        from evaluators.hpsv2 import HpsV21
        from evaluators.imagereward.evaluator import ImageReward
        from evaluators.pickscore import PickScore

        clip = catalogue.CLIP_VIT_L_14.at(self.folder / "clip")
        words = catalogue.CLIP_TOKENIZER.at(self.folder / "clip")
        width = self.scale.clip_l.embedding
        if name.startswith("clipscore"):
            return ClipScore(name, clip, embedding=width)
        if name == "aesthetic":
            return Aesthetic(catalogue.AESTHETIC.at(self.folder / "head"), clip, embedding=width)
        if name == "pickscore":
            weights = catalogue.PICKSCORE.at(self.folder / "pickscore")
            return PickScore(weights, words, embedding=self.scale.clip_h.embedding)
        if name == "hpsv21":
            weights = catalogue.HPS_V2_1.at(self.folder / "hps")
            return HpsV21(name, weights, words, architecture=self.scale.clip_h)
        weights = catalogue.IMAGE_REWARD.at(self.folder / "image-reward")
        vocabulary = catalogue.BERT_TOKENIZER.at(self.folder / "image-reward")
        return ImageReward(weights, vocabulary, self._image_reward())

    def samples(self, count: int) -> list[Sample]:
        random = np.random.default_rng(0)
        return [
            Sample(
                random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8),
                f"a photo of a red bird on the mat, number {index // _PER_PROMPT}",
            )
            for index in range(count)
        ]


def values(evaluator: Evaluator, samples: Sequence[Sample]) -> list[float]:
    (metric,) = evaluator.metrics
    return [float(s[metric.name].value or 0) for s in evaluator.score(samples)]

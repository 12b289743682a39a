"""BLIP-VQA of T2I-CompBench: the probability of yes to every noun phrase of the prompt, multiplied.

Source: arXiv 2307.06350; Karine-Huang/T2I-CompBench, ``BLIPvqa_eval``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluators import catalogue
from evaluators.blip_vqa.model import OFFICIAL, Architecture
from evaluators.blip_vqa.phrases import FILE, phrases_of
from evaluators.clip import at_once
from evaluators.images import stack, stretched_view
from evaluators.types import Evaluator, Metric, Sample, Score
from evaluators.vlm import canary
from evaluators.weights import Weights
from soar_bench.core.digests import file_digest

if TYPE_CHECKING:
    from evaluators.blip_vqa.model import Model
    from evaluators.imagereward.tokenizer import Tokenizer

#: Words of a question that are asked, as in BLIP's own data.
_WORDS = 50


def question(phrase: str) -> str:
    """Return a phrase as BLIP is asked about it."""
    text = re.sub(r'[.!"()*#:;~]', "", f"{phrase}?".lower()).rstrip(" ")
    return " ".join(text.split(" ")[:_WORDS])


class BlipVqa(Evaluator):
    """Product over a prompt's noun phrases of the probability of yes against no."""

    name = "blip-vqa"
    metrics = (
        Metric(
            name="blip_vqa",
            unit="probability",
            range=(0.0, 1.0),
            higher_is_better=True,
            version="1",
            source="arXiv 2307.06350; Karine-Huang/T2I-CompBench, BLIPvqa_eval",
            description="Product over the prompt's noun phrases of BLIP's probability of yes "
            "against no to each of them.",
            aggregate="task_mean",
            licence=f"{catalogue.BLIP_VQA.licence}; the phrases' places: MIT (T2I-CompBench)",
        ),
    )
    dtypes = ("float32", "bfloat16")

    def __init__(
        self,
        weights: Weights = catalogue.BLIP_VQA,
        tokenizer: Weights = catalogue.BERT_TOKENIZER,
        architecture: Architecture = OFFICIAL,
        *,
        canary: bool = True,
    ) -> None:
        """``canary=False`` is for models that were never trained, as in tests."""
        self.weights, self._architecture, self._canary = (weights, tokenizer), architecture, canary

    def identity(self) -> dict[str, str]:
        return {**super().identity(), "noun phrases": file_digest(FILE)}

    def load(self, device: str = "cpu", dtype: str = "float32") -> None:
        from evaluators.blip_vqa import model
        from evaluators.imagereward.tokenizer import Tokenizer

        self.check()
        self._batch = at_once(device)
        weights, words = self.weights
        self._tokenizer: Tokenizer = Tokenizer(
            words.file("vocab.txt"), self._architecture.vocabulary
        )
        file = weights.file(weights.files[0].path)
        self._model: Model = model.load(file, self._architecture, device, dtype)
        if self._canary:
            self.examine()

    def examine(self) -> None:
        """Raise EvaluatorError unless each of the canary's pictures suits its own prompt better."""
        phrases = [p for phrase in (canary.RIGHT, canary.WRONG) for p in [[phrase]] * 2]
        pictures = [sample.image for sample in canary.pairs()]
        values = [math.prod(own) for own in self.probabilities(pictures, phrases)]
        canary.require_own_prompts(self.name, values)

    def can_judge(self, prompt: str, metadata: Mapping[str, Any]) -> bool:
        return bool(phrases_of(prompt, metadata))

    def probabilities(
        self, images: Sequence[np.ndarray], phrases: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Return the probability of each of an image's phrases, in order."""
        values: list[list[float]] = [[] for _ in images]
        size, batch = self._architecture.image_size, self._batch
        yes, no = self._tokenizer.numbers(["yes", "no"])
        asking = [i for i, own in enumerate(phrases) if own]
        for start in range(0, len(asking), batch):
            places = asking[start : start + batch]
            rows = self._model.see(stack([images[i] for i in places], stretched_view(), size))
            asked = [(row, phrase) for row, i in enumerate(places) for phrase in phrases[i]]
            tokens = self._tokenizer([question(phrase) for _, phrase in asked])
            tokens.ids[:, 0] = self._architecture.vocabulary - 1  # [ENC]
            answers = [0.0] * len(asked)
            # of one length together: no padding, which not every version of the class masks
            lengths = tokens.mask.sum(1).tolist()
            for length in sorted(set(lengths)):
                of_length = [i for i, own in enumerate(lengths) if own == length]
                for first in range(0, len(of_length), batch):
                    part = of_length[first : first + batch]
                    pictures = rows[[asked[i][0] for i in part]]
                    yeses = self._model.yes(pictures, tokens.ids[part, :length], yes, no)
                    for i, value in zip(part, yeses, strict=True):
                        answers[i] = value
            for (row, _), value in zip(asked, answers, strict=True):
                values[places[row]].append(value)
        return values

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Score]]:
        phrases = [phrases_of(sample.prompt, sample.metadata) for sample in samples]
        values = self.probabilities([sample.image for sample in samples], phrases)
        return [
            {"blip_vqa": _score(own, of_own)} for own, of_own in zip(phrases, values, strict=True)
        ]


def _score(phrases: Sequence[str], values: Sequence[float]) -> Score:
    if not phrases:
        return Score(None, "the prompt has no noun phrases (phrases in its metadata)")
    shown = [
        {"phrase": phrase, "yes": round(value, 4)}
        for phrase, value in zip(phrases, values, strict=True)
    ]
    return Score(math.prod(values), details={"phrases": shown})

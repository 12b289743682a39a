"""Base class of evaluators that ask a Qwen-VL model questions; those of one model share it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np

from evaluators import catalogue
from evaluators.types import Evaluator
from evaluators.vlm import canary
from evaluators.vlm.question import Question
from evaluators.weights import Weights

if TYPE_CHECKING:
    from evaluators.vlm.judge import Judge

_judges: WeakValueDictionary[tuple[str, str, str], Judge] = WeakValueDictionary()

YES = ("Yes", "yes", " yes", " Yes")
NO = ("No", "no", " no", " No")


def judge_of(weights: Weights, device: str, dtype: str) -> Judge:
    """Return the model of these weights, which is loaded once for all that hold it."""
    from evaluators.vlm.judge import Judge

    key = (weights.digest(), device, dtype)
    judge = _judges.get(key)
    if judge is None:
        judge = _judges[key] = Judge.read(weights, device, dtype)
    return judge


class VlmEvaluator(Evaluator):
    """Base class: a judge that must see a red circle before it is asked anything else."""

    dtypes = ("float32", "bfloat16")
    shares = "qwen3-vl-8b"

    def __init__(self, judge: Weights = catalogue.QWEN3_VL_8B, *, canary: bool = True) -> None:
        """``canary=False`` is for models that were never trained, as in tests."""
        self.weights = (judge,)
        self._canary = canary

    def load(self, device: str = "cpu", dtype: str = "float32") -> None:
        self.check()
        self._judge = judge_of(self.weights[0], device, dtype)
        if self._canary:
            self.examine()

    def examine(self) -> None:
        """Raise EvaluatorError unless the judge tells the canary's pictures apart."""
        question = f"Is there {canary.RIGHT} in the image? Answer yes or no."
        pictures = (canary.circle(), canary.square())
        yes, no = self.yes_and_no([Question(picture, question) for picture in pictures])
        right, wrong = (yes - no).tolist()
        canary.require(
            self.name,
            [
                canary.Answer(f"yes against no for {canary.RIGHT}", right, 0.0),
                canary.Answer(f"no against yes for {canary.WRONG}", -wrong, 0.0),
            ],
        )

    def first_ids(self, spellings: Sequence[str]) -> list[int]:
        """Return the id of the first token of each spelling, in order and with twins."""
        return [self._judge.ids(spelling)[0] for spelling in spellings]

    def yes_and_no(self, questions: Sequence[Question]) -> tuple[np.ndarray, np.ndarray]:
        """Return the probabilities of yes and of no as the first token, in any spelling, [B]."""
        rows = self._judge.first_token(questions)
        yes, no = (sorted(set(self.first_ids(spellings))) for spellings in (YES, NO))
        return rows[:, yes].sum(1, np.float64), rows[:, no].sum(1, np.float64)

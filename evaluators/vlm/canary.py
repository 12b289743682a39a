"""Pictures that a judge must answer right before it is believed.

A judge whose vision tower is broken, or whose library reads its weights otherwise, still answers
every question, and its scores look like scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from evaluators.types import EvaluatorError, Sample

RIGHT, WRONG = "a red circle", "a blue square"
_SIDE = 448


def circle() -> np.ndarray:
    """Return a red circle on white: uint8 RGB [448, 448, 3]."""
    down, right = np.mgrid[:_SIDE, :_SIDE] - _SIDE / 2 + 0.5
    return _drawn(np.hypot(down, right) <= 130, (220, 20, 20))


def square() -> np.ndarray:
    """Return a blue square on white: uint8 RGB [448, 448, 3]."""
    down, right = abs(np.mgrid[:_SIDE, :_SIDE] - _SIDE / 2 + 0.5)
    return _drawn(np.maximum(down, right) <= 115, (20, 40, 220))


def _drawn(shape: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    image = np.full((_SIDE, _SIDE, 3), 255, np.uint8)
    image[shape] = colour
    return image


class Answer(NamedTuple):
    """A value that must be higher than another, and what the two are of."""

    what: str
    higher: float
    lower: float


def pairs() -> list[Sample]:
    """Return both pictures under the circle's prompt, then both under the square's."""
    prompts = [f"{shape} on a white background" for shape in (RIGHT, WRONG)]
    pictures = (circle(), square())
    return [Sample(picture, prompt) for prompt in prompts for picture in pictures]


def require_own_prompts(judge: str, values: Sequence[float]) -> None:
    """Raise EvaluatorError unless, by the values of :func:`pairs`, each picture suits its own
    prompt better. A value of nan, for a missing one, suits none.
    """
    first, _, second, _ = (sample.prompt for sample in pairs())
    circle_first, square_first, circle_second, square_second = values
    answers = [
        Answer(first, circle_first, square_first),
        Answer(second, square_second, circle_second),
    ]
    require(judge, answers)


def require(judge: str, answers: Sequence[Answer]) -> None:
    """Raise EvaluatorError, which says what to do, unless every answer is right."""
    for answer in answers:
        if not answer.higher > answer.lower:
            raise EvaluatorError(
                f"the judge {judge} fails its canary ({answer.what}: {answer.higher:.4g}, which "
                f"must exceed {answer.lower:.4g}): fetch its weights again, and do not trust it "
                "under these versions of torch and transformers"
            )

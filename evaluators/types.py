"""The evaluators' small vocabulary. Imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np


class EvaluatorError(Exception):
    """Something a user can mend, in one sentence that says what is wrong and what to do."""


@dataclass(frozen=True)
class Metric:
    """What a number means. Two values are comparable only if all of this is the same."""

    name: str
    #: what one value counts, for example ``share of images`` or ``cosine``
    unit: str
    #: smallest and largest possible value of one sample
    range: tuple[float, float]
    higher_is_better: bool
    #: changes whenever the same image could get another value
    version: str
    #: paper and official implementation
    source: str
    description: str
    #: how samples become one number: their mean, or the unweighted mean of the tasks' means
    aggregate: Literal["mean", "task_mean"] = "mean"


@dataclass(frozen=True)
class Sample:
    """One image to judge."""

    #: uint8 RGB [H, W, 3]
    image: np.ndarray
    prompt: str
    #: what the suite knows of the prompt, for example GenEval's record
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """One metric's answer for one sample: a value, or unscored with a reason. Never both."""

    value: float | None
    #: why there is no value; empty where there is one
    unscored: str = ""
    #: what explains the value, for example the recognised text; JSON types only
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.value is None) != bool(self.unscored):
            raise ValueError("a score has either a value or a reason for having none")
        if self.value is not None and not np.isfinite(self.value):
            raise ValueError(f"a score must be finite, not {self.value}")


class Evaluator(ABC):
    """Judges samples.

    Making one is cheap and imports nothing heavy; ``check`` says, still without loading weights,
    whether it can run here; ``load`` makes it ready. A sample's scores depend on that sample alone,
    never on the batch it comes in.
    """

    name: str
    metrics: tuple[Metric, ...]

    def check(self) -> None:
        """Raises EvaluatorError if this evaluator cannot run here, saying what to install."""
        return

    def identity(self) -> dict[str, str]:
        """What besides the metrics' versions decides a value: digests of weights, engine versions.

        It is recorded with every run, and scores under another identity are not reused.
        """
        return {}

    def load(self, device: str = "cpu") -> None:
        """Loads weights onto a device; called once before ``score``."""
        return

    @abstractmethod
    def score(self, samples: Sequence[Sample]) -> list[dict[str, Score]]:
        """For each sample, in order, the score of each of ``metrics`` by its name."""

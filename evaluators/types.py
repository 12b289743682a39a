"""The evaluators' small vocabulary. Imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from soar_bench.core.errors import EvaluatorError as EvaluatorError

if TYPE_CHECKING:
    from evaluators.weights import Weights


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
    #: paper and official implementation, for citing
    source: str
    description: str
    #: how samples become one number: their mean, or the unweighted mean of the tasks' means
    aggregate: Literal["mean", "task_mean"] = "mean"
    #: terms under which the weights and the official implementation may be used
    licence: str = ""


@dataclass(frozen=True)
class Sample:
    """One image to judge."""

    #: uint8 RGB [H, W, 3]
    image: np.ndarray
    prompt: str
    #: what the suite knows of the prompt, for example GenEval's record
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        image = self.image
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise EvaluatorError(
                f"an image to judge must be uint8 RGB [H, W, 3], not {image.dtype} "
                f"{list(image.shape)}: convert it to RGB first"
            )


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
    never on the batch it comes in. docs/write-an-evaluator.md has a complete example, and
    ``evaluators.testing`` the tests that every evaluator passes.
    """

    name: str
    metrics: tuple[Metric, ...]
    #: files to fetch before it can run
    weights: tuple[Weights, ...] = ()
    #: Precisions that ``load`` accepts; the first is what is used unless another is asked for.
    dtypes: tuple[str, ...] = ("float32",)
    #: Evaluators with the same word here are run together, so that they can share a loaded model.
    shares: str = ""

    def check(self) -> None:
        """Raises EvaluatorError if this evaluator cannot run here, saying what to install.

        An evaluator with needs of its own (a package, a program) extends this one, which looks
        at the weights.
        """
        for weights in self.weights:
            weights.digests()

    def identity(self) -> dict[str, str]:
        """What besides the metrics' versions decides a value: digests of weights, engine versions.

        It is recorded with every run, and scores under another identity are not reused.
        """
        return {weights.name: weights.digest() for weights in self.weights}

    def load(self, device: str = "cpu", dtype: str = "float32") -> None:
        """Loads weights onto a device, with weights and activations in ``dtype`` (one of
        ``dtypes``); called once before ``score``. EvaluatorError if a file cannot be read.
        """
        return

    @abstractmethod
    def score(self, samples: Sequence[Sample]) -> list[dict[str, Score]]:
        """For each sample, in order, the score of each of ``metrics`` by its name."""

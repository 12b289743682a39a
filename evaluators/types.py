"""Evaluator, Metric, Sample and Score. Imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from soar_bench.core.errors import EvaluatorError as EvaluatorError
from soar_bench.core.text import count

if TYPE_CHECKING:
    from evaluators.weights import Weights

#: The entry of a score's details that says of how many questions or other parts its value is the
#: mean; a ``pooled`` metric counts the sample as many times.
PARTS = "parts"
#: Images that a SetEvaluator embeds at once where nothing else says how many.
AT_ONCE = 32


@dataclass(frozen=True)
class Metric:
    """Declaration of a number. Two values compare only if all of it is the same."""

    name: str
    #: unit of one value, for example ``share of images`` or ``cosine``
    unit: str
    #: smallest and largest possible value of one sample
    range: tuple[float, float]
    higher_is_better: bool
    #: raised whenever the same image could get another value
    version: str
    #: paper and official implementation, for citing
    source: str
    description: str
    #: how samples become one number: their mean, the unweighted mean of the tasks' means, or the
    #: mean of the parts of all samples (``pooled``), of which details say how many (:data:`PARTS`)
    aggregate: Literal["mean", "task_mean", "pooled"] = "mean"
    #: terms under which the weights and the official implementation may be used
    licence: str = ""
    #: whether the standard error of a plain mean is within tasks: the benchmark fixes them and how
    #: many prompts each has
    stratified: bool = False
    #: whether values lie to one side, as distances do, so that intervals are corrected for it
    skewed: bool = False


@dataclass(frozen=True)
class Sample:
    """One image to judge."""

    #: uint8 RGB [H, W, 3]
    image: np.ndarray
    prompt: str
    #: the suite's metadata of the prompt, for example GenEval's record
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
    """Value of one metric for one sample, or unscored with a reason. Never both."""

    value: float | None
    #: why there is no value; empty where there is one
    unscored: str = ""
    #: explains the value, for example the recognised text; JSON types only
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.value is None) != bool(self.unscored):
            raise ValueError("a score has either a value or a reason for having none")
        if self.value is not None and not np.isfinite(self.value):
            raise ValueError(f"a score must be finite, not {self.value}")


class Evaluator(ABC):
    """Base class of what judges samples.

    Making one is cheap and imports nothing heavy; ``load`` makes it ready. A sample's scores depend
    on that sample alone, never on its batch. docs/write-an-evaluator.md has a complete example;
    every evaluator passes :func:`evaluators.check_evaluator`.
    """

    name: str
    metrics: tuple[Metric, ...]
    #: files to fetch before it can run
    weights: tuple[Weights, ...] = ()
    #: precisions that ``load`` accepts, the default first
    dtypes: tuple[str, ...] = ("float32",)
    #: evaluators with the same word are run together, so that they can share a loaded model
    shares: str = ""
    #: metadata that must name a file in the suite's folder, which ``score`` then gets as a path
    inputs: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise EvaluatorError, which says what to fetch or install, if it cannot run here.

        Loads nothing. An evaluator that needs more than its weights extends it.
        """
        for weights in self.weights:
            weights.digests()

    def bring(self) -> str:
        """Bring models that a package downloads itself, for ``soar-bench fetch``; say what came.

        Returns an empty string where nothing is lacking. EvaluatorError if it cannot.
        """
        return ""

    def identity(self) -> dict[str, str]:
        """Return what decides values besides the metrics' versions, for example weights' digests.

        It is recorded with every run, and scores under another identity are not reused.
        """
        return {weights.name: weights.digest() for weights in self.weights}

    def load(self, device: str = "cpu", dtype: str = "float32") -> None:
        """Load the weights onto a device; called once before ``score``.

        Weights and activations have the precision ``dtype``, one of ``dtypes``. EvaluatorError if a
        file cannot be read.
        """
        return

    def can_judge(self, prompt: str, metadata: Mapping[str, Any]) -> bool:
        """Return whether images of this prompt can have a score. A run of a suite without any such
        prompt leaves the evaluator out.
        """
        return True

    @abstractmethod
    def score(self, samples: Sequence[Sample]) -> list[dict[str, Score]]:
        """Return, for each sample in order, the score of each of ``metrics`` by its name."""


class SetEvaluator(Evaluator):
    """Base class of what judges images together: all of a prompt, or all of a run.

    It sees each image alone first (:meth:`embed`) and then the rows of a whole set
    (:meth:`score_set`). Every image of the set gets a score, and the mean of a set's scores is the
    set's value; so standard errors, intervals and paired tests are those of any other metric.
    """

    #: images that are judged together: those of one prompt, or of the whole run
    together: Literal["prompt", "run"] = "prompt"
    #: fewest images of a set that has a value
    fewest: int = 2

    @abstractmethod
    def embed(self, samples: Sequence[Sample]) -> list[np.ndarray]:
        """Return an array of any shape for each sample in order, from that sample alone."""

    @abstractmethod
    def score_set(self, rows: Sequence[np.ndarray]) -> list[dict[str, Score]]:
        """Return, for each row of a set of ``fewest`` or more, a score of each of ``metrics``.

        Scores follow their rows: another order of the rows gives the same scores in that order.
        """

    def judge(self, rows: Sequence[np.ndarray]) -> list[dict[str, Score]]:
        """Return :meth:`score_set`, and unscored where the set is smaller than ``fewest``."""
        if len(rows) >= self.fewest:
            return self.score_set(rows)
        reason = f"the {self.together} has {count(len(rows), 'image')}, fewer than {self.fewest}"
        return [{metric.name: Score(None, reason) for metric in self.metrics} for _ in rows]

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Score]]:
        """Return the scores of samples in order; those of one prompt and metadata are a set."""
        sets: dict[str, list[int]] = {}
        for place, sample in enumerate(samples):
            key = repr((sample.prompt, sample.metadata)) if self.together == "prompt" else ""
            sets.setdefault(key, []).append(place)
        scores: list[dict[str, Score]] = [{}] * len(samples)
        for places in sets.values():
            rows: list[np.ndarray] = []
            for start in range(0, len(places), AT_ONCE):
                rows += self.embed([samples[i] for i in places[start : start + AT_ONCE]])
            for place, of_sample in zip(places, self.judge(rows), strict=True):
                scores[place] = of_sample
        return scores

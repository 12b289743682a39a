"""The interface of a detector backend."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from evaluators.geneval.rules import Detection
from evaluators.weights import Weights


@dataclass(frozen=True)
class Instance(Detection):
    """A detected object with its outline."""

    #: bool [H, W] at the image's own size; None where the detector gives boxes only
    mask: np.ndarray | None = field(default=None, compare=False, repr=False)


class Detector(typing.Protocol):
    """Detector of COCO objects on images. Labels are GenEval's names of the 80 classes."""

    name: str
    #: Whether scores made with it may stand beside published GenEval numbers.
    comparable: bool

    @property
    def weights(self) -> tuple[Weights, ...]:
        """Files to fetch before it can run."""
        ...

    def check(self) -> None:
        """Raise EvaluatorError, which says what to install, if the detector cannot run here."""

    def identity(self) -> dict[str, str]:
        """Return the digests and versions that decide what is detected."""
        ...

    def load(self, device: str, dtype: str) -> None: ...

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Instance]]:
        """Return all objects on each uint8 RGB image [H, W, 3] of any size, best first."""
        ...

"""Rewards as training sees them: a callable that it is handed. It knows no evaluator."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class Rewards(typing.Protocol):
    """One reward or several, loaded once per process."""

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """Everything that decides their values, for the run's own identity."""
        ...

    def __call__(
        self, images: np.ndarray, prompts: Sequence[str], metadata: Sequence[Mapping[str, Any]]
    ) -> Mapping[str, np.ndarray]:
        """Return each reward of the images, uint8 RGB [B, H, W, 3]: float64 [B] by name.

        Larger is better. NaN where a sample is unscored.
        """
        ...

    def reason(self, name: str) -> str:
        """Return why the last unscored sample of that reward has no score."""
        ...

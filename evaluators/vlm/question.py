"""A question about an image. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Question:
    """A text about an image, to be answered."""

    #: uint8 RGB [H, W, 3]
    image: np.ndarray
    text: str

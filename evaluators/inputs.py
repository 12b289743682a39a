"""A second picture for an evaluator of two: a reference, a mask, that the metadata name."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evaluators.types import EvaluatorError, Sample
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.images import read_pixels


def read_input(sample: Sample, name: str, *, same_size: bool = True) -> np.ndarray:
    """Return the picture that ``sample.metadata[name]`` names: uint8 RGB [H, W, 3].

    EvaluatorError if it names none, the file cannot be read, or ``same_size`` is asked for and its
    size is not that of the image.
    """
    path = sample.metadata.get(name)
    if not isinstance(path, str):
        raise EvaluatorError(f"the metadata name no file in {name!r}: give the path of a picture")
    try:
        picture = read_pixels(Path(path))[0]
    except SoarBenchError as error:
        raise EvaluatorError(f"the metadata's {name}: {error}") from None
    if same_size and picture.shape != sample.image.shape:
        sizes = [f"{shape[1]}x{shape[0]}" for shape in (picture.shape, sample.image.shape)]
        raise EvaluatorError(
            f"{path} has {sizes[0]} pixels and the image {sizes[1]}: make both one size"
        )
    return picture

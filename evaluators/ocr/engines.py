"""OCR engines behind one interface: an image in, the recognised lines out.

All run on the CPU in one thread, so that the text depends on the image alone.
"""

from __future__ import annotations

import typing
from collections.abc import Callable

import numpy as np

from evaluators.types import EvaluatorError
from soar_bench.core.packages import install, installed

#: Function that returns the lines of text on a uint8 RGB image [H, W, 3], in the engine's order: an
#: empty list if the engine saw no text. An engine that fails raises.
Read = Callable[[np.ndarray], list[str]]


class Engine(typing.Protocol):
    """Settings of an OCR engine: cheap to make and to send to a process."""

    @property
    def name(self) -> str:
        """Part of the metric's version: engines of one name read alike."""
        ...

    def check(self) -> None:
        """Raise EvaluatorError, which says what to install, if the engine cannot run here."""

    def identity(self) -> dict[str, str]:
        """Return what decides the text: versions of packages and programs, digests of models."""
        ...

    def load(self) -> Read:
        """Return the function that reads, in this process. EvaluatorError if it does not start."""
        ...


def bgr(image: np.ndarray) -> np.ndarray:
    """Swap the channels to OpenCV's order, which the engines' models expect; contiguous."""
    return np.ascontiguousarray(image[..., ::-1])


class RapidOcr:
    """PP-OCR models through ONNX Runtime; the package has the models, so it works offline."""

    name = "rapidocr"
    _packages = ("rapidocr", "onnxruntime")

    def check(self) -> None:
        if missing := [name for name in self._packages if installed(name) is None]:
            raise EvaluatorError(
                f"the ocr evaluator needs {' and '.join(missing)}: {install('ocr')}"
            )

    def identity(self) -> dict[str, str]:
        return {name: installed(name) or "missing" for name in self._packages}

    def load(self) -> Read:
        self.check()
        import logging

        from rapidocr import RapidOCR

        threads = "EngineConfig.onnxruntime.{}_op_num_threads"
        params = {threads.format("intra"): 1, threads.format("inter"): 1}
        # without the angle classifier, as in the published protocol
        engine = RapidOCR(params={"Global.use_cls": False, **params})
        logging.getLogger("RapidOCR").setLevel(logging.ERROR)
        return lambda image: list(engine(bgr(image)).txts or ())

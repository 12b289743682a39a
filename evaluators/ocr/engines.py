"""OCR engines behind one interface: an image in, the recognised lines out.

All run on the CPU in one thread, so that what is read depends neither on the machine nor on how
many processes share the images.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from evaluators.types import EvaluatorError

#: The lines of text on a uint8 RGB image [H, W, 3], in the engine's order. An empty list says that
#: the engine saw no text; an engine that fails raises.
Read = Callable[[np.ndarray], list[str]]


class Engine(typing.Protocol):
    """A way to read. An engine is only settings: it is cheap and can be sent to a process."""

    @property
    def name(self) -> str:
        """Part of the metric's version: engines of one name read alike."""
        ...

    def check(self) -> None:
        """Raises EvaluatorError if the engine cannot run here, saying what to install."""

    def identity(self) -> dict[str, str]:
        """What decides what is read: versions of packages and programs, digests of models."""
        ...

    def load(self) -> Read:
        """The engine made ready, in this process. EvaluatorError if it does not start."""
        ...


def installed(package: str) -> str | None:
    """The version of an installed package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def bgr(image: np.ndarray) -> np.ndarray:
    """Channels swapped, contiguous: as OpenCV reads files, and the engines' models expect."""
    return np.ascontiguousarray(image[..., ::-1])


class RapidOcr:
    """PP-OCR models through ONNX Runtime; they are inside the package, so it works offline."""

    name = "rapidocr"
    _packages = ("rapidocr", "onnxruntime")

    def check(self) -> None:
        missing = [name for name in self._packages if installed(name) is None]
        if missing:
            raise EvaluatorError(
                f"the ocr evaluator needs {' and '.join(missing)}: pip install 'soar-bench[ocr]'"
            )

    def identity(self) -> dict[str, str]:
        return {name: installed(name) or "missing" for name in self._packages}

    def load(self) -> Read:
        self.check()
        import logging

        from rapidocr import RapidOCR

        engine = RapidOCR(
            params={
                "Global.use_cls": False,  # no angle classifier, as in the published protocol
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )
        logging.getLogger("RapidOCR").setLevel(logging.ERROR)

        def read(image: np.ndarray) -> list[str]:
            return list(engine(bgr(image)).txts or ())

        return read

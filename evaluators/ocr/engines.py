"""OCR engines behind one call: an image in, the recognised lines out."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

import numpy as np

from evaluators.types import EvaluatorError


class Engine(Protocol):
    name: str

    def check(self) -> None:
        """Raises EvaluatorError if the engine cannot run here."""

    def identity(self) -> dict[str, str]:
        """Package versions that decide what is read."""
        ...

    def load(self) -> None: ...

    def read(self, image: np.ndarray) -> list[str]:
        """The lines of text on a uint8 RGB image [H, W, 3], in the engine's order."""
        ...


class RapidOcr:
    """PP-OCR models through ONNX Runtime; they are inside the package, so it works offline."""

    name = "rapidocr"
    _packages = ("rapidocr", "onnxruntime")

    def __init__(self) -> None:
        self._engine: Any = None

    def check(self) -> None:
        missing = [name for name in self._packages if _version(name) is None]
        if missing:
            raise EvaluatorError(
                f"the ocr evaluator needs {' and '.join(missing)}: pip install 'soar-bench[ocr]'"
            )

    def identity(self) -> dict[str, str]:
        return {name: _version(name) or "missing" for name in self._packages}

    def load(self) -> None:
        self.check()
        import logging

        from rapidocr import RapidOCR

        # No angle classifier, as in the published protocol.
        self._engine = RapidOCR(params={"Global.use_cls": False})
        logging.getLogger("RapidOCR").setLevel(logging.ERROR)

    def read(self, image: np.ndarray) -> list[str]:
        result = self._engine(np.ascontiguousarray(image[..., ::-1]))  # it expects BGR
        return list(result.txts or ())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

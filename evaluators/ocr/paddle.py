"""PaddleOCR, which published numbers use, versions 2 and 3.

Version 2 is called as Flow-GRPO calls it (2.9.1, English, no angle classifier, its defaults).
Version 3 changes its defaults with each release, so everything is named: the recogniser of 2.9.1,
the mobile detector of its time, and the sizes and thresholds of 2.9.1. It always gets the folders
of its models, which are checked before, so it downloads nothing.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from evaluators.ocr.engines import Read, bgr
from evaluators.types import EvaluatorError
from evaluators.weights import WeightsMissing
from soar_bench.core.digests import file_digest
from soar_bench.core.packages import install, installed, python

MODELS_VARIABLE = "SOAR_BENCH_PADDLEOCR_MODELS"
_PACKAGES = ("paddlepaddle", "paddlepaddle-gpu")


class ModelsMissing(WeightsMissing):
    """The package is here, and its models, which it downloads itself, are not."""


@dataclass(frozen=True)
class _Release:
    """Models of a major version."""

    detector: str
    recogniser: str
    files: tuple[str, ...]
    #: Python code by which PaddleOCR downloads its models
    fetch: str


_RELEASES = {
    "2": _Release(
        detector="en_PP-OCRv3_det_infer",
        recogniser="en_PP-OCRv4_rec_infer",
        files=("inference.pdmodel", "inference.pdiparams"),
        fetch='from paddleocr import PaddleOCR; PaddleOCR(lang="en", ocr_version="PP-OCRv4")',
    ),
    "3": _Release(
        detector="PP-OCRv4_mobile_det",
        recogniser="en_PP-OCRv4_mobile_rec",
        files=("inference.json", "inference.pdiparams", "inference.yml"),
        fetch='from paddleocr import PaddleOCR; PaddleOCR(lang="en", ocr_version="PP-OCRv4", '
        "use_doc_orientation_classify=False, use_doc_unwarping=False, "
        "use_textline_orientation=False)",
    ),
}


@dataclass(frozen=True)
class PaddleOcr:
    """PaddleOCR on the CPU.

    ``models`` is a folder that holds the two models' folders, by their names; without it,
    ``$SOAR_BENCH_PADDLEOCR_MODELS``, and without that the place where PaddleOCR itself keeps them.
    ``channels`` is the order of an image's channels: "bgr", which the models expect, or "rgb", as
    in the Flow-GRPO family's code.
    """

    models: Path | None = None
    channels: Literal["bgr", "rgb"] = "bgr"

    @property
    def name(self) -> str:
        return "paddleocr" if self.channels == "bgr" else "paddleocr given RGB"

    def check(self) -> None:
        versions = {"paddleocr": installed("paddleocr"), "paddlepaddle": _paddle_version()}
        if missing := [name for name, version in versions.items() if not version]:
            raise EvaluatorError(
                f"the ocr-paddle evaluator needs {' and '.join(missing)}: {install('paddleocr')}"
            )
        _, release = _release()
        for folder in self.folders():
            if lacking := [file for file in release.files if not (folder / file).is_file()]:
                raise ModelsMissing(
                    f"PaddleOCR's models are not here ({folder} lacks {', '.join(lacking)}): run "
                    "`soar-bench fetch ocr-paddle`, which is "
                    f"`python -c '{release.fetch}'`, with a network, or name a folder that holds "
                    f"{release.detector} and {release.recogniser} in {MODELS_VARIABLE}"
                )

    def bring(self) -> str:
        """Let PaddleOCR download its models, in a process of its own; see ``Evaluator.bring``."""
        try:
            self.check()
            return ""
        except ModelsMissing:
            pass
        _, release = _release()
        done = subprocess.run(python(release.fetch), capture_output=True, text=True, check=False)
        try:
            self.check()
        except ModelsMissing:
            last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
            raise EvaluatorError(
                f"PaddleOCR did not bring its models ({last}): "
                "look whether it reaches its servers from here, or copy their folders from another "
                f"machine and name where they are in {MODELS_VARIABLE}"
            ) from None
        return f"PaddleOCR's models {release.detector} and {release.recogniser}: fetched"

    def identity(self) -> dict[str, str]:
        """Return the versions of both packages, and a digest of each model by its name."""
        self.check()
        _, release = _release()
        identity = {"paddleocr": installed("paddleocr") or "", "paddlepaddle": _paddle_version()}
        for folder in self.folders():
            lines = "".join(f"{file_digest(folder / file)}  {file}\n" for file in release.files)
            identity[folder.name] = hashlib.sha256(lines.encode()).hexdigest()
        return identity

    def load(self) -> Read:
        self.check()
        major, _ = _release()
        start = _start_2 if major == "2" else _start_3
        try:
            with warnings.catch_warnings():  # of what building its sources would need
                warnings.filterwarnings("ignore", "No ccache found")
                engine = start(*map(str, self.folders()))
        except (Exception, SystemExit) as error:  # its many dependencies fail in many ways
            raise EvaluatorError(
                f"PaddleOCR {installed('paddleocr')} does not start here ({error!r}): see "
                "docs/metrics/ocr.md for versions that work together"
            ) from error
        arrange = bgr if self.channels == "bgr" else np.array

        def read(image: np.ndarray) -> list[str]:
            if major == "2":
                return lines_2(engine.ocr(arrange(image), cls=False))
            return lines_3(engine.predict(arrange(image)))

        return read

    def folders(self) -> tuple[Path, Path]:
        """Return the folders of the detector and the recogniser."""
        major, release = _release()
        cache = os.environ.get("PADDLE_PDX_CACHE_HOME")
        if folder := self.models or os.environ.get(MODELS_VARIABLE):
            detectors = recognisers = Path(folder).expanduser()
        elif major == "2":
            home = Path.home() / ".paddleocr" / "whl"
            detectors, recognisers = home / "det" / "en", home / "rec" / "en"
        else:
            home = Path(cache) if cache else Path.home() / ".paddlex"
            detectors = recognisers = home / "official_models"
        return detectors / release.detector, recognisers / release.recogniser


def lines_2(result: Sequence[Sequence[Any] | None]) -> list[str]:
    """Return the lines in version 2's result for one image.

    The result is [[box, (text, confidence)], ...] in a list; without text, None or an empty list is
    in its place. Lines of confidence 0 do not count, as in Flow-GRPO.
    """
    lines = (line for page in result for _corners, line in page or ())
    return [text for text, confidence in lines if confidence > 0]


def lines_3(result: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines in version 3's result for one image: a list of a mapping's ``rec_texts``."""
    return [text for page in result for text in page["rec_texts"]]


def _start_2(detector: str, recogniser: str) -> Any:
    with _sctypes():
        from paddleocr import PaddleOCR

    return PaddleOCR(
        use_angle_cls=False,
        lang="en",
        use_gpu=False,
        show_log=False,
        ocr_version="PP-OCRv4",
        det_model_dir=detector,
        rec_model_dir=recogniser,
        # It downloads the classifier's files even if it never uses them.
        cls_model_dir=detector,
    )


def _start_3(detector: str, recogniser: str) -> Any:
    import logging

    from paddleocr import PaddleOCR

    logging.getLogger("paddlex").setLevel(logging.WARNING)
    release = _RELEASES["3"]
    return PaddleOCR(
        text_detection_model_name=release.detector,
        text_detection_model_dir=detector,
        text_recognition_model_name=release.recogniser,
        text_recognition_model_dir=recogniser,
        text_recognition_batch_size=6,
        use_doc_orientation_classify=False,
        use_doc_unwarping=False,
        use_textline_orientation=False,
        text_det_limit_side_len=960,
        text_det_limit_type="max",
        text_det_thresh=0.3,
        text_det_box_thresh=0.6,
        text_det_unclip_ratio=1.5,
        text_rec_score_thresh=0.5,
        device="cpu",
        enable_mkldnn=False,
        cpu_threads=1,
    )


@contextmanager
def _sctypes() -> Iterator[None]:
    """Provide NumPy 1's table of types, which imgaug reads when version 2 imports it."""
    if hasattr(np, "sctypes"):
        yield
        return
    sizes = {"int": (8, 16, 32, 64), "uint": (8, 16, 32, 64), "float": (16, 32, 64)}
    table = {kind: [getattr(np, f"{kind}{n}") for n in bits] for kind, bits in sizes.items()}
    np.sctypes = table  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del np.sctypes  # type: ignore[attr-defined]


def _paddle_version() -> str:
    """Return the version of Paddle itself, whichever build is installed; empty if none is."""
    return next(filter(None, map(installed, _PACKAGES)), "")


def _release() -> tuple[str, _Release]:
    """Return the installed major version and its models. EvaluatorError for one never tried."""
    version = installed("paddleocr") or ""
    major, minor = (*version.split("."), "")[:2]
    too_old = major == "2" and minor.isdecimal() and int(minor) < 7
    if major not in _RELEASES or too_old:
        raise EvaluatorError(
            f"PaddleOCR {version} is not one that soar-bench can call (2.7 to 3.x): "
            f"{install('paddleocr')}"
        )
    return major, _RELEASES[major]

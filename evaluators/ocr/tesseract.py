"""The program Tesseract, an engine of another family than PP-OCR."""

from __future__ import annotations

import os
import shutil
import subprocess
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from evaluators.ocr.engines import Read
from evaluators.types import EvaluatorError
from soar_bench.core.digests import file_digest

PROGRAM = "tesseract"
LANGUAGE = "eng"
#: Automatic page segmentation. The modes for sparse text invent letters on noise.
PAGE_MODE = "3"
_SECONDS = 120


class Tesseract:
    """Page segmentation mode 3, English. Needs no Python package, only the program."""

    name = "tesseract"

    def check(self) -> None:
        if shutil.which(PROGRAM) is None:
            raise EvaluatorError(
                f"the ocr-tesseract evaluator needs the program {PROGRAM}: install it from your "
                "system's packages (Debian and Ubuntu: apt-get install tesseract-ocr)"
            )
        folder, languages = _languages()
        if LANGUAGE not in languages:
            raise EvaluatorError(
                f"{PROGRAM} has no data for English ({LANGUAGE}.traineddata is not in "
                f"{folder or 'its folder'}): install it (Debian and Ubuntu: "
                "apt-get install tesseract-ocr-eng)"
            )

    def identity(self) -> dict[str, str]:
        """Return the program's version, and the digest of its English data where it is known."""
        self.check()
        identity = {PROGRAM: _run("--version").split("\n")[0].removeprefix(PROGRAM).strip()}
        folder, _ = _languages()
        data = folder / f"{LANGUAGE}.traineddata" if folder is not None else None
        if data is not None and data.is_file():
            identity[data.name] = file_digest(data)
        return identity

    def load(self) -> Read:
        self.check()
        return read


def read(image: np.ndarray) -> list[str]:
    """Return the lines on a uint8 RGB image [H, W, 3]."""
    picture = BytesIO()
    Image.fromarray(image).save(picture, "PNG")
    text = _run("stdin", "stdout", "--psm", PAGE_MODE, "-l", LANGUAGE, stdin=picture.getvalue())
    return [line.strip() for line in text.splitlines() if line.strip()]


def _languages() -> tuple[Path | None, list[str]]:
    """Return the folder of language data, where the program tells it, and the languages in it.

    It prints a line with the folder in quotes (from version 5) and then one language per line.
    """
    heading, *languages = _run("--list-langs").strip().split("\n")
    parts = heading.split('"')
    return (Path(parts[1]) if len(parts) == 3 else None), languages


def _run(*arguments: str, stdin: bytes = b"") -> str:
    """Return the program's output."""
    try:
        command, env = [PROGRAM, *arguments], {**os.environ, "OMP_THREAD_LIMIT": "1"}
        done = subprocess.run(
            command, input=stdin, capture_output=True, timeout=_SECONDS, check=True, env=env
        )
    except FileNotFoundError:
        raise EvaluatorError(f"the program {PROGRAM} has gone: install it again") from None
    except subprocess.TimeoutExpired:
        raise EvaluatorError(f"{PROGRAM} did not finish in {_SECONDS} s") from None
    except subprocess.CalledProcessError as error:
        text = " ".join(error.stderr.decode("utf-8", "replace").split())
        raise EvaluatorError(f"{PROGRAM} ended with {error.returncode}: {text}") from None
    return done.stdout.decode("utf-8", "replace")

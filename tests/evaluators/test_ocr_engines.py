"""rapidocr, and Tesseract through programs of the same name."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from evaluators.ocr import engines, tesseract
from evaluators.ocr.engines import RapidOcr
from evaluators.ocr.paddle import PaddleOcr
from evaluators.ocr.tesseract import Tesseract
from evaluators.types import EvaluatorError

PICTURE = np.zeros((5, 7, 3), np.uint8)


def word(text: str) -> np.ndarray:
    picture = Image.new("RGB", (512, 256), "white")
    ImageDraw.Draw(picture).text((60, 80), text, "black", ImageFont.load_default(90))
    return np.asarray(picture)


@pytest.mark.parametrize("engine", [RapidOcr(), Tesseract(), PaddleOcr()], ids=lambda e: e.name)
def test_an_engine_that_can_run_here_reads_a_word_and_nothing_on_noise(engine):
    try:
        engine.check()
    except EvaluatorError as error:
        pytest.skip(str(error))
    read = engine.load()
    assert "".join(read(word("MOUSE"))).replace(" ", "") == "MOUSE"
    assert read(np.full((64, 64, 3), 255, np.uint8)) == []
    image = word("MOUSE")
    before = image.copy()
    read(image)
    assert np.array_equal(image, before)
    assert all(engine.identity().values())


def test_rapidocr_that_is_absent_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(engines, "installed", lambda name: None if name == "onnxruntime" else "1")
    with pytest.raises(EvaluatorError, match=r"needs onnxruntime: pip install .*\[ocr\]'"):
        RapidOcr().check()


# Tesseract, through programs of the same name


def program(monkeypatch, tmp_path, script):
    file = tmp_path / "bin" / "tesseract"
    file.parent.mkdir()
    file.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{file.parent}:/usr/bin:/bin")


LANGUAGES = "echo 'List of available languages in \"/data/\" (2):'; echo eng; echo osd"
AS_USUAL = f"""
case "$1" in
  --list-langs) {LANGUAGES};;
  --version) echo "tesseract 5.3.0"; echo " leptonica-1.82.0";;
  *) head -c 4 | tail -c 3; echo; echo "$@  $OMP_THREAD_LIMIT"; echo; printf '  HELLO \\n\\f';;
esac"""


def test_tesseract_is_called_with_a_picture_and_page_mode_3_in_one_thread(monkeypatch, tmp_path):
    program(monkeypatch, tmp_path, AS_USUAL)
    assert Tesseract().load()(PICTURE) == ["PNG", "stdin stdout --psm 3 -l eng  1", "HELLO"]


def test_the_identity_of_tesseract_is_its_version(monkeypatch, tmp_path):
    program(monkeypatch, tmp_path, AS_USUAL)
    assert Tesseract().identity() == {"tesseract": "5.3.0"}


def test_the_identity_of_tesseract_has_its_language_data_where_they_are_found(
    monkeypatch, tmp_path
):
    (tmp_path / "eng.traineddata").write_bytes(b"letters")
    program(monkeypatch, tmp_path, AS_USUAL.replace("/data/", f"{tmp_path}/"))
    digest = hashlib.sha256(b"letters").hexdigest()
    assert Tesseract().identity() == {"tesseract": "5.3.0", "eng.traineddata": digest}


def test_tesseract_4_does_not_say_where_its_data_are(monkeypatch, tmp_path):
    program(monkeypatch, tmp_path, AS_USUAL.replace(' in "/data/"', ""))
    assert Tesseract().identity() == {"tesseract": "5.3.0"}


def test_tesseract_that_is_absent_is_named_with_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EvaluatorError, match=r"needs the program tesseract: .*tesseract-ocr"):
        Tesseract().check()


def test_tesseract_without_english_is_named_with_what_to_install(monkeypatch, tmp_path):
    program(monkeypatch, tmp_path, AS_USUAL.replace("echo eng;", ""))
    with pytest.raises(EvaluatorError, match=r"no data for English .*tesseract-ocr-eng"):
        Tesseract().check()


def test_a_tesseract_that_fails_is_an_error_and_not_an_empty_text(monkeypatch, tmp_path):
    program(monkeypatch, tmp_path, AS_USUAL.replace("*) ", "*) echo 'bad picture' >&2; exit 3; "))
    with pytest.raises(EvaluatorError, match="tesseract ended with 3: bad picture"):
        Tesseract().load()(PICTURE)


def test_a_tesseract_that_does_not_finish_is_an_error(monkeypatch, tmp_path):
    program(monkeypatch, tmp_path, AS_USUAL.replace("*) ", "*) exec sleep 20; "))
    read = Tesseract().load()
    monkeypatch.setattr(tesseract, "_SECONDS", 0.2)
    with pytest.raises(EvaluatorError, match=r"did not finish in 0\.2 s"):
        read(PICTURE)

"""OCR accuracy: the formula on a table, and a real engine on real signs."""

from __future__ import annotations

import numpy as np
import pytest

from evaluators.ocr.accuracy import accuracy, edit_distance, normalise, target_of
from evaluators.ocr.evaluator import OcrAccuracy
from evaluators.types import Sample
from soar_bench.shapes.captions import WORDS, sign
from soar_bench.shapes.render import Scene, Sign, render


@pytest.mark.parametrize(
    ("prompt", "target"),
    [
        ('a sign saying "STOP"', "STOP"),
        ('first "one" then "two"', "one"),
        ('it\'s "New York, 2024" there', "New York, 2024"),
        ('an empty "" quote', ""),
        ("no quotes at all", None),
        ('one " only', None),
    ],
)
def test_the_target_stands_between_the_first_two_double_quotes(prompt, target):
    assert target_of(prompt) == target


@pytest.mark.parametrize(
    ("target", "recognised", "expected"),
    [
        ("STOP", "stop", 1.0),
        ("STOP", "full stop here", 1.0),  # contained
        ("Hello World", "HELLOWORLD!", 1.0),  # spaces do not count, nor what surrounds it
        ("Hello, World", "helloworld", 1 - 1 / 11),  # punctuation stays
        ("cat", "car", 1 - 1 / 3),
        ("cat", "at", 1 - 1 / 3),
        ("cat", "", 0.0),
        ("cat", "elephants", 0.0),  # capped at the target's length
        ("abcd", "abxd", 0.75),
    ],
)
def test_the_formula(target, recognised, expected):
    assert accuracy(target, recognised) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("flaw", "lawn", 2), ("x", "x", 0)],
)
def test_edit_distance(a, b, distance):
    assert edit_distance(a, b) == distance
    assert edit_distance(b, a) == distance


def test_normalise_keeps_punctuation():
    assert normalise("A b.C!") == "ab.c!"


@pytest.fixture(scope="module")
def ocr():
    evaluator = OcrAccuracy()
    evaluator.check()
    evaluator.load()
    return evaluator


def test_the_engine_reads_every_word_of_the_world(ocr):
    samples = [Sample(render(Scene("white", sign=Sign(w, 16))), sign(w)["prompt"]) for w in WORDS]
    values = [s["ocr_accuracy"].value for s in ocr.score(samples)]
    assert np.mean(values) >= 0.98


def test_a_wrong_sign_gets_partial_credit_and_shows_what_was_read(ocr):
    sample = Sample(render(Scene("mint", sign=Sign("CAT", 16))), sign("CAR")["prompt"])
    (scores,) = ocr.score([sample])
    assert scores["ocr_accuracy"].value == pytest.approx(2 / 3)
    assert scores["ocr_accuracy"].details["recognised"] == ["CAT"]


def test_prompts_without_a_target_are_unscored_not_zero(ocr):
    blank = np.full((64, 64, 3), 250, np.uint8)
    none, empty = ocr.score([Sample(blank, "a photo of a star"), Sample(blank, 'a " " b')])
    assert none["ocr_accuracy"].value is None
    assert "quotes no text" in none["ocr_accuracy"].unscored
    assert "empty" in empty["ocr_accuracy"].unscored


def test_nothing_on_the_image_is_zero(ocr):
    blank = np.full((64, 64, 3), 250, np.uint8)
    (scores,) = ocr.score([Sample(blank, 'a sign saying "CAT"')])
    assert scores["ocr_accuracy"].value == 0.0

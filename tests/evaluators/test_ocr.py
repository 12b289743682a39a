"""OCR accuracy: the formula on a table and against its definition, and a real engine on signs."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from evaluators.ocr.accuracy import accuracy, edit_distance, normalise, target_of
from evaluators.ocr.evaluator import (
    OcrAccuracy,
    ocr_paddle,
    ocr_paddle_flow_grpo,
    ocr_tesseract,
)
from evaluators.types import EvaluatorError, Sample
from soar_bench.shapes.captions import WORDS, sign
from soar_bench.shapes.render import Scene, Sign, render

ROOT = Path(__file__).parents[2]
BLANK = np.full((64, 64, 3), 250, np.uint8)


@pytest.mark.parametrize(
    ("prompt", "target"),
    [
        ('a sign saying "STOP"', "STOP"),
        ('"STOP" on a sign', "STOP"),
        ('first "one" then "two"', "one"),
        ('it\'s "New York, 2024" there', "New York, 2024"),
        ("\"it's 5 o'clock\"", "it's 5 o'clock"),
        ('an empty "" quote', ""),
        ('three " quotes " here "', " quotes "),
        ("no quotes at all", None),
        ("only 'single' ones", None),
        ('one " only', None),
        ("curly “STOP” is not quoted", None),
        ('curly “no” before straight "yes"', "yes"),
        ('straight and ”curly" do not pair', None),
        ("", None),
    ],
)
def test_the_target_stands_between_the_first_two_straight_double_quotes(prompt, target):
    assert target_of(prompt) == target


@pytest.mark.parametrize(
    ("target", "recognised", "expected"),
    [
        ("STOP", "stop", 1.0),
        ("STOP", "full stop here", 1.0),  # contained
        ("Hello World", "HELLOWORLD!", 1.0),  # spaces do not count, nor what surrounds it
        ("Hello World", "Hello" + "World", 1.0),  # lines are joined with nothing between
        ("Hello, World", "helloworld", 1 - 1 / 11),  # punctuation stays
        ("Hello World", "World Hello", 1 - 8 / 10),  # order counts: only two l stay in place
        ("cat", "car", 1 - 1 / 3),
        ("cat", "at", 1 - 1 / 3),
        ("cat", "ca", 1 - 1 / 3),
        ("cat", "scar", 1 - 2 / 3),
        ("cat", "", 0.0),
        ("cat", "elephants", 0.0),  # capped at the target's length
        ("cat", "c a r and much more", 0.0),  # extra text costs as much as wrong text
        ("abcd", "abxd", 0.75),
        ("abcd", "bacd", 0.5),  # a swap is two edits
        ("½ price", "1/2 price", 1 - 3 / 6),  # one letter becomes three
        ("Café", "CAFE", 0.75),
        ("a\tb", "ab", 1 - 1 / 3),  # only spaces are removed
    ],
)
def test_the_formula(target, recognised, expected):
    assert accuracy(target, recognised) == pytest.approx(expected)


@pytest.mark.parametrize("target", ["", "   "])
def test_an_empty_target_has_no_accuracy(target):
    with pytest.raises(ValueError, match="empty target"):
        accuracy(target, "anything")


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("flaw", "lawn", 2), ("x", "x", 0)],
)
def test_edit_distance(a, b, distance):
    assert edit_distance(a, b) == distance
    assert edit_distance(b, a) == distance


@cache
def levenshtein(a: str, b: str) -> int:
    """The definition, by recursion on the first letters."""
    if not a or not b:
        return len(a) + len(b)
    if a[0] == b[0]:
        return levenshtein(a[1:], b[1:])
    return 1 + min(levenshtein(a[1:], b), levenshtein(a, b[1:]), levenshtein(a[1:], b[1:]))


def flow_grpo_reward(prompt: str, recognised: str) -> float:
    """The reward as the paper's code states it, step by step."""
    goal = prompt.split('"')[1].replace(" ", "").lower()
    text = recognised.replace(" ", "").lower()
    penalty = 0 if text.find(goal) >= 0 else levenshtein(text, goal)
    if penalty > len(goal):
        penalty = len(goal)
    return 1 - penalty / len(goal)


def test_distance_and_formula_equal_their_definitions_on_random_texts():
    rng = random.Random(0)

    def text(longest):
        return "".join(rng.choice("abAB .!") for _ in range(rng.randint(0, longest)))

    for _ in range(1000):
        goal, seen = text(9), text(12)
        assert edit_distance(goal, seen) == levenshtein(goal, seen)
        if goal.strip(" "):
            prompt = f'a sign "{goal}" there'
            value = accuracy(target_of(prompt), seen)
            assert value == pytest.approx(flow_grpo_reward(prompt, seen))
            assert 0 <= value <= 1


def test_normalise_keeps_punctuation():
    assert normalise("A b.C!") == "ab.c!"


class Script:
    """An engine that reads what it was told, and counts."""

    name = "script"

    def __init__(self, *lines):
        self.lines = lines
        self.images = []

    def check(self):
        pass

    def identity(self):
        return {"script": "1"}

    def load(self):
        return self.read

    def read(self, image):
        self.images.append(image)
        if self.lines == ("fail",):
            raise RuntimeError("the model is torn")
        return list(self.lines)


def test_only_images_whose_prompt_has_a_target_are_read_and_order_is_kept():
    engine = Script("CA", "T")
    prompts = ["a star", 'a "cat"', 'a " " b', 'a "dog"', "“cat”", 'an "unpaired quote']
    images = [np.full((8, 8, 3), i, np.uint8) for i in range(6)]
    samples = [Sample(i, p) for i, p in zip(images, prompts, strict=True)]
    scores = [s["ocr_accuracy"] for s in OcrAccuracy(engine).score(samples)]
    assert [s.value for s in scores] == [None, 1.0, None, 0.0, None, None]
    assert [int(i[0, 0, 0]) for i in engine.images] == [1, 3]
    assert scores[1].details == {"recognised": ["CA", "T"]}
    for index in (0, 4, 5):
        assert "quotes no text in straight double quotes" in scores[index].unscored
    assert "empty" in scores[2].unscored


def test_an_engine_that_fails_is_an_error_that_names_the_prompt_and_never_a_zero():
    with pytest.raises(
        EvaluatorError,
        match=r"the OCR engine script failed on the image of the prompt 'a \"cat\"': .*torn",
    ):
        OcrAccuracy(Script("fail")).score([Sample(BLANK, 'a "cat"')])


def test_every_engine_has_a_name_and_a_metric_of_its_own():
    evaluators = [OcrAccuracy(), ocr_paddle(), ocr_paddle_flow_grpo(), ocr_tesseract()]
    assert [e.name for e in evaluators] == [
        "ocr",
        "ocr-paddle",
        "ocr-paddle-flow-grpo",
        "ocr-tesseract",
    ]
    metrics = [e.metrics[0] for e in evaluators]
    assert [m.name for m in metrics] == [
        "ocr_accuracy",
        "ocr_accuracy_paddle",
        "ocr_accuracy_paddle_flow_grpo",
        "ocr_accuracy_tesseract",
    ]
    assert len({m.version for m in metrics}) == 4
    assert all(m.licence and m.range == (0.0, 1.0) for m in metrics)


def test_the_committed_records_still_mean_what_this_evaluator_measures():
    runs = sorted((ROOT / "results" / "shapes-signs").rglob("run.json"))
    assert runs
    record = json.loads(runs[0].read_text("utf-8"))["evaluators"]["ocr"]
    evaluator = OcrAccuracy()
    assert record["metrics"]["ocr_accuracy"]["version"] == evaluator.metrics[0].version
    assert set(record["identity"]) == set(evaluator.identity())


@pytest.fixture(scope="module")
def ocr():
    evaluator = OcrAccuracy()
    evaluator.check()
    evaluator.load()
    return evaluator


def signs(words):
    return [Sample(render(Scene("white", sign=Sign(w, 16))), sign(w)["prompt"]) for w in words]


def test_the_engine_reads_every_word_of_the_world_alike_in_one_process_and_in_two(ocr, monkeypatch):
    monkeypatch.setenv("SOAR_BENCH_PROCESSES", "2")
    samples = signs(WORDS)
    shared = ocr.score(samples)
    ocr._pool.close()
    assert np.mean([s["ocr_accuracy"].value for s in shared]) >= 0.98

    monkeypatch.setenv("SOAR_BENCH_PROCESSES", "1")
    assert ocr.score(samples[:4]) == shared[:4]
    assert ocr.score(samples[-1:]) == shared[-1:]


def test_a_wrong_sign_gets_partial_credit_and_shows_what_was_read(ocr):
    sample = Sample(render(Scene("mint", sign=Sign("CAT", 16))), sign("CAR")["prompt"])
    (scores,) = ocr.score([sample])
    assert scores["ocr_accuracy"].value == pytest.approx(2 / 3)
    assert scores["ocr_accuracy"].details["recognised"] == ["CAT"]


def test_nothing_on_the_image_is_zero(ocr):
    (scores,) = ocr.score([Sample(BLANK, 'a sign saying "CAT"')])
    assert scores["ocr_accuracy"].value == 0.0
    assert scores["ocr_accuracy"].details["recognised"] == []

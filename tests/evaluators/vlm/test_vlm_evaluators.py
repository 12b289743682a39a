"""Evaluators that ask a judge questions, by hand-computed probabilities and formulas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evaluators import EvaluatorError, catalogue
from evaluators.dpg import DpgBench, dependent
from evaluators.geneval.vlm import GenEvalVlm, clauses, plural
from evaluators.geneval2 import GenEval2, geometric, spellings
from evaluators.golden import vlm as tiny
from evaluators.hpsv3 import HpsV3
from evaluators.types import Sample
from evaluators.vlm import canary
from evaluators.vlm.evaluator import NO, YES
from evaluators.vqascore import TEMPLATE, VqaScore
from evaluators.weights import WeightFile

PICTURE = np.zeros((32, 32, 3), np.uint8)


class FakeJudge:
    """A vocabulary of whole words; ``answer`` gives a question's probabilities by word."""

    def __init__(self, answer, twins=()):
        self.answer, self.twins, self.words, self.asked = answer, dict(twins), {}, []

    def ids(self, text):
        text = self.twins.get(text, text)
        return [self.words.setdefault(text, len(self.words))]

    def first_token(self, questions):
        rows = np.zeros((len(questions), 200), np.float32)
        for row, question in zip(rows, questions, strict=True):
            self.asked.append(question.text)
            for word, p in self.answer(question).items():
                row[self.ids(word)[0]] += p
        return rows


def scored(kind, answer, metadata, prompt="two red birds", twins=(), picture=PICTURE):
    evaluator = kind()
    evaluator._judge = FakeJudge(answer, twins)
    (scores,) = evaluator.score([Sample(picture, prompt, metadata)])
    return {n: s.value for n, s in scores.items()}, scores, evaluator._judge


RECORD = {
    "vqa_list": [["How many birds are in the image?", "two"], ["Are the birds red?", "Yes"]],
    "skills": ["count", "attribute"],
    "atom_count": 3,
}


def two_birds(question):
    if question.text.startswith("How many"):
        return {"two": 0.2, "Two": 0.1, " 2": 0.05, "2": 0.05, "three": 0.6}
    return {"Yes": 0.7, " yes": 0.1, "No": 0.2}


def test_soft_tifa_by_hand():
    """0.4 for the number, 0.8 for yes: means 0.6 and the root of 0.32."""
    values, scores, judge = scored(GenEval2, two_birds, RECORD)
    assert values["geneval2_am"] == pytest.approx(60)
    assert values["geneval2_gm"] == pytest.approx(100 * 0.32**0.5)
    assert values["geneval2_gm_deduplicated"] == pytest.approx(values["geneval2_gm"])
    assert values["geneval2_count"] == pytest.approx(40)
    assert values["geneval2_attribute"] == pytest.approx(80)
    assert scores["geneval2_verb"].unscored == "the prompt has no question of the skill verb"
    assert judge.asked[0] == "How many birds are in the image? Answer in one word."
    details = scores["geneval2_gm"].details["questions"]
    assert [answer["probability"] for answer in details] == pytest.approx([0.4, 0.8])


def test_a_first_token_that_spellings_share_counts_twice_in_the_official_sum_alone():
    """ " 2" and " two" begin with a token of a space: its 0.05 counts for both."""
    twins = {" 2": " ", " two": " "}
    values, _, _ = scored(GenEval2, two_birds, RECORD, twins=twins)
    assert values["geneval2_count"] == pytest.approx(45)
    assert values["geneval2_am_deduplicated"] == pytest.approx(60)


def test_geneval2s_vqascore_asks_the_released_question_and_sums_every_yes():
    """Of "Yes", "yes", " yes" and " Yes": 0.7 + 0.1; twins count twice, as in the script."""
    values, _, judge = scored(GenEval2, two_birds, RECORD)
    assert judge.asked[-1] == (
        'Does this image show "two red birds"? Answer the question with Yes or No.'
    )
    assert values["geneval2_vqascore"] == pytest.approx(80)
    values, _, _ = scored(GenEval2, two_birds, RECORD, twins={" Yes": " yes"})
    assert values["geneval2_vqascore"] == pytest.approx(90)


def test_each_sample_gets_the_answers_to_its_own_questions():
    """One without questions between two with them, of other numbers of questions."""
    evaluator = GenEval2()
    evaluator._judge = FakeJudge(two_birds)
    single = {"vqa_list": [["Are the birds red?", "Yes"]], "skills": ["attribute"]}
    samples = [Sample(PICTURE, "a", m) for m in (RECORD, {}, single, RECORD)]
    values = [scores["geneval2_am"].value for scores in evaluator.score(samples)]
    assert values == [pytest.approx(60), None, pytest.approx(80), pytest.approx(60)]


def test_spellings_of_an_answer():
    assert spellings("two") == ("two", "Two", " two", " Two", "2", " 2")
    assert spellings("Yes") == ("Yes", "yes", " yes", " Yes")
    assert geometric([0.5, 0.0]) == 0 and geometric([0.25, 1]) == pytest.approx(0.5)


def test_prompts_without_questions_are_unscored():
    for kind in (GenEval2, DpgBench, GenEvalVlm):
        values, scores, _ = scored(kind, two_birds, {})
        assert set(values.values()) == {None}
        assert all("in its metadata" in score.unscored for score in scores.values())


def test_vqascore_is_the_probability_of_yes():
    values, _, judge = scored(VqaScore, two_birds, {})
    assert values == {"vqascore": pytest.approx(0.7)}
    assert judge.asked == [TEMPLATE.format("two red birds")]


QUESTIONS = [
    {"id": 1, "question": "Is there a bird?", "parents": [0], "category": "entity - whole"},
    {"id": 2, "question": "Is the bird red?", "parents": [1], "category": "attribute - color"},
    {"id": 3, "question": "Does the red bird fly?", "parents": [2], "category": "Attribute"},
    {"id": 4, "question": "Is there a tree?", "parents": []},
]


def test_dpg_follows_the_questions_dependencies():
    """The bird is not red, so its flight counts as no too: 2 of 4, and 3 of 4 without."""
    values, scores, _ = scored(
        DpgBench, lambda q: {"Yes": 0.1, "No": 0.9} if "Is the bird red" in q.text else {"yes": 1},
        {"questions": QUESTIONS},
    )  # fmt: skip
    kinds = {"entity": 100, "attribute": 50, "global": None, "relation": None, "other": None}
    assert values == {"dpg": 50, "dpg_independent": 75} | {
        f"dpg_{kind}": value for kind, value in kinds.items()
    }
    assert scores["dpg_other"].unscored == "the prompt has no question of the category other"
    shown = scores["dpg"].details["questions"]
    assert [answer["counts"] for answer in shown] == [True, False, False, True]


def test_dependencies_cascade_in_order():
    parents = {1: [0], 2: [1], 3: [2], 4: [3, 1]}
    assert dependent({1: False, 2: True, 3: True, 4: True}, parents) == dict.fromkeys(
        parents, False
    )
    assert dependent({1: True, 2: True, 3: False, 4: True}, parents)[4] is False
    assert dependent({1: True, 9: True}, {1: [0], 9: [7]}) == {1: True, 9: True}


POSITION = {
    "tag": "position",
    "include": [
        {"class": "dog", "count": 1},
        {"class": "apple", "count": 1, "color": "red", "position": ["left of", 0]},
    ],
}


def test_clauses_of_geneval_become_questions():
    asked = [clause.question for clause in clauses(POSITION)]
    assert asked == [
        f"{text} Answer yes or no."
        for text in ("Is there a dog in the image?", "Is there an apple in the image?",
                     "Is the apple red?", "Is the apple left of the dog?")
    ]  # fmt: skip
    (count,) = clauses({"tag": "counting", "include": [{"class": "bench", "count": 3}]})
    assert count.question.startswith("How many benches") and count.right == "three"
    assert plural("person") == "people" and plural("cup") == "cups"


def test_an_image_is_right_where_every_answer_is():
    yes = {"Yes": 0.6, "no": 0.4}
    assert scored(GenEvalVlm, lambda q: yes, POSITION)[0]["geneval_vlm"] == 1
    values, scores, _ = scored(
        GenEvalVlm, lambda q: {"Yes": 0.2, "No": 0.3} if "left of" in q.text else yes, POSITION
    )
    assert values["geneval_vlm"] == 0
    assert values["geneval_vlm_soft"] == pytest.approx((3 * 0.6 + 0.4) / 4)
    assert scores["geneval_vlm"].details["clauses"][3]["answer"] == "no"
    counting = {"tag": "counting", "include": [{"class": "bird", "count": 2}]}
    assert scored(GenEvalVlm, two_birds, counting)[0]["geneval_vlm"] == 0  # three is likelier


def test_a_count_beyond_the_judges_numbers_is_one_sentence():
    with pytest.raises(EvaluatorError, match="asks for 11 of bird, and the judge counts up to 10"):
        clauses({"tag": "counting", "include": [{"class": "bird", "count": 11}]})


def seeing(question):
    """A judge that sees: answers by the picture's middle."""
    red = question.image[len(question.image) // 2, len(question.image) // 2, 0] > 200
    return {"Yes": 0.9, "No": 0.1} if red else {"Yes": 0.1, "No": 0.9}


@pytest.mark.parametrize(
    "answer", [lambda q: {"Yes": 0.9, "No": 0.1}, lambda q: {"Yes": 0.1, "No": 0.9}, lambda q: {}]
)
def test_a_judge_that_answers_alike_whatever_it_sees_is_refused(answer):
    evaluator = GenEval2()
    evaluator._judge = FakeJudge(answer)
    with pytest.raises(EvaluatorError, match="geneval2 fails its canary") as caught:
        evaluator.examine()
    assert len(str(caught.value).splitlines()) == 1


def test_a_judge_that_sees_passes():
    evaluator = GenEval2()
    evaluator._judge = FakeJudge(seeing)
    evaluator.examine()
    assert evaluator._judge.asked[0].startswith(f"Is there {canary.RIGHT}")
    assert len(YES) == len(NO) == 4


@pytest.fixture(scope="module")
def blind(tmp_path_factory):
    """blind(kind) -> the evaluator over a judge whose vision tower is zeroed, not loaded."""
    folder = tmp_path_factory.mktemp("blind")
    tiny.write_model(folder / "qwen3", "qwen3_vl", vision=False)
    files = tuple(WeightFile(file.name, "") for file in sorted((folder / "qwen3").iterdir()))
    judge = replace(catalogue.QWEN3_VL_8B, files=files, folder_override=folder / "qwen3")

    def make(kind):
        if kind is not HpsV3:
            return kind(judge)
        tiny.write_hpsv3(folder / "hpsv3", vision=False)
        weights = (w.at(folder / "hpsv3") for w in (catalogue.HPS_V3, catalogue.QWEN2_VL_7B_FORM))
        return HpsV3(*weights, instruction=tiny.INSTRUCTION)

    return make


@pytest.mark.parametrize("kind", [GenEval2, VqaScore, DpgBench, GenEvalVlm, HpsV3])
def test_a_judge_whose_vision_tower_is_zeroed_is_refused(kind, blind):
    with pytest.raises(EvaluatorError, match=f"the judge {kind.name} fails its canary"):
        blind(kind).load()


def test_missing_weights_say_what_to_fetch(tmp_path, monkeypatch):
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path))
    with pytest.raises(EvaluatorError, match="soar-bench fetch qwen3-vl-8b"):
        GenEval2().check()


@pytest.mark.parametrize(
    ("evaluator", "metadata"),
    [
        (GenEval2, {"vqa_list": [["Is there a cat?", "Yes"]]}),
        (DpgBench, {"questions": [{"id": 1, "question": "Is there a cat?"}]}),
        (GenEvalVlm, {"tag": "colors", "include": [{"class": "cat", "count": 1}]}),
    ],
)
def test_prompts_without_questions_cannot_be_judged(evaluator, metadata):
    assert evaluator().can_judge("a cat", metadata)
    assert not evaluator().can_judge("a cat", {})
    assert not evaluator().can_judge("a cat", {"vqa_list": "?", "questions": "?", "include": "?"})


@pytest.mark.parametrize(
    ("evaluator", "metadata", "words"),
    [
        (DpgBench, {"questions": ["Is there a cat?"]}, 'unlike "Is there a cat'),
        (DpgBench, {"questions": [{"question": "Is there a cat?"}]}, "a number as id"),
        (DpgBench, {"questions": [{"id": 1, "question": "A cat?", "parents": 0}]}, "as parents"),
        (DpgBench, {"questions": 2 * [{"id": 1, "question": "Is there a cat?"}]}, "one id"),
        (GenEval2, {"vqa_list": ["Is there a cat?"]}, "pairs of a question and its answer"),
        (GenEval2, {"vqa_list": [["A cat?", "Yes"]], "skills": ["object", "verb"]}, "as many"),
        (GenEval2, {"vqa_list": [["How many cats are there?", "eleven"]]}, "from one to ten"),
        (GenEval2, {"vqa_list": [["How many cats are there?", "2"]]}, "in words, and"),
        (GenEval2, {"vqa_list": [["Is there a cat?", "No"]]}, "must be Yes or"),
        (GenEval2, {"vqa_list": [["A cat?", "Yes"]], "skills": ["colour"]}, "one of object,"),
        (GenEvalVlm, {"tag": "counting", "include": [{"class": "cat", "count": 11}]}, "up to 10"),
    ],
)
def test_questions_that_are_not_whole_are_told_before_anything_is_made(evaluator, metadata, words):
    with pytest.raises(EvaluatorError, match=words):
        evaluator().can_judge("a cat", metadata)

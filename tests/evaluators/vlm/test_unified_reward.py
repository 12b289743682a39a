"""UnifiedReward: its question, its answers' numbers, its backend in the identity."""

from __future__ import annotations

import numpy as np
import pytest

from evaluators import EvaluatorError, catalogue, registry
from evaluators.golden.unified_reward import Writer, write_scripts
from evaluators.types import Sample
from evaluators.unified_reward import FORMS, UnifiedReward, question_around
from evaluators.vlm import endpoint

PICTURE = np.zeros((8, 8, 3), np.uint8)


class Saying(Writer):
    """Answers one text; keeps what it was asked, the pictures' sizes and the most tokens."""

    def __init__(self, answer):
        self.answer, self.asked, self.sizes, self.most = answer, [], [], 0

    def write(self, questions, most):
        self.asked += [question.text for question in questions]
        self.sizes += [question.image.shape for question in questions]
        self.most = most
        return [self.answer] * len(questions)


def evaluator_over(folder, version, writer):
    write_scripts(folder)
    scripts = catalogue.UNIFIED_REWARD_QUESTIONS.at(folder)
    return UnifiedReward(FORMS[version], scripts, endpoint=lambda: writer)


def scored(folder, version, answer):
    writer = Saying(answer)
    evaluator = evaluator_over(folder, version, writer)
    evaluator._endpoint = writer
    evaluator._before, evaluator._after = question_around(folder / FORMS[version].file)
    return evaluator.score([Sample(PICTURE, "a {cat}")])[0], writer


def test_the_question_is_read_from_the_script_and_the_prompt_stands_in_it(tmp_path):
    scores, writer = scored(tmp_path, "1.5", "cat (object): 1\nFinal Score: 4")
    assert writer.asked == ["How good is it?\nText Caption: [a {cat}]"]
    assert scores["unified_reward_1_5"].value == pytest.approx(0.8)
    assert writer.sizes == [(8, 8, 3)] and writer.most == 512


def test_every_form_has_a_question_of_its_own():
    """2.0 was asked what its authors ask version 1; the Flow-GRPO family asks 1.5 otherwise."""
    files = [form.file for form in FORMS.values()]
    assert len(set(files)) == len(FORMS)
    addresses = {f.path: f.url for f in catalogue.UNIFIED_REWARD_QUESTIONS.files}
    assert "/UnifiedReward-2.0-inference/" in addresses[FORMS["2.0"].file]
    assert "/HY-SOAR/" in addresses[FORMS["1.5-flow-grpo"].file]
    assert sorted(addresses) == sorted(files)


def test_the_flow_grpo_familys_form_shows_512_pixels(tmp_path):
    scores, writer = scored(tmp_path, "1.5-flow-grpo", "Final Score: 4/5")
    assert scores["unified_reward_1_5_flow_grpo"].value == pytest.approx(0.8)
    assert writer.sizes == [(512, 512, 3)]


def test_three_scores_are_read_from_one_answer(tmp_path):
    answer = "Alignment Score (1-5): 4.25\nCoherence Score (1-5): 3\nStyle Score (1-5):2"
    scores, writer = scored(tmp_path, "2.0", answer)
    assert [score.value for score in scores.values()] == [4.25, 3, 2] and writer.most == 4096


@pytest.mark.parametrize(
    "answer",
    ["", "Final Score: none", "Final Score: 9", "Score: 3", "Final Score: 10", "Final Score: 45.5",
     "Final Score: 5.5"],
)  # fmt: skip
def test_an_answer_without_a_score_is_unscored_and_never_0(tmp_path, answer):
    scores, _ = scored(tmp_path, "1.5", answer)
    assert scores["unified_reward_1_5"].value is None
    assert "no such score" in scores["unified_reward_1_5"].unscored


def test_a_judge_that_writes_the_same_whatever_it_sees_is_refused(tmp_path):
    with pytest.raises(EvaluatorError, match=r"unified-reward-1\.5 fails its canary"):
        evaluator_over(tmp_path, "1.5", Saying("Final Score: 4")).load()
    evaluator_over(tmp_path, "1.5", Writer(FORMS["1.5"])).load()


class Silent(Writer):
    """Writes a score for the right picture, and none for the other."""

    def write(self, questions, most):
        return [a if "4.5" in a else "No." for a in super().write(questions, most)]


def test_a_judge_that_leaves_a_canary_unscored_is_refused(tmp_path):
    with pytest.raises(EvaluatorError, match="which must exceed nan"):
        evaluator_over(tmp_path, "1.5", Silent(FORMS["1.5"])).load()


def test_the_backend_and_its_model_are_in_the_identity_and_the_key_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv(endpoint.URL, "http://localhost:1/v1")
    monkeypatch.setenv(endpoint.MODEL, "UnifiedReward-7b-v1.5")
    monkeypatch.setenv(endpoint.KEY, "sk-secret")
    write_scripts(tmp_path)
    evaluator = UnifiedReward(FORMS["1.5"], catalogue.UNIFIED_REWARD_QUESTIONS.at(tmp_path))
    identity = evaluator.identity()
    assert identity["backend"] == "OpenAI-compatible endpoint"
    assert identity["model"] == "UnifiedReward-7b-v1.5" and "sk-secret" not in str(identity)
    with pytest.raises(EvaluatorError, match="does not answer"):
        evaluator.check()


def test_without_an_endpoint_it_says_what_to_set(monkeypatch):
    monkeypatch.delenv(endpoint.URL, raising=False)
    for name in ("unified-reward-1.5", "unified-reward-1.5-flow-grpo", "unified-reward-2.0"):
        assert endpoint.URL in registry.cannot_run(registry.create(name))


def test_a_script_without_a_question_is_refused(tmp_path):
    file = tmp_path / "script.py"
    file.write_text("print(f'{1} and {2}')")
    with pytest.raises(EvaluatorError, match="asks no question"):
        question_around(file)


def test_a_question_in_several_parts_within_a_function_is_read(tmp_path):
    file = tmp_path / "script.py"
    file.write_text(
        "async def ask(prompt):\n"
        "    log = f'{prompt}'\n"
        "    question = ('<image>\\nHow good? '\n        f'Text Caption: [{prompt}]')\n"
    )
    assert question_around(file) == ("<image>\nHow good? Text Caption: [", "]")

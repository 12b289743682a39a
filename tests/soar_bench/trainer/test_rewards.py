"""Evaluators as rewards, and prompts by name."""

from __future__ import annotations

import json

import numpy as np
import pytest

from evaluators import load
from soar_bench.core.errors import SoarBenchError
from soar_bench.trainer.data import agreeing_contexts, open_prompts
from soar_bench.trainer.rewards import EvaluatorRewards, judgeable
from training.data.prompts import Prompts

PLUGIN = """
from evaluators.types import Evaluator, Metric, Score

class Two(Evaluator):
    name = "two"
    metrics = (
        Metric("error", "share", (0.0, 1.0), False, "1", "here", "less is better"),
        Metric("size", "pixels", (0.0, 1e6), True, "3", "here", "more is better"),
    )

    def score(self, samples):
        return [
            {
                "error": Score(s.metadata["error"]) if "error" in s.metadata
                else Score(None, "no error is given"),
                "size": Score(float(s.image.shape[0])),
            }
            for s in samples
        ]
"""


def test_a_reward_is_the_evaluators_value_and_unscored_is_no_number():
    rewards = EvaluatorRewards(["shapes-clipscore", "shapes-geneval"], "cpu")
    prompts = open_prompts("shapes-dev")
    images = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3)).astype(np.uint8)
    texts, metadata = list(prompts.texts[:3]), [*prompts.metadata[:2], {}]
    values = rewards(images, texts, metadata)
    expected = load("shapes-clipscore", "cpu")(list(images), texts)
    np.testing.assert_array_equal(values["shapes-clipscore"], expected)
    assert np.isnan(values["shapes-geneval"]).tolist() == [False, False, True]
    assert rewards.reason("shapes-geneval")
    assert set(rewards.identity) == {"shapes-clipscore", "shapes-geneval"}
    json.dumps(rewards.identity)


def test_of_several_metrics_one_is_named_and_less_is_turned_round(tmp_path):
    file = tmp_path / "two.py"
    file.write_text(PLUGIN)
    with pytest.raises(SoarBenchError, match=r"several metrics: choose .*two\.py/error or"):
        EvaluatorRewards([str(file)])
    with pytest.raises(SoarBenchError, match="did you mean size"):
        EvaluatorRewards([f"{file}/siz"])
    rewards = EvaluatorRewards([f"{file}/error", f"{file}/size"], "cpu")
    values = rewards(np.zeros((2, 8, 8, 3), np.uint8), ["a", "b"], [{"error": 0.25}, {}])
    np.testing.assert_array_equal(values[f"{file}/error"], [-0.25, np.nan])
    np.testing.assert_array_equal(values[f"{file}/size"], [8, 8])
    assert rewards.reason(f"{file}/error") == "no error is given"


def test_an_image_on_which_the_evaluator_fails_is_unscored_with_the_reason(tmp_path):
    file = tmp_path / "two.py"
    file.write_text(PLUGIN.replace('else Score(None, "no error is given")', "else 1 / 0"))
    rewards = EvaluatorRewards([f"{file}/error"], "cpu")
    records = [{"error": 0.25}, {}, {"error": 0.5}]
    (values,) = rewards(np.zeros((3, 8, 8, 3), np.uint8), ["a", "b", "c"], records).values()
    np.testing.assert_array_equal(values, [-0.25, np.nan, -0.5])
    assert rewards.reason(f"{file}/error").startswith("the evaluator failed: ZeroDivisionError")


def test_two_metrics_of_an_evaluator_load_and_ask_it_once(tmp_path):
    file, calls = tmp_path / "two.py", tmp_path / "calls"
    count = f"        open({str(calls)!r}, 'a').write"
    load = f"    def load(self, device, dtype=None):\n{count}('load ')\n"
    asked = f"{count}('score ')\n        return ["
    plugin = PLUGIN.replace("        return [", asked)
    file.write_text(plugin.replace("    def score", f"{load}\n    def score"))
    rewards = EvaluatorRewards([f"{file}/error", f"{file}/size"], "cpu")
    values = rewards(np.zeros((1, 8, 8, 3), np.uint8), ["a"], [{"error": 0.5}])
    assert [each.tolist() for each in values.values()] == [[-0.5], [8.0]]
    assert calls.read_text() == "load score "
    file.write_text(plugin.replace("    def score", f"{load}        1 / 0\n\n    def score"))
    broken = EvaluatorRewards([f"{file}/error"], "cpu")
    with pytest.raises(SoarBenchError, match=r"evaluator two cannot be loaded: .*division"):
        broken(np.zeros((1, 8, 8, 3), np.uint8), ["a"], [{}])


def test_an_evaluator_that_stumbles_over_metadata_names_the_prompt(tmp_path):
    file = tmp_path / "two.py"
    lookup = "    def can_judge(self, prompt, metadata):\n        return metadata['error'] > 0\n"
    file.write_text(PLUGIN.replace("    def score", f"{lookup}\n    def score"))
    rewards = EvaluatorRewards([f"{file}/error"])
    assert rewards.unable("a cat", {"error": 1}) == []
    with pytest.raises(SoarBenchError, match=r"two\.py fails on the prompt 'a cat' .*'error'"):
        rewards.unable("a cat", {})


def test_what_is_no_reward_and_what_is_one_twice():
    with pytest.raises(SoarBenchError, match="judges images together, not each alone"):
        EvaluatorRewards(["near-duplicates"])
    with pytest.raises(SoarBenchError, match="shapes-geneval/shapes_geneval are the same metric"):
        EvaluatorRewards(["shapes-geneval", "shapes-clipscore", "shapes-geneval/shapes_geneval"])
    both = ["picture-statistics/contrast", "picture-statistics/sharpness"]
    assert EvaluatorRewards(both).names == both


def test_a_student_that_sees_what_its_teacher_sees_is_told_of():
    prompts = Prompts(["a cat", "a cat on a mat", "a dog"], [{}] * 3)
    assert agreeing_contexts(prompts, 1, "mine") == ""
    note = agreeing_contexts(prompts, 2, "mine")
    assert note.startswith("nothing is learnt from 2 of 3 prompts")
    with pytest.raises(SoarBenchError, match="no prompt of mine has more than 5 words"):
        agreeing_contexts(prompts, 5, "mine")


def test_prompts_that_a_reward_cannot_judge_are_left_out(tmp_path):
    prompts = open_prompts("shapes-clean:200")
    signs = [record["prompt"] for record in prompts.metadata if record["tag"] == "sign"]
    rules = EvaluatorRewards(["shapes-clipscore", "shapes-geneval"])
    kept, note = judgeable(prompts, rules, "shapes-clean:200")
    assert signs
    assert set(kept.texts) == set(prompts.texts) - set(signs)
    assert all(record["prompt"] in kept.texts for record in kept.metadata)
    assert note.startswith(f"{len(signs)} of {len(prompts)} prompts are left out")
    assert note.endswith("by shapes-geneval")
    assert judgeable(prompts, EvaluatorRewards(["shapes-clipscore"]), "x") == (prompts, "")
    file = tmp_path / "plain.txt"
    file.write_text("a cat\na dog\n")
    with pytest.raises(SoarBenchError, match="can judge none of the 2 prompts of plain"):
        judgeable(open_prompts(str(file)), rules, "plain.txt")


def test_prompts_are_a_suites_a_files_or_datas_captions(tmp_path):
    shapes = open_prompts("shapes-clean:50")
    assert all(m["prompt"] == t for t, m in zip(shapes.texts, shapes.metadata, strict=True))
    assert len(set(shapes.texts)) == len(shapes) <= 50
    assert open_prompts("shapes-dev").metadata[0]["tag"] == "single_object"
    file = tmp_path / "mine.jsonl"
    file.write_text('{"prompt": "a cat", "answer": 1}\n{"prompt": "a cat", "answer": 1}\n')
    mine = open_prompts(str(file))
    assert (list(mine.texts), list(mine.metadata)) == (["a cat"], [{"answer": 1}])
    assert mine.digest != open_prompts("shapes-dev").digest
    for wrong in (str(tmp_path / "absent.txt"), "nonsense"):
        with pytest.raises(SoarBenchError):
            open_prompts(wrong)

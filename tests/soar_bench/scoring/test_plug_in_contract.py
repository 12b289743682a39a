"""Plug-ins of strangers: what is harmless is taken, the rest refused by name, nothing lost."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from test_scoring import SAMPLES, work

from evaluators.dpg import DpgBench
from evaluators.types import Evaluator, Metric, Score
from soar_bench.core.errors import SoarBenchError
from soar_bench.scoring import judges
from soar_bench.scoring.scores import sample_key
from soar_bench.suites.types import PlannedSample, Prompt


class Judge(Evaluator):
    """Scores as a function of the samples says; counts what it has seen."""

    name = "p"
    metrics = (Metric("p", "u", (0.0, 1.0), True, "1", "here", "as told"),)

    def __init__(self, answer) -> None:
        self.answer, self.seen = answer, []

    def score(self, samples):
        self.seen += [sample.prompt for sample in samples]
        return self.answer(samples)


def values(judged):
    return [scores["p"].value for scores in judged.results["p"]]


@pytest.mark.parametrize(
    "answer",
    [
        lambda samples: [{"p": Score(np.float32(0.5))} for _ in samples],
        lambda samples: [{"p": Score(np.int64(1))} for _ in samples],
        lambda samples: ({"p": Score(0.5)} for _ in samples),
        lambda samples: tuple({"p": 0.5} for _ in samples),
        lambda samples: [{"p": np.float64(0.5)} for _ in samples],
        lambda samples: [{"p": Score(0.5, details={"a": np.float32(1), "b": np.arange(2)})}
                         for _ in samples],
    ],
    ids=["float32", "int64", "generator", "plain numbers", "NumPy numbers", "details"],
)  # fmt: skip
def test_harmless_forms_are_taken_as_plain_numbers(answer, tmp_path):
    judged = work(tmp_path, [Judge(answer)])
    assert all(type(value) is float for value in values(judged))
    again = work(tmp_path, [Judge(answer)])  # from the journal
    assert values(again) == values(judged)
    assert again.scored == {"p": 0}
    for scores in judged.results["p"]:
        json.dumps(dict(scores["p"].details))


@pytest.mark.parametrize(
    "broken",
    [
        lambda samples: None,
        lambda samples: "scores",
        lambda samples: [None for _ in samples],
        lambda samples: [{"q": Score(0.5)} for _ in samples],
        lambda samples: [{"p": "0.5"} for _ in samples],
        lambda samples: [{"p": float("nan")} for _ in samples],
        lambda samples: [{"p": Score(0.5, details={"a": object()})} for _ in samples],
        lambda samples: [{"p": Score(None, 5)} for _ in samples],
        lambda samples: [{"p": Score(1.5)} for _ in samples],
    ],
    ids=["None", "text", "Nones", "other metric", "text score", "NaN", "object in details",
         "reason", "range"],
)  # fmt: skip
def test_what_is_no_score_is_refused_by_name_and_nothing_is_lost(broken, tmp_path):
    good = [{"p": Score(0.25)}]

    def answer(samples):
        return good * len(samples) if len(judge.seen) <= 3 else broken(samples)

    judge = Judge(answer)
    judge.__class__ = type("Fresh", (Judge,), {"__copy__": lambda self: self})
    with pytest.raises(SoarBenchError, match="the evaluator p "):
        work(tmp_path, [judge])
    mended = work(tmp_path, [Judge(lambda samples: good * len(samples))])
    assert values(mended) == [0.25] * len(SAMPLES)


def test_exit_in_score_leaves_the_sample_unscored(tmp_path):
    def answer(samples):
        if any(sample.prompt == "prompt 1" for sample in samples):
            sys.exit(5)
        return [{"p": Score(0.5)} for _ in samples]

    judged = work(tmp_path, [Judge(answer)])
    assert values(judged) == [0.5, None, 0.5, 0.5, 0.5]
    assert "SystemExit" in judged.results["p"][1]["p"].unscored
    assert judged.failed == {"p": 1}


def test_a_load_that_fails_is_one_sentence(tmp_path):
    class Unloadable(Judge):
        def load(self, device="cpu", dtype="float32"):
            raise OSError("no file")

    with pytest.raises(SoarBenchError, match="p cannot be loaded: OSError: no file"):
        work(tmp_path, [Unloadable(None)])


def test_writing_into_metadata_or_pixels_changes_nobody_elses_score(tmp_path):
    class Vandal(Judge):
        name = "a"
        metrics = (Metric("a", "u", (0.0, 1.0), True, "1", "here", "vandal"),)

        def score(self, samples):
            for sample in samples:
                sample.metadata["include"][0]["count"] = 99
                with pytest.raises(ValueError, match="read-only"):
                    sample.image[:] = 0
            return [{"a": Score(0.0)} for _ in samples]

    metadata = {"include": [{"class": "star", "count": 1}]}
    samples = [PlannedSample(Prompt("p1", "a star", metadata), 0)]
    reader = Judge(lambda samples: [{"p": Score(1 / s.metadata["include"][0]["count"])}
                                    for s in samples])  # fmt: skip
    judged = work(tmp_path, [Vandal(None), reader], samples=samples)
    assert values(judged) == [1.0]
    assert metadata == {"include": [{"class": "star", "count": 1}]}


@pytest.mark.parametrize(
    ("old", "new"), [('"value": 0.5', '"value": 0.6'), ('"value": 0.5', '"value": 7.5')]
)
def test_a_changed_line_of_the_journal_is_scored_again(old, new, tmp_path):
    def judge():
        return Judge(lambda samples: [{"p": Score(0.5)} for _ in samples])

    work(tmp_path, [judge()])
    (file,) = (tmp_path / "scores").rglob("*.jsonl")
    text = file.read_text()
    file.write_text(text.replace(old, new, 1))
    again = work(tmp_path, [judge()])
    assert values(again) == [0.5] * len(SAMPLES)
    assert again.scored == {"p": 1}


def test_a_file_that_metadata_names_counts_with_its_content(tmp_path):
    reference = tmp_path / "reference.png"
    sample = PlannedSample(Prompt("p1", "a star", {"reference": str(reference)}), 0)
    absent = sample_key(sample, "pixels")
    reference.write_bytes(b"one")
    first = sample_key(sample, "pixels")
    reference.write_bytes(b"another")
    assert len({absent, first, sample_key(sample, "pixels")}) == 3


class Undecided(Judge):
    """Expects metadata that the prompt has not."""

    def can_judge(self, prompt, metadata):
        return bool(metadata["questions"])


def test_an_evaluator_that_is_asked_what_it_can_judge_changes_no_metadata():
    metadata = {"tags": [], "questions": ["?"]}
    writes = Undecided(None)
    writes.can_judge = lambda prompt, metadata: metadata["tags"].append("mine") is None
    assert judges.Judge.of(writes).can_judge(Prompt("a", "a star", metadata))
    assert metadata["tags"] == []


def test_an_evaluator_that_fails_to_say_what_it_can_judge_is_one_sentence():
    judge = judges.Judge.of(Undecided(None))
    assert judge.can_judge(Prompt("p1", "a star", {"questions": ["?"]}))
    with pytest.raises(SoarBenchError, match=r"fails on the prompt 'a star' .*KeyError") as caught:
        judge.can_judge(Prompt("p1", "a star"))
    assert len(str(caught.value).splitlines()) == 1


def test_a_sentence_of_the_evaluators_own_is_told_as_it_is():
    evaluator = Undecided(None)
    evaluator.can_judge = DpgBench().can_judge
    with pytest.raises(SoarBenchError, match=r"cannot judge the prompt 'a star' .*: each of ques"):
        judges.Judge.of(evaluator).can_judge(Prompt("p1", "a star", {"questions": [{}]}))

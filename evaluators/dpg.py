"""DPG-Bench: yes-or-no questions about a dense prompt, which depend on each other.

Source: arXiv 2403.05135; TencentQQGYLab/ELLA, ``dpg_bench``. A prompt's metadata has ``questions``:
``id``, ``question``, ``parents`` (ids; none or 0 where there is none) and ``category``, such as
``attribute - color``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluators import catalogue
from evaluators.types import PARTS, EvaluatorError, Metric, Sample, Score
from evaluators.vlm.evaluator import VlmEvaluator
from evaluators.vlm.question import Question
from soar_bench.core.text import short_json

CATEGORIES = ("global", "entity", "attribute", "relation", "other")
_SOURCE = "arXiv 2403.05135; TencentQQGYLab/ELLA, dpg_bench"


def dependent(answers: Mapping[int, bool], parents: Mapping[int, Sequence[int]]) -> dict[int, bool]:
    """Return each answer, and no where an earlier question that it depends on counts as no.

    Questions come in the file's order, as in the released script: a parent that stands later
    counts by its own answer.
    """
    counted = dict(answers)
    for number, needed in parents.items():
        if any(parent and not counted.get(parent, True) for parent in needed):
            counted[number] = False
    return counted


def _metric(name: str, description: str, aggregate: Any = "mean", version: str = "1") -> Metric:
    return Metric(
        name, "points; 100 is all yes", (0.0, 100.0), True, version, _SOURCE, description,
        aggregate, catalogue.QWEN3_VL_8B.licence,
    )  # fmt: skip


class DpgBench(VlmEvaluator):
    """Share of the questions that Qwen3-VL-8B answers with yes, times 100."""

    name = "dpg"
    metrics = (
        _metric("dpg", "Share of a prompt's questions answered with yes, where a question whose "
                "parent counts as no counts as no; the judge is Qwen3-VL-8B."),
        _metric("dpg_independent", "The same without the questions' dependencies."),
        *(
            _metric(f"dpg_{kind}", "Share of all prompts' questions of the category "
                    f"{kind} answered with yes, without dependencies.", "pooled", version="2")
            for kind in CATEGORIES
        ),
    )  # fmt: skip

    def can_judge(self, prompt: str, metadata: Mapping[str, Any]) -> bool:
        return bool(_questions(metadata))

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Score]]:
        asked = [_questions(sample.metadata) for sample in samples]
        flat = [
            Question(sample.image, f"{question['question']} Answer yes or no.")
            for sample, questions in zip(samples, asked, strict=True)
            for question in questions
        ]
        answers = iter([bool(y > n) for y, n in zip(*self.yes_and_no(flat), strict=True)])
        return [_score(questions, [next(answers) for _ in questions]) for questions in asked]


def _score(questions: Sequence[Mapping[str, Any]], answers: Sequence[bool]) -> dict[str, Score]:
    if not questions:
        reason = "the prompt has no questions of DPG-Bench (questions in its metadata)"
        return {metric.name: Score(None, reason) for metric in DpgBench.metrics}
    ids = [int(question["id"]) for question in questions]
    own = dict(zip(ids, answers, strict=True))
    parents = {
        id: [int(p) for p in q.get("parents", ())] for id, q in zip(ids, questions, strict=True)
    }
    counted = dependent(own, parents)
    shown = [
        {"question": question["question"], "yes": own[id], "counts": counted[id]}
        | ({"category": question["category"]} if "category" in question else {})
        for id, question in zip(ids, questions, strict=True)
    ]
    scores = {
        "dpg": Score(100 * sum(counted.values()) / len(own), details={"questions": shown}),
        "dpg_independent": Score(100 * sum(own.values()) / len(own)),
    }
    for kind in CATEGORIES:
        of_kind = [own[id] for id, q in zip(ids, questions, strict=True) if _kind(q) == kind]
        none = Score(None, f"the prompt has no question of the category {kind}")
        share = 100 * sum(of_kind) / max(len(of_kind), 1)
        scores[f"dpg_{kind}"] = Score(share, details={PARTS: len(of_kind)}) if of_kind else none
    return scores


def _kind(question: Mapping[str, Any]) -> str:
    """Return the first part of a category such as ``attribute - color``."""
    return str(question.get("category", "")).partition("-")[0].strip().lower()


def _questions(metadata: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return a prompt's questions. EvaluatorError if one is not whole or an id comes twice."""
    questions = metadata.get("questions")
    if not isinstance(questions, list):
        return []
    ids = set()
    for question in questions:
        try:
            ids.add(int(question["id"]))
            whole = isinstance(question["question"], str)
            whole = whole and all(int(parent) >= 0 for parent in question.get("parents", ()))
        except (AttributeError, KeyError, TypeError, ValueError):
            whole = False
        if not whole:
            raise EvaluatorError(
                "each of questions must have a number as id, a text as question and a list of "
                f"numbers as parents, unlike {short_json(question)}"
            )
    if len(ids) < len(questions):
        raise EvaluatorError("two of questions have one id: give each its own")
    return questions

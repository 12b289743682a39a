"""GenEval judged by a vision language model: the record's clauses as questions.

The detector of GenEval has drifted from people's judgement for current models, by up to 17.7 points
(arXiv 2512.16853); this judge stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from evaluators import catalogue
from evaluators.geneval.record import is_geneval
from evaluators.geneval2 import NUMBERS, arithmetic, spellings
from evaluators.types import EvaluatorError, Metric, Sample, Score
from evaluators.vlm.evaluator import NO, YES, VlmEvaluator
from evaluators.vlm.question import Question

_SOURCE = "arXiv 2310.11513; soar-bench, docs/metrics/geneval-vlm.md"


class Clause(NamedTuple):
    """A question about an image, and the answers among which the judge chooses."""

    question: str
    right: str
    #: all answers, the right one among them
    choices: tuple[str, ...]


def clauses(record: Mapping[str, Any]) -> list[Clause]:
    """Return the questions of a record of GenEval. EvaluatorError if it counts too far."""
    asked = []
    include = record.get("include") or []
    for clause in include:
        name, count = str(clause["class"]), int(clause["count"])
        if count > len(NUMBERS):
            raise EvaluatorError(
                f"the prompt asks for {count} of {name}, and the judge counts up to {len(NUMBERS)}"
            )
        if count > 1 or record.get("tag") == "counting":
            right = NUMBERS[count - 1]
            question = f"How many {plural(name)} are in the image? Answer with one number."
            asked.append(Clause(question, right, NUMBERS))
        else:
            asked.append(_yes(f"Is there {article(name)} in the image?"))
        if color := clause.get("color"):
            asked.append(_yes(f"Is the {name} {color}?"))
        if position := clause.get("position"):
            relation, target = str(position[0]), str(include[int(position[1])]["class"])
            asked.append(_yes(f"Is the {name} {relation} the {target}?"))
    return asked


def _yes(question: str) -> Clause:
    return Clause(f"{question} Answer yes or no.", "yes", ("yes", "no"))


def article(name: str) -> str:
    """Return a noun with its article."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def plural(name: str) -> str:
    """Return a noun of GenEval's in the plural."""
    irregular = {"person": "people", "knife": "knives", "sheep": "sheep", "skis": "skis"}
    irregular |= {"scissors": "scissors", "computer mouse": "computer mice"}
    if name in irregular:
        return irregular[name]
    return name + ("es" if name.endswith(("s", "sh", "ch", "x")) else "s")


def _metric(name: str, unit: str, description: str) -> Metric:
    return Metric(
        name, unit, (0.0, 1.0), True, "1", _SOURCE, description, "task_mean",
        catalogue.QWEN3_VL_8B.licence,
    )  # fmt: skip


class GenEvalVlm(VlmEvaluator):
    """GenEval's prompts under Qwen3-VL-8B: right where every clause's answer is right."""

    name = "geneval-vlm"
    metrics = (
        _metric("geneval_vlm", "share of images that are right",
                "Every clause of the prompt, as a question, gets the right answer from Qwen3-VL-8B:"
                " the likeliest of yes and no, or of the numbers one to ten."),
        _metric("geneval_vlm_soft", "probability",
                "Mean over the clauses of the probability of the right answer among the choices."),
    )  # fmt: skip

    def can_judge(self, prompt: str, metadata: Mapping[str, Any]) -> bool:
        return is_geneval(metadata) and bool(clauses(metadata))

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Score]]:
        asked = [clauses(s.metadata) if is_geneval(s.metadata) else [] for s in samples]
        flat = [
            Question(sample.image, clause.question)
            for sample, questions in zip(samples, asked, strict=True)
            for clause in questions
        ]
        rows = iter(self._judge.first_token(flat))
        return [self._score([(clause, next(rows)) for clause in own]) for own in asked]

    def _score(self, answered: Sequence[tuple[Clause, np.ndarray]]) -> dict[str, Score]:
        if not answered:
            reason = "the prompt has no GenEval task (tag and include in its metadata)"
            return {metric.name: Score(None, reason) for metric in self.metrics}
        shown, shares = [], []
        for clause, row in answered:
            of_choice = {choice: self._probability(choice, row) for choice in clause.choices}
            likeliest = max(of_choice, key=lambda choice: of_choice[choice])
            total = sum(of_choice.values())
            shares.append(of_choice[clause.right] / total if total else 0.0)
            shown.append({"question": clause.question, "right": clause.right, "answer": likeliest})
        right = all(clause["answer"] == clause["right"] for clause in shown)
        soft = min(arithmetic(shares), 1.0)
        return {
            "geneval_vlm": Score(float(right), details={"clauses": shown}),
            "geneval_vlm_soft": Score(soft),
        }

    def _probability(self, choice: str, row: np.ndarray) -> float:
        texts = {"yes": YES, "no": NO}.get(choice) or spellings(choice)
        return float(row[sorted(set(self.first_ids(texts)))].sum(dtype=np.float64))

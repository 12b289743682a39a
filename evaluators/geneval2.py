"""GenEval 2: every atom of the prompt is a question to a vision language model (soft-TIFA).

Source: arXiv 2512.16853; facebookresearch/GenEval2. The suite's record of a prompt has
``vqa_list``, pairs of a question and its answer, and ``skills``, the skill of each question.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from evaluators import catalogue
from evaluators.types import PARTS, EvaluatorError, Metric, Sample, Score
from evaluators.vlm.evaluator import YES, VlmEvaluator
from evaluators.vlm.question import Question
from soar_bench.core.text import short_json

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
SKILLS = ("object", "attribute", "count", "position", "verb")
_ASKED = " Answer in one word."
#: The released script's VQAScore asks this of the whole prompt.
_WHOLE = 'Does this image show "{}"? Answer the question with Yes or No.'
_SOURCE = "arXiv 2512.16853; facebookresearch/GenEval2"
_UNIT = "points; 100 is every answer certain"
#: A probability is a sum over six spellings, of which a first token may be counted each time.
_MOST = 600.0


def spellings(answer: str) -> tuple[str, ...]:
    """Return the texts that count as an answer: a number in words and digits, or yes."""
    word = answer.strip().lower()
    if word in NUMBERS:
        digit, capital = str(NUMBERS.index(word) + 1), word.capitalize()
        return (word, capital, f" {word}", f" {capital}", digit, f" {digit}")
    return YES


def arithmetic(values: Sequence[float]) -> float:
    """Return the mean."""
    return sum(values) / len(values)


def geometric(values: Sequence[float]) -> float:
    """Return the geometric mean; 0 if one of the values is 0."""
    if min(values) <= 0:
        return 0.0
    return math.exp(sum(map(math.log, values)) / len(values))


def _metric(
    name: str, most: float, description: str, aggregate: Any = "mean", version: str = "1"
) -> Metric:
    licence = f"the judge: {catalogue.QWEN3_VL_8B.licence}; the questions: CC BY-NC 4.0"
    return Metric(name, _UNIT, (0.0, most), True, version, _SOURCE, description, aggregate, licence)


_OF = "of the probabilities of the right answers to a prompt's questions, times 100"
_TWINS = "first tokens that several spellings share count several times, as in the released script"
_ONCE = "each first token counts once"


class GenEval2(VlmEvaluator):
    """Soft-TIFA under Qwen3-VL-8B, as the released script sums probabilities and without twins."""

    name = "geneval2"
    metrics = (
        _metric("geneval2_gm", _MOST, f"Geometric mean {_OF}; {_TWINS}.", "task_mean"),
        _metric("geneval2_am", _MOST, f"Arithmetic mean {_OF}; {_TWINS}."),
        _metric("geneval2_gm_deduplicated", 100.0, f"Geometric mean {_OF}; {_ONCE}."),
        _metric("geneval2_am_deduplicated", 100.0, f"Arithmetic mean {_OF}; {_ONCE}."),
        *(
            _metric(f"geneval2_{skill}", _MOST, "Mean of the probabilities of the right answers to "
                    f"all prompts' questions of the skill {skill}, times 100; {_TWINS}.",
                    "pooled", version="2")
            for skill in SKILLS
        ),
        _metric("geneval2_vqascore", _MOST, "Probability of yes, times 100, to whether the image "
                f"shows the whole prompt: the released script's VQAScore; {_TWINS}."),
    )  # fmt: skip

    def can_judge(self, prompt: str, metadata: Mapping[str, Any]) -> bool:
        return bool(_questions(metadata))

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Score]]:
        asked = [_questions(sample.metadata) for sample in samples]
        flat = []
        for sample, pairs in zip(samples, asked, strict=True):
            if pairs:
                flat += [Question(sample.image, question + _ASKED) for question, _, _ in pairs]
                flat.append(Question(sample.image, _WHOLE.format(sample.prompt)))
        rows = iter(self._judge.first_token(flat))
        return [self._scores([(*pair, next(rows)) for pair in pairs], rows) for pairs in asked]

    def _scores(
        self, answered: Sequence[tuple[str, str, str, np.ndarray]], rows: Iterator[np.ndarray]
    ) -> dict[str, Score]:
        if not answered:
            reason = "the prompt has no questions of GenEval 2 (vqa_list in its metadata)"
            return {metric.name: Score(None, reason) for metric in self.metrics}
        whole = float(next(rows)[self.first_ids(YES)].sum(dtype=np.float64))
        official, once, details = [], [], []
        for question, answer, skill, row in answered:
            ids = self.first_ids(spellings(answer))
            official.append(float(row[ids].sum(dtype=np.float64)))
            once.append(min(float(row[sorted(set(ids))].sum(dtype=np.float64)), 1.0))
            shown = {"question": question, "answer": answer, "skill": skill}
            details.append({**shown, "probability": round(official[-1], 6)})
        scores = {
            "geneval2_gm": Score(100 * geometric(official), details={"questions": details}),
            "geneval2_am": Score(100 * arithmetic(official)),
            "geneval2_gm_deduplicated": Score(100 * geometric(once)),
            "geneval2_am_deduplicated": Score(100 * arithmetic(once)),
            "geneval2_vqascore": Score(100 * whole),
        }
        for skill in SKILLS:
            own = [p for p, (_, _, of, _) in zip(official, answered, strict=True) if of == skill]
            none = Score(None, f"the prompt has no question of the skill {skill}")
            pooled = Score(100 * arithmetic(own), details={PARTS: len(own)}) if own else none
            scores[f"geneval2_{skill}"] = pooled
        return scores


def _questions(metadata: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return question, answer and skill of each of a prompt's questions; none if it has none.

    EvaluatorError if they are not whole.
    """
    pairs = metadata.get("vqa_list")
    if not isinstance(pairs, list):
        return []
    skills = metadata.get("skills") or [""] * len(pairs)
    try:
        asked = [(str(q), str(a), str(s)) for (q, a), s in zip(pairs, skills, strict=True)]
    except (TypeError, ValueError):
        raise EvaluatorError(
            "vqa_list must hold pairs of a question and its answer, and skills, if it is there, as "
            f"many texts, unlike {short_json([pairs, skills])}"
        ) from None
    for _, answer, skill in asked:  # any other would be taken for yes, or be in no skill's mean
        if answer.strip().lower() not in ("yes", *NUMBERS) or skill not in ("", *SKILLS):
            raise EvaluatorError(
                "an answer in vqa_list must be Yes or a number from one to ten in words, and a "
                f"skill one of {', '.join(SKILLS)}, unlike {short_json([answer, skill])}"
            )
    return asked

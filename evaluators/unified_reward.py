"""UnifiedReward, which writes its scores: behind an endpoint, in the published forms.

Source: arXiv 2503.05236; CodeGoat24/UnifiedReward; for the Flow-GRPO family's form, HY-SOAR. What
the model is asked is read as text from their own scripts, which are fetched and never run.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evaluators import catalogue
from evaluators.types import Evaluator, EvaluatorError, Metric, Sample, Score
from evaluators.vlm import canary
from evaluators.vlm.endpoint import Endpoint
from evaluators.vlm.question import Question
from evaluators.weights import Weights

_SOURCE = "arXiv 2503.05236; CodeGoat24/UnifiedReward"
#: A whole number of digits: 10 is no 1.
_NUMBER = r"([1-5](?:\.\d+)?)(?!\.?\d)"


@dataclass(frozen=True)
class Form:
    """A published form of the question and its answer."""

    version: str
    #: script with the question
    file: str
    #: pattern of each metric's number in the answer
    patterns: dict[str, str]
    #: values are divided by this
    most: float
    #: of an answer, at most
    tokens: int = 512
    #: pictures are resized to a square of this side, in pixels; 0 leaves them as they are
    side: int = 0
    #: of the metrics: raised where the same picture could get another value
    revision: str = "1"


FORMS = {
    "1.5": Form("1.5", "qwen_point_score_image_generation.py",
                {"unified_reward_1_5": rf"Final Score:\s*{_NUMBER}"}, 5.0, revision="2"),
    "1.5-flow-grpo": Form("1.5-flow-grpo", "unifiedreward_scorer.py",
                          {"unified_reward_1_5_flow_grpo": rf"Final Score:\s*{_NUMBER}"}, 5.0,
                          side=512),
    "2.0": Form("2.0", "point_score_ACS_image_generation.py",
                {f"unified_reward_2_0_{word.lower()}": rf"{word} Score \(1-5\):\s*{_NUMBER}"
                 for word in ("Alignment", "Coherence", "Style")}, 1.0, 4096, revision="2"),
}  # fmt: skip


def question_around(file: Path) -> tuple[str, str]:
    """Return the text before and after the prompt in a script's question.

    EvaluatorError if the script has none.
    """
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if not isinstance(node, ast.JoinedStr):
            continue
        parts = ["" if isinstance(p, ast.FormattedValue) else _text(p) for p in node.values]
        places = [i for i, p in enumerate(node.values) if isinstance(p, ast.FormattedValue)]
        if len(places) == 1 and "Text Caption" in "".join(parts):
            return "".join(parts[: places[0]]), "".join(parts[places[0] + 1 :])
    raise EvaluatorError(f"{file} asks no question about a caption: fetch it again")


def _text(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else ""


class UnifiedReward(Evaluator):
    """Scores that the model behind the endpoint writes, greedily."""

    def __init__(
        self,
        form: Form,
        scripts: Weights = catalogue.UNIFIED_REWARD_QUESTIONS,
        *,
        endpoint: Callable[[], Any] = Endpoint.of_environment,
    ) -> None:
        """``endpoint`` returns what has ``check``, ``model`` and ``write``, as an Endpoint has."""
        self.form, self.weights, self._endpoint_of = form, (scripts,), endpoint
        self.name = f"unified-reward-{form.version}"
        self.metrics = tuple(
            Metric(
                name=name,
                unit="score from 1 to 5" + ("; over 5" if form.most > 1 else ""),
                range=(1 / form.most, 5 / form.most),
                higher_is_better=True,
                version=form.revision,
                source=_SOURCE,
                description=f"What UnifiedReward {form.version}, behind an endpoint, writes as its "
                f"{name.rpartition('_')[2] if form.most == 1 else 'final'} score.",
                licence="MIT",
            )
            for name in form.patterns
        )

    def check(self) -> None:
        endpoint = self._endpoint_of()
        super().check()
        endpoint.check()

    def identity(self) -> dict[str, str]:
        model = str(self._endpoint_of().model)
        return {**super().identity(), "backend": "OpenAI-compatible endpoint", "model": model}

    def load(self, device: str = "cpu", dtype: str = "float32") -> None:
        self.check()
        self._endpoint = self._endpoint_of()
        self._before, self._after = question_around(self.weights[0].file(self.form.file))
        self.examine()

    def examine(self) -> None:
        """Raise EvaluatorError unless each of the canary's pictures suits its own prompt better."""
        scores = [row[self.metrics[0].name] for row in self.score(canary.pairs())]
        values = [math.nan if score.value is None else score.value for score in scores]
        canary.require_own_prompts(self.name, values)

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Score]]:
        questions = [
            Question(self._picture(s.image), self._before + s.prompt + self._after) for s in samples
        ]
        answers = self._endpoint.write(questions, self.form.tokens) if questions else []
        return [self._parsed(answer) for answer in answers]

    def _picture(self, image: np.ndarray) -> np.ndarray:
        """Return the picture as the form shows it: by Pillow's bicubic, if it has a size."""
        if not self.form.side:
            return image
        square = (self.form.side, self.form.side)
        return np.asarray(Image.fromarray(image).resize(square, Image.Resampling.BICUBIC))

    def _parsed(self, answer: str) -> dict[str, Score]:
        scores = {}
        for name, pattern in self.form.patterns.items():
            written = re.search(pattern, answer)
            if written is None or float(written[1]) > 5:
                start = " ".join(answer.split())[:60]
                scores[name] = Score(None, f"the judge's answer has no such score: {start!r}")
            else:
                value = float(written[1]) / self.form.most
                scores[name] = Score(value, details={"answer": answer[-400:]})
        return scores


def unified_reward_1_5() -> UnifiedReward:
    """Final score over 5, by its authors' own question (UnifiedReward-7b-v1.5)."""
    return UnifiedReward(FORMS["1.5"])


def unified_reward_1_5_flow_grpo() -> UnifiedReward:
    """Final score over 5, as the Flow-GRPO family asks for it (UnifiedReward-7b-v1.5)."""
    return UnifiedReward(FORMS["1.5-flow-grpo"])


def unified_reward_2_0() -> UnifiedReward:
    """Alignment, coherence and style (UnifiedReward-2.0)."""
    return UnifiedReward(FORMS["2.0"])

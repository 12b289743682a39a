"""A script with a question, and a judge that tells the canary's pictures apart by their middle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evaluators.unified_reward import FORMS, Form
from evaluators.vlm.question import Question

_SCRIPT = "raise SystemExit\ntext = f'How good is it?\\nText Caption: [{prompt}]'\n"


def write_scripts(folder: Path) -> None:
    """Write a script per form, which would end the program if it were run."""
    folder.mkdir(parents=True, exist_ok=True)
    for form in FORMS.values():
        (folder / form.file).write_text(_SCRIPT, "utf-8")


class Writer:
    """Stands in for an endpoint: writes a score by the picture's middle and the prompt's words."""

    model = "golden"

    def __init__(self, form: Form) -> None:
        self.form = form

    def check(self) -> None:
        """Never fails."""

    def write(self, questions: Sequence[Question], most: int) -> list[str]:
        """Return 4.5 where red is asked for and seen, or blue and blue; 2 otherwise."""
        return [self._answer(question)[:most] for question in questions]

    def _answer(self, question: Question) -> str:
        red, _, blue = question.image[tuple(side // 2 for side in question.image.shape[:2])]
        right = ("red" in question.text and red > blue) or ("blue" in question.text and blue > red)
        score = 4.5 if right else 2
        if self.form.most > 1:
            return f"bird (object): 1\nFinal Score: {score}"
        words = ("Alignment", "Coherence", "Style")
        return "\n".join(f"{word} Score (1-5): {score}" for word in words)

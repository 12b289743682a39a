"""Errors that a user can mend, and the hint for a name that was misspelled. Imports no torch."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import TypeVar

Made = TypeVar("Made")


class SoarBenchError(Exception):
    """Error that a user can mend, in one sentence that says what is wrong and what to do."""


class Faults:
    """Errors collected, so that a user hears of all at once instead of one after another."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def of(self, make: Callable[[], Made]) -> Made | None:
        """Return what ``make`` returns, or None if it raises, and remember why."""
        try:
            return make()
        except SoarBenchError as error:
            self.sentences.append(str(error))
            return None

    def tell(self) -> None:
        """Raise SoarBenchError with all that was remembered, if anything was."""
        sentences = list(dict.fromkeys(self.sentences))
        if len(sentences) == 1:
            raise SoarBenchError(sentences[0])
        if sentences:
            raise SoarBenchError("nothing was started: " + "; ".join(sentences))


def found(values: Iterable[Made | None]) -> list[Made]:
    """Return the values without those that :meth:`Faults.of` could not make."""
    return [value for value in values if value is not None]


class EvaluatorError(SoarBenchError):
    """A :class:`SoarBenchError` of an evaluator or its weights."""


class TrainingError(SoarBenchError):
    """A :class:`SoarBenchError` of training or its data."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return the choice that ``name`` may be a misspelling of, or an empty string."""
    return next(iter(difflib.get_close_matches(name, list(choices), n=1)), "")


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return ``; did you mean NEAREST?`` for the choice nearest to ``name``, or an empty string."""
    choice = nearest(name, choices)
    return f"; did you mean {choice}?" if choice else ""


def unknown_name(
    kind: str, name: str, choices: list[str], error: type[SoarBenchError] = SoarBenchError
) -> SoarBenchError:
    """Return the error for a ``kind`` of thing whose name is none of ``choices``."""
    hint = did_you_mean(name, choices)
    return error(f"no {kind} is named {name!r:.200}{hint} (known: {', '.join(choices)})")

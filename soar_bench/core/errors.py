"""Errors that a user can mend, and the hint for a name that was misspelled. Imports no torch."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


class SoarBenchError(Exception):
    """Error that a user can mend, in one sentence that says what is wrong and what to do."""


class Refusals:
    """Sentences of errors, so that a user hears of all at once instead of one after another."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def each(self, make: Callable[[Item], Made], items: Iterable[Item]) -> list[Made]:
        """Return ``make`` of each item. Where it raises a SoarBenchError, keep its sentence."""
        made = []
        for item in items:
            try:
                made.append(make(item))
            except SoarBenchError as error:
                self.sentences.append(str(error))
        return made

    def tell(self) -> None:
        """Raise SoarBenchError with all sentences, if there are any."""
        sentences = list(dict.fromkeys(self.sentences))
        if len(sentences) == 1:
            raise SoarBenchError(sentences[0])
        if sentences:
            raise SoarBenchError("nothing was started: " + "; ".join(sentences))


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

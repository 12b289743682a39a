"""Every evaluator by name: the built-in ones and those that installed packages bring.

A package plugs an evaluator in with an entry point of the group ``soar_bench.evaluators`` that
names an :class:`~evaluators.types.Evaluator` subclass with a constructor of no arguments.
"""

from __future__ import annotations

import difflib
from importlib import import_module
from importlib.metadata import entry_points

from evaluators.types import Evaluator, EvaluatorError

GROUP = "soar_bench.evaluators"

BUILT_IN: dict[str, str] = {
    "shapes-geneval": "evaluators.geneval.shapes:ShapesGenEval",
    "shapes-clipscore": "evaluators.shapes.clipscore:ShapesClipScore",
    "ocr": "evaluators.ocr.evaluator:OcrAccuracy",
}


def _plugged_in() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=GROUP)}


def names() -> list[str]:
    """Every known evaluator, built-in ones first."""
    return [*BUILT_IN, *(name for name in sorted(_plugged_in()) if name not in BUILT_IN)]


def create(name: str) -> Evaluator:
    """The evaluator of that name, not loaded. EvaluatorError if there is none or it is broken."""
    target = BUILT_IN.get(name) or _plugged_in().get(name)
    if target is None:
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise EvaluatorError(f"no evaluator is named {name!r}{hint} (known: {', '.join(names())})")
    module, _, attribute = target.partition(":")
    try:
        evaluator = getattr(import_module(module), attribute)()
    except Exception as error:  # a plug-in may fail in any way; its name must be in the message
        raise EvaluatorError(
            f"the evaluator {name!r} ({target}) does not import: {error!r}"
        ) from error
    if not isinstance(evaluator, Evaluator):
        raise EvaluatorError(f"the evaluator {name!r} ({target}) is no evaluators.types.Evaluator")
    return evaluator

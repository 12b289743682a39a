"""Evaluators: images and prompts in, scores out. Importing this imports no torch.

    scorer = evaluators.load("pickscore", device="cuda")
    values = scorer(images, prompts)  # float64 [B]

docs/write-an-evaluator.md shows how to score images and how to write an evaluator.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from evaluators.types import Evaluator, EvaluatorError, Metric, Sample, Score, SetEvaluator

if TYPE_CHECKING:
    from evaluators.registry import names as list
    from evaluators.scorer import Scorer
    from evaluators.testing import check_evaluator

    load = Scorer

__all__ = [
    "Evaluator",
    "EvaluatorError",
    "Metric",
    "Sample",
    "Score",
    "Scorer",
    "SetEvaluator",
    "check_evaluator",
    "list",
    "load",
]

#: Module and name of what is imported only when it is used.
_LAZY = {
    "Scorer": ("evaluators.scorer", "Scorer"),
    "check_evaluator": ("evaluators.testing", "check_evaluator"),
    "list": ("evaluators.registry", "names"),
    "load": ("evaluators.scorer", "Scorer"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LAZY[name]
    return getattr(import_module(module), attribute)

"""Check of an evaluator's declaration. Imports no torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from evaluators.types import Evaluator, Metric, SetEvaluator
from evaluators.weights import Weights

#: Names of evaluators and metrics are parts of file names, columns and commands.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
NAME_RULE = "letters, digits, '_', '-' and '.'"

_TEXTS = ("unit", "version", "source", "description")
_AGGREGATES = ("mean", "task_mean", "pooled")


def fault(evaluator: object) -> str:
    """Return the first fault of a declaration, as the end of a sentence about the evaluator.

    Empty if there is none.
    """
    return next(_faults(evaluator), "")


def _faults(evaluator: object) -> Iterator[str]:
    if not isinstance(evaluator, Evaluator):
        kind = f"of the type {type(evaluator).__name__}"
        if isinstance(evaluator, type):
            kind = f"the class {evaluator.__name__}"
        yield f"is no evaluators.types.Evaluator but {kind}"
        return
    name: Any = getattr(evaluator, "name", None)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        yield f"must have a name of {NAME_RULE}, not {name!r}"
    metrics: Any = getattr(evaluator, "metrics", None)
    if not _is_tuple_of(metrics, Metric) or not metrics:
        yield f"must declare metrics as a tuple of one or more Metrics, not {metrics!r}"
        return
    for metric in metrics:
        yield from _metric_faults(metric)
    for name, count in Counter(metric.name for metric in metrics).items():
        if count > 1:
            yield f"declares the metric {name} twice"
    dtypes: Any = evaluator.dtypes
    if not _is_tuple_of(dtypes, str) or not dtypes:
        yield f"must declare dtypes as a tuple of one or more names, not {dtypes!r}"
    if not _is_tuple_of(evaluator.weights, Weights):
        yield f"must declare weights as a tuple of Weights, not {evaluator.weights!r}"
    shares: Any = evaluator.shares
    if not isinstance(shares, str):
        yield f"must declare shares as a word, not {shares!r}"
    if not _is_tuple_of(evaluator.inputs, str):
        yield f"must declare inputs as a tuple of names of metadata, not {evaluator.inputs!r}"
    if isinstance(evaluator, SetEvaluator):
        yield from _set_faults(evaluator)


def _set_faults(evaluator: SetEvaluator) -> Iterator[str]:
    together: Any = evaluator.together
    if together not in ("prompt", "run"):
        yield f"must judge together the images of a 'prompt' or a 'run', not of {together!r}"
    fewest: Any = evaluator.fewest
    if not isinstance(fewest, int) or fewest < 1:
        yield f"must declare fewest as a number of images from 1, not {fewest!r}"


def _metric_faults(metric: Any) -> Iterator[str]:
    if not isinstance(metric.name, str) or not NAME.fullmatch(metric.name):
        yield f"must name its metrics with {NAME_RULE}, not {metric.name!r}"
    which = f"its metric {metric.name}"
    for field in _TEXTS:
        text = getattr(metric, field)
        if not isinstance(text, str) or not text.strip():
            yield f"must state the {field} of {which}"
    bounds = metric.range
    pair = isinstance(bounds, tuple) and len(bounds) == 2
    if not (pair and all(isinstance(b, int | float) for b in bounds) and bounds[0] < bounds[1]):
        yield f"must give the range of {which} as (smallest, largest), not {bounds!r}"
    if not isinstance(metric.higher_is_better, bool):
        yield f"must say True or False for higher_is_better of {which}"
    if metric.aggregate not in _AGGREGATES:
        yield f"must give the aggregate of {which} as one of {', '.join(_AGGREGATES)}"
    for flag in ("stratified", "skewed"):
        if not isinstance(getattr(metric, flag), bool):
            yield f"must say True or False for {flag} of {which}"
    if not isinstance(metric.licence, str):
        yield f"must give the licence of {which} as a text"


def _is_tuple_of(value: object, kind: type) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, kind) for item in value)


def know_code(evaluator: Evaluator, **digests: str) -> None:
    """Make the code part of the identity: who edits a formula may forget to raise the version."""
    own, code = evaluator.identity, {key: digest for key, digest in digests.items() if digest}
    vars(evaluator)["identity"] = lambda: {**own(), **code}

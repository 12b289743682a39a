"""Evaluators as a run uses them: resolved once, with what their record says. Imports no torch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from evaluators import registry
from evaluators.types import Evaluator, EvaluatorError, SetEvaluator
from soar_bench.cache.scores import Journal
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.precision import full_name
from soar_bench.suites.types import Prompt


@dataclass(frozen=True)
class Judge:
    """An evaluator, not loaded, in one precision."""

    evaluator: Evaluator
    #: name as the user typed it, or ``module:Class`` of an object
    given: str
    #: version of the package that it comes from; empty for a file
    version: str
    #: precision of its weights and activations
    dtype: str
    #: returns an evaluator to load, which is let go after its turn
    fresh: Callable[[], Evaluator]

    @classmethod
    def of(cls, evaluator: str | Evaluator, dtype: str | None = None) -> Judge:
        """Resolve a name or an object, which is copied; without that precision it works in its own.

        EvaluatorError if there is no such evaluator, or it is broken.
        """
        entry, fresh = registry.source(evaluator)
        judge = fresh()
        dtype = None if dtype is None else full_name(dtype)
        precision = dtype if dtype in judge.dtypes else judge.dtypes[0]
        return cls(judge, entry.name, entry.version, str(precision), fresh)

    @property
    def name(self) -> str:
        return self.evaluator.name

    @property
    def together(self) -> str:
        """Unit that is judged at once: a ``sample``, or the images of a ``prompt`` or a ``run``."""
        evaluator = self.evaluator
        return evaluator.together if isinstance(evaluator, SetEvaluator) else "sample"

    def can_judge(self, prompt: Prompt) -> bool:
        """Whether images of a prompt can have a score. SoarBenchError if the evaluator fails."""
        try:
            return self.evaluator.can_judge(prompt.text, copy.deepcopy(dict(prompt.metadata)))
        except Exception as error:  # of a plug-in, on metadata that it did not expect
            told = isinstance(error, EvaluatorError)
            raise SoarBenchError(
                f"the evaluator {self.given} {'cannot judge' if told else 'fails on'} the prompt "
                f"{prompt.text[:60]!r} and its metadata: "
                f"{error if told else registry.describe_error(error)}"
            ) from error

    @cached_property
    def problem(self) -> str:
        """Why it cannot run here and what to do; empty if it can."""
        return registry.cannot_run(self.evaluator)

    @cached_property
    def identity(self) -> dict[str, str]:
        """Settings that decide its values besides the metrics' versions."""
        other = {} if self.dtype == self.evaluator.dtypes[0] else {"dtype": self.dtype}
        return self.evaluator.identity() | other

    def journal(self, cache: Path, images: str) -> Journal:
        """The scores that it has given to the images of that name."""
        metrics = self.evaluator.metrics
        versions = {m.name: {"version": m.version, "aggregate": m.aggregate} for m in metrics}
        deciding = {"identity": self.identity, "metrics": versions}
        ranges = {metric.name: metric.range for metric in metrics}
        return Journal.of(cache, self.name, deciding, images, ranges)


def resolve_judges(
    evaluators: Iterable[str | Evaluator], dtype: str | None = None
) -> tuple[Judge, ...]:
    """Resolve evaluators, each once. SoarBenchError if two give one metric."""
    distinct: list[str | Evaluator] = []
    for evaluator in evaluators:
        if evaluator not in distinct:
            distinct.append(evaluator)
    judges = tuple(Judge.of(evaluator, dtype) for evaluator in distinct)
    owner: dict[str, Judge] = {}
    for judge in judges:
        for metric in judge.evaluator.metrics:
            other = owner.setdefault(metric.name, judge)
            if other is not judge:
                raise SoarBenchError(
                    f"{other.given} and {judge.given} both give the metric {metric.name}: "
                    "choose one of them"
                )
    return judges


def sharing(judges: Sequence[Judge]) -> list[list[Judge]]:
    """The judges that share a model together, the others each alone."""
    groups: dict[str, list[Judge]] = {}
    for judge in judges:
        shares = judge.evaluator.shares if judge.together == "sample" else ""
        groups.setdefault(shares or f"alone: {judge.given}", []).append(judge)
    return list(groups.values())

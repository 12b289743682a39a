"""Check of GenEval's record of a prompt.

With a misspelled class or colour no image would ever be right, so such a record gets no score.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from evaluators.geneval.colors import COLORS
from evaluators.geneval.detectors.names import OBJECT_NAMES
from evaluators.geneval.rules import RELATIONS, TASKS
from evaluators.types import EvaluatorError, Sample, Score
from soar_bench.core.errors import nearest

_CLAUSE_KEYS = {"include": ("class", "count", "color", "position"), "exclude": ("class", "count")}


def is_geneval(metadata: Mapping[str, Any]) -> bool:
    """Return whether the metadata is a record of one of the six tasks."""
    return metadata.get("tag") in TASKS


#: Score of each metric where the prompt has another task, or none.
UNSCORED = Score(None, unscored="the prompt has no GenEval task")


def check_record(sample: Sample, classes: Collection[str]) -> None:
    """Raise EvaluatorError if the sample's record cannot be judged; see :func:`what_is_wrong`."""
    wrong = what_is_wrong(sample.metadata, classes)
    if wrong is not None:
        raise EvaluatorError(
            f"GenEval's record of the prompt {sample.prompt!r} is malformed: {wrong}"
        )


def what_is_wrong(
    metadata: Mapping[str, Any], classes: Collection[str] = OBJECT_NAMES
) -> str | None:
    """Return the first fault of a record, in words; None if it can be judged.

    ``classes`` are the names that the detector knows.
    """
    include = metadata.get("include")
    if not _is_list(include) or not include:
        return "it has no include clauses"
    if not _is_list(metadata.get("exclude", [])):
        return "exclude is no list of clauses"
    for part in ("include", "exclude"):
        for number, clause in enumerate(metadata.get(part, [])):
            wrong = _wrong_clause(clause, part, number, classes)
            if wrong is not None:
                return f"{part} clause {number + 1} {wrong}"
    return None


def _wrong_clause(clause: Any, part: str, number: int, classes: Collection[str]) -> str | None:
    if not isinstance(clause, Mapping):
        return f"is {clause!r}, not a class and a count"
    allowed = _CLAUSE_KEYS[part]
    for key in clause:
        if key not in allowed:
            return f"has {key!r}; it may have {', '.join(allowed)}"
    name, count = clause.get("class"), clause.get("count")
    if name not in classes:
        return f"asks for the unknown class {name!r}{_hint(name, classes)}"
    if not _is_whole(count, 1):
        return f"has the count {count!r}, not a whole number from 1"
    if "color" in clause and clause["color"] not in COLORS:
        return f"asks for the unknown colour {clause['color']!r} (known: {', '.join(COLORS)})"
    if "position" in clause:
        return _wrong_position(clause["position"], number)
    return None


def _wrong_position(position: Any, number: int) -> str | None:
    if not _is_list(position) or len(position) != 2:
        return f"has the position {position!r}, not a relation and a clause's index"
    relation, target = position
    if relation not in RELATIONS:
        return f"asks for the unknown relation {relation!r} (known: {', '.join(RELATIONS)})"
    if not _is_whole(target, 0) or target >= number:
        return f"is {relation} clause index {target!r}, which is no clause before it"
    return None


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _hint(name: Any, names: Collection[str]) -> str:
    choice = nearest(str(name), names)
    return f" (did you mean {choice}?)" if choice else ""

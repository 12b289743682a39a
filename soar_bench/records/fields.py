"""Types of a record's fields, which keep values as they are, and the fault of a record in words.

Imports no torch and no pandas.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any

from pydantic import ConfigDict, PlainValidator, ValidationError
from pydantic_core import PydanticCustomError

#: Unknown keys are kept; a value of another type is refused.
EXTRA = ConfigDict(extra="allow", strict=True)


def _must_be(kind: str, *types: type) -> PlainValidator:
    """Check a value's type and keep the value as it is.

    pydantic's own types would refuse halves of surrogate pairs and turn the number 3 into 3.0.
    """

    def check(value: Any) -> Any:
        if not isinstance(value, types) or isinstance(value, bool):
            raise PydanticCustomError("wrong_type", "{kind}", {"kind": kind})
        return value

    return PlainValidator(check)


def _bounds(value: Any) -> tuple[float, float]:
    """Smallest and largest value; None in the file is no bound."""
    if isinstance(value, list | tuple) and len(value) == 2:
        low, high = value
        low = -math.inf if low is None else low
        high = math.inf if high is None else high
        if all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high)):
            return low, high
    raise PydanticCustomError("wrong_type", "two numbers")


Text = Annotated[str, _must_be("a text", str)]
Whole = Annotated[int, _must_be("a whole number", int)]
Number = Annotated[float, _must_be("a number", int, float)]
Bounds = Annotated[tuple[float, float], PlainValidator(_bounds)]


def fault(error: ValidationError) -> str:
    """Return the fault of a record, as the end of a sentence that begins with its file."""
    errors: list[Any] = list(error.errors(include_url=False))
    paths = [".".join(str(key) for key in e["loc"] if key != "[key]") for e in errors]
    lacking = [e["msg"] if e["type"] == "lacking" else path
               for e, path in zip(errors, paths, strict=True)
               if e["type"] in ("missing", "lacking")]  # fmt: skip
    if lacking:
        return f"lacks {', '.join(lacking)}: it is damaged, run that eval again"
    first = {"path": paths[0], "value": errors[0]["input"]} | errors[0].get("ctx", {})
    value = json.dumps(first["value"], default=repr)[:60]
    kind = _KINDS.get(errors[0]["type"], errors[0]["msg"])
    return f"is damaged: {first['path']} is {value}, not {kind}; run that eval again"


#: What pydantic's own errors ask for, in words.
_KINDS = {
    "model_type": "an object",
    "dict_type": "an object",
    "too_short": "an object with at least one entry",
    "bool_type": "true or false",
    "literal_error": "mean or task_mean",
}

"""Names of floating-point precisions: torch's own, and the short ones that trainers use."""

from __future__ import annotations

_SHORT = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
#: torch's names.
PRECISIONS = tuple(_SHORT.values())


def full_name(name: str) -> str:
    """Return torch's name of a precision; any other name as it is."""
    return _SHORT.get(name, name)

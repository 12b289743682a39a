"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum


class Precision(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def split(given: Sequence[str]) -> list[str]:
    """Names given one by one, with commas between them, or both."""
    return [name.strip() for part in given for name in part.split(",") if name.strip()]

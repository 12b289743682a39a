"""Settings that differ between two records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def differences(left: Any, right: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (dotted name, left value, right value) of each setting that is not the same in both."""
    if isinstance(left, dict) and isinstance(right, dict):
        for key in sorted(left.keys() | right.keys()):
            inner = f"{name}.{key}" if name else key
            yield from differences(left.get(key), right.get(key), inner)
    elif left != right:
        yield name, left, right

"""Text for files, terminals and errors: JSON, what UTF-8 can hold, counts and short lists."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any


def json_text(value: Any) -> str:
    """Return a JSON value as a file of this project: indented, sorted, with a last newline.

    NaN and infinities become null, halves of surrogate pairs their escape, so that the text can be
    written in UTF-8.
    """
    text = json.dumps(_finite(value), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return encodable(text) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def encodable(text: str) -> str:
    """Return the text with halves of surrogate pairs, which UTF-8 cannot hold, as their escape."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def is_unicode(value: Any) -> bool:
    """Return whether a value is a text without halves of surrogate pairs."""
    return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)


def printable(text: str) -> str:
    """Return the text on one line; what would move the cursor or change colours is escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def count(number: int, noun: str, plural: str = "") -> str:
    """Return ``1 prompt``, ``2 prompts``, ``1,000 prompts``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def first_few(names: Sequence[str], most: int = 3) -> str:
    """Return up to ``most`` names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def short_json(value: Any) -> str:
    """Return a value as JSON of at most 40 characters, for an error."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:39] + "…"

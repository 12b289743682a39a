"""Text for files, terminals and errors: JSON, what UTF-8 can hold, counts and short lists."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Container, Sequence
from typing import Any


def json_text(value: Any) -> str:
    """Return a JSON value as a file of this project: indented, sorted, with a last newline.

    NaN and infinities become null, halves of surrogate pairs their escape, so that the text can be
    written in UTF-8.
    """
    text = json.dumps(_finite(value), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return encodable(text) + "\n"


def parse_json(text: str | bytes) -> Any:
    """Return the JSON value in a text. ValueError if it is none, or nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


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


#: Characters that move the cursor, change colours or the order of letters, or cannot be written.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Return the text on one line: control characters and halves of pairs are escaped."""
    return _CONTROL.sub(_escape, text)


def printable_lines(text: str) -> str:
    """Return :func:`printable` text in which line feeds and tabs stay."""
    return _CONTROL.sub(lambda match: match[0] if match[0] in "\n\t" else _escape(match), text)


def _escape(match: re.Match[str]) -> str:
    return repr(match[0])[1:-1]


#: Begins of texts that spreadsheet programs take for formulas, as wide signs too.
_FORMULA = re.compile("[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


def csv_text(text: str) -> str:
    """Return a text for a cell of CSV: one that begins as a formula gets an apostrophe before it,
    so that spreadsheet programs show it.
    """
    return f"'{text}" if _FORMULA.match(text) else text


def from_csv(text: str) -> str:
    """Return the text that :func:`csv_text` was given."""
    return text[1:] if text[:1] == "'" and _FORMULA.match(text[1:]) else text


def count(number: int, noun: str, plural: str = "") -> str:
    """Return ``1 prompt``, ``2 prompts``, ``1,000 prompts``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def human(size: int | None) -> str:
    """Return a size as people write it, in powers of ten; ``?`` where it is not known."""
    if size is None:
        return "?"
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"


def aligned(lines: Sequence[Sequence[str]], right: Container[int] = ()) -> list[str]:
    """Return lines of cells as text in columns; those numbered in ``right`` end together."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]


def first_few(names: Sequence[str], most: int = 3) -> str:
    """Return up to ``most`` names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def short_json(value: Any) -> str:
    """Return a value as JSON of at most 40 characters, for an error."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:39] + "…"

"""Markdown tables of text that may come from anywhere."""

from __future__ import annotations

from collections.abc import Sequence

_ESCAPED = str.maketrans(
    {c: "\\" + c for c in "\\`*_[]|"}
    | {"<": "&lt;", ">": "&gt;", "&": "&amp;", "\n": " ", "\r": " "}
)


def escape(text: str) -> str:
    """Return text that shows as itself in a table cell, in Markdown and in the HTML made of it."""
    return text.translate(_ESCAPED)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Return a Markdown table; the columns numbered in ``right`` are aligned to the right."""
    rule = "|".join("---:" if i in right else "---" for i in range(len(header)))
    first, *others = ["| " + " | ".join(row) + " |" for row in (header, *rows)]
    return "\n".join([first, f"|{rule}|", *others]) + "\n"

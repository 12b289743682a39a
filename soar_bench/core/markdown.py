"""Markdown tables of text that may come from anywhere."""

from __future__ import annotations

from collections.abc import Sequence

_ESCAPED = str.maketrans(
    {c: "\\" + c for c in "\\`*_[]|"}
    | {"<": "&lt;", ">": "&gt;", "&": "&amp;", "\n": " ", "\r": " "}
)


def escape(text: str) -> str:
    """Text that shows as itself inside a table cell, in Markdown and in the HTML made of it."""
    return text.translate(_ESCAPED)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """A Markdown table; the columns numbered in ``right`` are aligned to the right."""
    lines = ["| " + " | ".join(header) + " |"]
    lines.append("|" + "|".join("---:" if i in right else "---" for i in range(len(header))) + "|")
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"

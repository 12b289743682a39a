"""Markdown tables of text that may come from anywhere."""

from __future__ import annotations

from collections.abc import Sequence


def escape(text: str) -> str:
    """Text that shows as itself inside a table cell, in Markdown and in the HTML made of it."""
    for character in "\\`*_[]<>&|":
        text = text.replace(
            character, "\\" + character if character not in "<>&" else _ENTITY[character]
        )
    return text.replace("\r", " ").replace("\n", " ")


_ENTITY = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """A Markdown table; the columns numbered in ``right`` are aligned to the right."""
    lines = ["| " + " | ".join(header) + " |"]
    lines.append("|" + "|".join("---:" if i in right else "---" for i in range(len(header))) + "|")
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"

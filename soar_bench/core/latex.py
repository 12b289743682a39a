"""LaTeX tables of text that may come from anywhere."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_ESCAPED = str.maketrans(
    {c: "\\" + c for c in "&%$#_{}"}
    | {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\textquotedbl{}",
        # At the start of a line after \\ a bracket would be read as its option.
        "[": "{[}",
        "]": "{]}",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
        "±": r"$\pm$",
        "†": r"$\dagger$",
    }
)


def escape(text: str) -> str:
    """Text that LaTeX sets as itself inside a table cell; control characters become spaces."""
    plain = "".join(" " if unicodedata.category(c).startswith("C") else c for c in text)
    return " ".join(plain.translate(_ESCAPED).split())


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], columns: str, lines: Sequence[int] = ()
) -> str:
    """A tabular with the rules of the package booktabs. Cells are LaTeX; ``columns`` is l, r or c a
    column; a rule stands above each row numbered in ``lines``.
    """
    text = ["% needs \\usepackage{booktabs}", f"\\begin{{tabular}}{{{columns}}}", "\\toprule"]
    text += [" & ".join(header) + r" \\", "\\midrule"]
    for i, row in enumerate(rows):
        if i in lines:
            text.append("\\midrule")
        text.append(" & ".join(row) + r" \\")
    text += ["\\bottomrule", "\\end{tabular}"]
    return "\n".join(text) + "\n"

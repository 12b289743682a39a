"""LaTeX tables of text that may come from anywhere."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_TEXT = {"\\": "backslash", "~": "asciitilde", "^": "asciicircum", "<": "less", ">": "greater"}
_TEXT |= {"|": "bar"}
_MATH = {"↑": "uparrow", "↓": "downarrow", "±": "pm", "†": "dagger"}
_ESCAPED = str.maketrans(
    {c: "\\" + c for c in "&%$#_{}"}
    | {c: f"\\text{name}{{}}" for c, name in _TEXT.items()}
    | {c: f"$\\{name}$" for c, name in _MATH.items()}
    # Upright in every encoding of fonts; two of the others would become one sign.
    | {'"': r"{\ttfamily\char34}", "'": "{'}", "`": "{`}"}
    # At the start of a line after \\ a bracket would be read as its option.
    | {"[": "{[}", "]": "{]}"}
)


#: The last letter that pdflatex sets without more packages.
_LAST = "\u024f"


def escape(text: str) -> str:
    """Return text that LaTeX sets as itself in a table cell; control characters become spaces."""
    plain = "".join(" " if unicodedata.category(c).startswith("C") else c for c in text)
    return re.sub("-(?=-)", "-{}", " ".join(plain.translate(_ESCAPED).split()))


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], columns: str, lines: Sequence[int] = ()
) -> str:
    """Return a tabular with the rules of the package booktabs. Cells are LaTeX; ``columns`` is l, r
    or c per column; a rule stands above each row numbered in ``lines``.
    """
    needs = ["% needs \\usepackage{booktabs}"]
    if any(c > _LAST and not "\u2010" <= c <= "\u2027" for row in rows for c in "".join(row)):
        needs.append("% needs xelatex or lualatex, and a font with the letters of its names")
    text = [*needs, f"\\begin{{tabular}}{{{columns}}}", "\\toprule"]
    text += [" & ".join(header) + r" \\", "\\midrule"]
    for i, row in enumerate(rows):
        text += ["\\midrule"] * (i in lines) + [" & ".join(row) + r" \\"]
    return "\n".join([*text, "\\bottomrule", "\\end{tabular}"]) + "\n"

"""A comparison as LaTeX tables: those of a paper, and long ones with every difference."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import groupby

from soar_bench.boards import words
from soar_bench.boards.board import Board
from soar_bench.boards.rows import BETTER, NO_EVIDENCE, WORSE, Row
from soar_bench.core import latex
from soar_bench.core.text import count

_MARKS = {BETTER: "$^{*}$", WORSE: "$^{\\dagger}$"}
_LONG = ("checkpoint", "value", "difference", "p", "detect", "verdict")
_TEXT = ("checkpoint", "verdict")
#: Columns of values from which on errors stand below the values.
_MANY = 5
#: Makes a wide table fit a column of text.
_SMALL = ("\\footnotesize", "\\setlength{\\tabcolsep}{4pt}")


def paper_tables(
    board: Board, rows: Sequence[Row], parts: Sequence[Row], by: str, notes: Sequence[str]
) -> str:
    """Return a ``table`` of all metrics and, by the column ``by``, one of each metric's ``parts``,
    with captions and labels; needs booktabs. ``notes`` are comments above them.

    The best value of a column is bold, as are those that look the same; a mark says that a value is
    significantly better or worse than the first checkpoint's.
    """
    record = board.entrants[0].first.record
    number = record.suite.images_per_prompt
    images = f"{number:g} image{'' if number == 1 else 's'} each"
    title = latex.escape(record.title)
    label = f"{record.suite.name}-{record.protocol.name}"
    names = [latex.escape(words.line(entrant.name)) for entrant in board.entrants]
    columns = {_metric(of[0]): of for of in _grouped(rows)}
    about = f"{title}: {record.suite.prompts} prompts, {images}"
    tables = [_float(names, columns, about, words.family(rows), label)]
    for of_metric in _by_metric(parts):
        columns = {latex.escape(of[0].category): of for of in _grouped(of_metric)}
        sizes = ", ".join(f"{of[0].value.prompts}" for of in columns.values())
        about = f"{title}: {_metric(of_metric[0])} by {latex.escape(words.line(by))}"
        family = words.family(of_metric, "categories")
        of_part = f"{label}-{of_metric[0].metric}-{by}"
        tables.append(_float(names, columns, f"{about} ({sizes} prompts)", family, of_part))
    return _comments(notes) + "\n".join(tables)


def long_tables(rows: Sequence[Row], parts: Sequence[Row], by: str, notes: Sequence[str]) -> str:
    """Return a tabular with a row per metric and checkpoint and its difference and, by the column
    ``by``, one of each metric's ``parts``; needs booktabs. ``notes`` are comments above them.
    """
    return _comments(notes) + "\n".join(_long(of, by) for of in [rows, *_by_metric(parts)])


def _by_metric(rows: Sequence[Row]) -> list[list[Row]]:
    return [list(of_metric) for _, of_metric in groupby(rows, key=lambda row: row.metric)]


def _grouped(rows: Sequence[Row]) -> list[list[Row]]:
    """Return rows that follow each other, by metric and category."""
    return [list(of) for _, of in groupby(rows, key=lambda row: (row.metric, row.category))]


def _comments(notes: Sequence[str]) -> str:
    return "".join(f"% {words.line(sentence)}\n" for sentence in notes)


def _metric(row: Row) -> str:
    return latex.escape(words.cells(row)["metric"])


def _float(
    names: Sequence[str], columns: Mapping[str, Sequence[Row]], about: str, family: str, label: str
) -> str:
    """Return a table with caption and label; the rows of a column are the checkpoints."""
    values, errors = zip(*map(_column, columns.values()), strict=True)
    many = len(columns) >= _MANY
    body = []
    for i, name in enumerate(names):
        if many:
            body.append([name, *(column[i] for column in values)])
            body.append(["", *(f"{{\\scriptsize{column[i]}}}" for column in errors)])
        else:
            body.append([name, *(v[i] + e[i] for v, e in zip(values, errors, strict=True))])
    tabular = latex.table(["checkpoint", *columns], body, "l" + "r" * len(columns))
    caption = f"{about}; $\\pm$ is the standard error over prompts and seeds, the best is bold."
    rows = [row for column in columns.values() for row in column]
    marked = [word for word in _MARKS if any(row.verdict.startswith(word) for row in rows)]
    if marked:
        marks = " and ".join(f"{_MARKS[word]} significantly {word}" for word in marked)
        level = f"{100 - 100 * rows[0].level:g}\\%"
        caption += f" {marks} than {names[0]} ({level}, {family})."
    name = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
    head = ["\\begin{table}[t]", "\\centering", f"\\caption{{{caption}}}"]
    head += [f"\\label{{tab:{name}}}", *(_SMALL if many else ())]
    return "\n".join([*head, tabular.rstrip("\n"), "\\end{table}"]) + "\n"


def _column(rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    """Return the values and the errors of one column, entrant by entrant."""
    sign = 1 if rows[0].higher_is_better else -1
    scored = [sign * row.value.value for row in rows if row.value.scored]
    best = f"{max(scored):.3f}" if scored else ""
    values, errors = [], []
    for row in rows:
        number, _, error = words.format_value(row.value).partition(" ± ")
        if row.value.scored and f"{sign * row.value.value:.3f}" == best:
            number = f"\\textbf{{{number}}}"
        mark = next((m for word, m in _MARKS.items() if row.verdict.startswith(word)), "")
        number = number.replace("-", "$-$") if not math.isnan(row.value.value) else number
        values.append(number + mark)
        errors.append(f" $\\pm$ {error}" if error else "")
    return values, errors


def _long(rows: Sequence[Row], by: str) -> str:
    """Return one tabular, its groups under their names across all columns."""
    titles = {key: title for key, title in words.header(rows, by).items() if key in _LONG}
    body: list[list[str]] = []
    starts: list[int] = []
    for group in _grouped(rows):
        starts.append(len(body))
        name = _metric(group[0])
        if group[0].category:
            prompts = count(group[0].value.prompts, "prompt")
            name += f", {latex.escape(group[0].category)}: {prompts}"
        body.append([f"\\multicolumn{{{len(titles)}}}{{l}}{{{name}}}"])
        for row in group:
            texts = words.cells(row)
            body.append([_cell(key, texts[key]) for key in titles])
    columns = "".join("l" if key in _TEXT else "r" for key in titles)
    tabular = latex.table([_cell(*t) for t in titles.items()], body, columns, starts[1:])
    return "\\noindent{" + "\n".join(_SMALL) + f"\n{tabular}}}\n"


def _cell(key: str, text: str) -> str:
    """Return a cell; signs of numbers are set as minus signs, a dash as one."""
    if key == "p" and text.startswith("<"):
        return f"${text}$"
    if key == "verdict":
        text = text.replace(NO_EVIDENCE, "no evidence")
    if key not in _TEXT and text == "-":
        return "--"
    signed = key == "difference" and text[:1] in ("+", "-")
    return latex.escape(text).replace("-", "$-$") if signed else latex.escape(text)

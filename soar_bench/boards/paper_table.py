"""A comparison as the table of a paper, in LaTeX: a row per checkpoint, a column per metric."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from soar_bench.boards import words
from soar_bench.boards.board import Board
from soar_bench.boards.rows import BETTER, WORSE, Row
from soar_bench.core import latex

_MARKS = {BETTER: "$^{*}$", WORSE: "$^{\\dagger}$"}


def paper_table(board: Board, rows: Sequence[Row], notes: Sequence[str]) -> str:
    """Return a ``table`` with caption and label; needs booktabs. ``notes`` are comments above it.

    The best value of a metric is bold, as are those that look the same; a mark says that a value is
    significantly better or worse than the first checkpoint's.
    """
    by_metric: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_metric.setdefault(row.metric, {})[row.entrant] = row
    header = ["checkpoint"]
    columns = []
    for metric, of_metric in by_metric.items():
        column = list(of_metric.values())
        header.append(latex.escape(f"{words.line(metric)} {words.arrow(column[0])}"))
        columns.append(_column(column))
    names = [entrant.name for entrant in board.entrants]
    body = [
        [latex.escape(words.line(name)), *(column[i] for column in columns)]
        for i, name in enumerate(names)
    ]
    comments = "".join(f"% {words.line(sentence)}\n" for sentence in notes)
    tabular = latex.table(header, body, "l" + "r" * len(columns))
    record = board.entrants[0].first.record
    label = re.sub(r"[^a-z0-9]+", "-", f"{record.suite.name}-{record.protocol.name}".lower())
    lines = ["\\begin{table}[t]", "\\centering", f"\\caption{{{_caption(board, rows)}}}"]
    lines += [f"\\label{{tab:{label.strip('-')}}}", tabular.rstrip("\n"), "\\end{table}"]
    return comments + "\n".join(lines) + "\n"


def _column(rows: Sequence[Row]) -> list[str]:
    """Return the cells of one metric, entrant by entrant."""
    sign = 1 if rows[0].higher_is_better else -1
    scored = [sign * row.value.value for row in rows if row.value.scored]
    best = f"{max(scored):.3f}" if scored else ""
    cells = []
    for row in rows:
        value = words.format_value(row.value)
        number, _, error = value.partition(" ± ")
        if row.value.scored and f"{sign * row.value.value:.3f}" == best:
            number = f"\\textbf{{{number}}}"
        mark = next((m for word, m in _MARKS.items() if row.verdict.startswith(word)), "")
        number = number.replace("-", "$-$") if not math.isnan(row.value.value) else number
        cells.append(number + mark + (f" $\\pm$ {error}" if error else ""))
    return cells


def _caption(board: Board, rows: Sequence[Row]) -> str:
    record = board.entrants[0].first.record
    suite, protocol = latex.escape(record.suite.name), latex.escape(record.protocol.name)
    number = record.suite.images_per_prompt
    images = f"{number:g} image{'' if number == 1 else 's'} each"
    caption = f"{suite} under {protocol}: {record.suite.prompts} prompts, {images}; "
    caption += "$\\pm$ is the standard error over prompts and seeds, the best value is bold."
    marked = [word for word in _MARKS if any(row.verdict.startswith(word) for row in rows)]
    if marked:
        reference = latex.escape(words.line(board.entrants[0].name))
        marks = " and ".join(f"{_MARKS[word]} significantly {word}" for word in marked)
        level = f"{100 - 100 * rows[0].level:g}\\%"
        caption += f" {marks} than {reference} ({level}, {latex.escape(words.family(rows))})."
    return caption

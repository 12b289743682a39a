"""Comparisons, of one board or of several, on a terminal and in files."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from soar_bench.boards.comparison import Comparison
from soar_bench.boards.words import line
from soar_bench.core import markdown
from soar_bench.core.terminal import new_console
from soar_bench.core.text import csv_text, json_text
from soar_bench.output.tables import agreement_table, comparison_table


def title(comparison: Comparison) -> str:
    """Name the board."""
    return line(comparison.board.entrants[0].first.record.title)


def print_comparisons(comparisons: Sequence[Comparison]) -> None:
    """Print the comparisons on the terminal, each under its board's name if there are several."""
    console = new_console(highlight=False)
    for number, comparison in enumerate(comparisons):
        if len(comparisons) > 1:
            console.print(("\n" * (number > 0)) + title(comparison), markup=False, style="bold")
        console.print(comparison_table(comparison.rows, console.width))
        if comparison.parts:
            console.print(f"by {line(comparison.by)}\n", markup=False, style="bold")
            console.print(comparison_table(comparison.parts, console.width))
        if judges := comparison.agreements:
            console.print(agreement_table(judges), "")
        for sentence in comparison.notes:
            console.print(sentence, markup=False, style="dim")


def text_of(comparisons: Sequence[Comparison], form: str) -> str:
    """Return the comparisons as ``markdown``, ``latex``, ``latex-long``, ``csv`` or ``json``.

    Several boards are sections; in CSV, columns ``suite`` and ``protocol`` come first; in JSON,
    they are a list.
    """
    if len(comparisons) == 1:
        return _of_one(comparisons[0], form)
    if form == "csv":
        frames = []
        for comparison in comparisons:
            record = comparison.board.entrants[0].first.record
            frame = comparison.to_frame_of_text()
            frame.insert(0, "suite", csv_text(line(record.suite.name)))
            frame.insert(1, "protocol", csv_text(line(record.protocol.name)))
            frames.append(frame)
        return pd.concat(frames).to_csv(index=False, lineterminator="\n")
    if form == "json":
        boards = []
        for comparison in comparisons:
            record = comparison.board.entrants[0].first.record
            names = {"suite": record.suite.name, "protocol": record.protocol.name}
            boards.append(names | comparison.to_dict())
        return json_text(boards)
    parts = []
    for comparison in comparisons:
        name = title(comparison)
        head = f"## {markdown.escape(name)}\n\n" if form == "markdown" else f"% {name}\n"
        parts.append(head + _of_one(comparison, form))
    return "\n".join(parts)


def _of_one(comparison: Comparison, form: str) -> str:
    if form == "latex-long":
        return comparison.to_latex(long=True)
    text: str = getattr(comparison, f"to_{form}")()
    return text

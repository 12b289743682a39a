"""Tables for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Literal

from rich.cells import cell_len
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from soar_bench.boards.agreement import JUDGES, Agreement
from soar_bench.boards.board import Board
from soar_bench.boards.entrants import Entrant
from soar_bench.boards.rows import BETTER, WORSE, Row
from soar_bench.boards.words import cells, details, format_value, header, line
from soar_bench.doctor import Finding
from soar_bench.records import Run
from soar_bench.records.labels import told_apart


def run_table(runs: Sequence[Run]) -> Group:
    """Return a title and a table per suite and protocol: one row per run and metric."""
    tables: dict[str, Table] = {}
    labels = told_apart([run.record.checkpoint.named for run in runs])
    for run, label in zip(runs, labels, strict=True):
        place = line(run.record.title)
        if place not in tables:
            tables[place] = Table(box=None, pad_edge=False)
            tables[place].add_column("checkpoint", overflow="fold")
            for name in ("metric", "value ± s.e.", "n", "unscored"):
                tables[place].add_column(name, no_wrap=True)
        board = Board.of([Entrant(run.name, (run,))])
        for name in board.metrics:
            value = board.value(0, name)
            numbers = (format_value(value), str(value.scored), str(value.unscored))
            tables[place].add_row(escape(label), escape(name), *numbers)
    # a table's own title would be folded to its width
    return Group(*(part for place in tables for part in (Text(place, "italic"), tables[place])))


_INDENT = 4
#: Space for a checkpoint's name at most; longer ones have a line of their own.
_LONGEST_NAME = 24
_STYLES = {BETTER: "green", WORSE: "red"}


def comparison_table(rows: Sequence[Row], width: int = 80) -> Text:
    """Return the rows of a comparison: under each metric's name, numbers in columns and, below
    each, the same in words, wrapped at ``width`` characters.
    """
    titles = header(rows)
    columns = ("checkpoint", "value", "difference", "p")
    texts = [cells(row) for row in rows]
    widths = {key: max(cell_len(row[key]) for row in [titles, *texts]) for key in columns}
    widths["checkpoint"] = min(widths["checkpoint"], _LONGEST_NAME)

    def columned(text: Mapping[str, str]) -> str:
        name = text["checkpoint"]
        if cell_len(name) > _LONGEST_NAME:
            name += "\n  " + " " * widths["checkpoint"]
        name += " " * (widths["checkpoint"] - cell_len(text["checkpoint"]))
        rest = ["  " + " " * (widths[k] - cell_len(text[k])) + text[k] for k in columns[1:]]
        return "  " + name + "".join(rest)

    page = Text().append(columned(titles) + "\n", style="bold")
    for i, (row, text) in enumerate(zip(rows, texts, strict=True)):
        if i == 0 or (rows[i - 1].metric, rows[i - 1].category) != (row.metric, row.category):
            category = f", {text['category']}" if row.category else ""
            page.append(f"\n{text['metric']}{category}", style="bold")
            page.append(f"  {line(row.unit)}\n")
        page.append(columned(text) + "\n")
        parts = details(row)
        if not parts:
            continue
        lines = textwrap.wrap(
            "; ".join(parts), max(width - 1, 20),
            initial_indent=" " * _INDENT, subsequent_indent=" " * _INDENT,
        )  # fmt: skip
        below = Text("\n".join(lines) + "\n", style="dim")
        if row.verdict:
            style = next((s for word, s in _STYLES.items() if row.verdict.startswith(word)), "bold")
            below.stylize(f"not dim {style}", _INDENT, _INDENT + len(parts[0]))
        page.append_text(below)
    return page


def agreement_table(agreements: Sequence[Agreement]) -> Table:
    """Return a row per checkpoint and two judges of right and wrong."""
    table = Table(box=None, pad_edge=False, title=JUDGES, title_justify="left", title_style="bold")
    rows = [agreement.cells() for agreement in agreements]
    for number, title in enumerate(rows[0]):
        names = number < 2
        justify: Literal["left", "right"] = "left" if names else "right"
        table.add_column(escape(title), overflow="fold", justify=justify, no_wrap=not names)
    for row in rows:
        table.add_row(*(escape(line(text)) for text in row.values()))
    return table


_COLORS = {"ok": "green", "absent": "yellow", "broken": "red"}


def doctor_tables(findings: Sequence[Finding]) -> list[Table]:
    """Return one table per section, for one screen.

    Absent packages that one command installs share a line, absent weights another, and an
    evaluator's golden check is in its row.
    """
    golden = {f.name: f for f in findings if f.section == "golden"}
    tables = []
    for section in dict.fromkeys(f.section for f in findings if f.section != "golden"):
        checked = section == "evaluators" and bool(golden)
        table = Table(box=None, pad_edge=False, title=section, title_justify="left")
        table.show_header = checked
        for title in ("", "", *(["golden"] if checked else [])):
            table.add_column(title, no_wrap=True)
        table.add_column("", overflow="fold")
        by_command: dict[str, list[str]] = {}
        for finding in (f for f in findings if f.section == section):
            name, text = finding.name, finding.text
            if finding.state == "absent" and section in ("packages", "weights"):
                command = text.partition(": pip")[2] if section == "packages" else ""
                by_command.setdefault(command, []).append(name)
                continue
            row = [_state(finding), escape(name)]
            if checked:
                check = golden.get(name)
                row.append("" if check is None or check.state == "absent" else _state(check))
                text += f"; {check.text}" if check and check.state == "broken" else ""
            table.add_row(*row, escape(text))
        for command, names in by_command.items():
            install = f": pip{command}" if command else ""
            text = (
                ", ".join(names) + install
                if section == "packages"
                else f"soar-bench fetch {' '.join(names)}"
            )
            table.add_row(f"[{_COLORS['absent']}]absent[/]", "", escape(text))
        tables.append(table)
    return tables


def _state(finding: Finding) -> str:
    return f"[{_COLORS[finding.state]}]{finding.state}[/]"

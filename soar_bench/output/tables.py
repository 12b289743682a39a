"""Tables for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
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
from soar_bench.boards.words import (
    cells,
    details,
    format_scored,
    format_value,
    header,
    line,
)
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
            for name in ("metric", "value ± s.e.", "n"):
                tables[place].add_column(name, no_wrap=True)
        board = Board.of([Entrant(run.name, (run,))])
        for name in board.metrics:
            value = board.value(0, name)
            tables[place].add_row(
                escape(label), escape(name), format_value(value), format_scored(value)
            )
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
    room = width - sum(widths[key] + 2 for key in columns[1:]) - 3
    widths["checkpoint"] = min(widths["checkpoint"], _LONGEST_NAME, max(room, 0))

    def columned(text: Mapping[str, str]) -> str:
        name = text["checkpoint"]
        if cell_len(name) > widths["checkpoint"]:
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


def doctor_screen(findings: Sequence[Finding], width: int = 80) -> Text:
    """Return the findings by section, in lines of ``width`` characters.

    Absent packages that one command installs share a line, absent weights another, and an
    evaluator's golden check is in its row.
    """
    golden = {f.name: f for f in findings if f.section == "golden"}
    page = Text()
    sections = ("evaluators" if f.section == "golden" else f.section for f in findings)
    for section in dict.fromkeys(sections):
        rows: list[tuple[str, str, str, str]] = []  # state, name, golden check, text
        by_command: dict[str, list[str]] = {}
        checked = section == "evaluators" and bool(golden)
        of_section = [f for f in findings if f.section == section]
        if section == "evaluators":  # a form of names has a check and no evaluator
            named = {f.name for f in of_section}
            of_section += [check for name, check in golden.items() if name not in named]
        for finding in of_section:
            name, text = finding.name, finding.text
            if finding.state == "absent" and section in ("packages", "weights"):
                _, pip, command = text.partition("pip")
                by_command.setdefault(pip + command if section == "packages" else "", []).append(
                    name
                )
                continue
            check = golden.get(name) if checked else None
            if check and check is not finding and check.state == "broken":
                text += f"; {check.text}"
            of_check = check.state if check and check.state != "absent" else ""
            rows.append((finding.state, name, of_check, text))
        for command, names in by_command.items():
            fetch = f"soar-bench fetch {' '.join(names)}"
            shared = ("", fetch) if section == "weights" else (", ".join(names), command)
            rows.append(("absent", shared[0], "", shared[1]))
        page.append(f"{section}\n", "italic")
        page.append_text(_aligned(rows, checked, width))
    return page


def _aligned(rows: Sequence[tuple[str, str, str, str]], checked: bool, width: int) -> Text:
    """Return rows of state, name, golden check and text; a text that does not fit beside the others
    has lines of its own below.
    """
    names = max((len(name) for _, name, _, text in rows if text and "," not in name), default=0)
    page = Text()
    if checked:
        page.append(f"{'':8}{'':{names}}  golden\n", "bold")
    wrap = partial(
        textwrap.wrap, width=max(width - 8, 30), break_long_words=False, break_on_hyphens=False
    )
    for state, name, check, text in rows:
        beside, *below = [*wrap(name), *wrap(text)]
        first = Text(f"{state:8}", _COLORS[state]).append(f"{beside:{names}}", "default")
        if checked:
            first.append(f"  {check:6}", _COLORS.get(check, "default"))
        if beside == name and len(first) + 2 + len(text) <= width:
            first.append(f"  {text}", "default")
            below = []
        first.rstrip()
        page.append_text(first).append("".join(f"\n{'':8}{line}" for line in below) + "\n")
    return page

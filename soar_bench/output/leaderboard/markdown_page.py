"""The leaderboard in Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from soar_bench.boards.standings import Figure, Leaderboard, Standing
from soar_bench.core.markdown import escape, table
from soar_bench.output.leaderboard import words

_WIDTH = 100


def page_of(boards: Sequence[Leaderboard], results: Path, page: Path) -> str:
    """Return the page's text; links to the records are relative to ``page``."""
    folder = escape(words.relative(results, page))
    made = f"Made from the records in {folder} by `soar-bench leaderboard`; do not edit."
    parts = [f"# {words.TITLE}\n", _wrapped(f"{made} {words.ABOUT[0]}")]
    parts += map(_wrapped, words.ABOUT[1:])
    for board in boards:
        parts += _board(board, page)
    further = words.further_table(boards)
    if words.has_published(boards) or further[1]:
        parts += [f"## {words.PUBLISHED_TITLE}\n"]
    if words.has_published(boards):
        parts += [_wrapped(words.PUBLISHED_ABOUT), _plain(words.PAPER)]
        parts += [f"{words.PUBLISHED_ONE_REWARD}\n", _plain(words.REWARDS)]
    if further[1]:
        parts += [f"{words.FURTHER_TITLE}\n", _plain(further)]
    return "\n".join(parts)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False) + "\n"


def _board(board: Leaderboard, page: Path) -> list[str]:
    primary = board.primary
    header = ["rank", "checkpoint", "seeds", f"{escape(primary)} {words.arrow(board, primary)}"]
    header += [*(["difference"] if board.has_base else []), "n", "unscored", "date", "records"]
    rows = []
    for row in board.rows:
        cell = row.cells[primary]
        cells = [words.rank(row), escape(row.name), str(len(row.runs)), words.value(cell.value)]
        cells += [_difference(cell.difference)] if board.has_base else []
        cells += [str(cell.value.scored), str(cell.value.unscored), row.date or "-"]
        rows.append([*cells, _links(row, page)])
    parts = [f"## {escape(words.title(board))}\n", f"{escape(words.facts(board))}\n"]
    parts.append(table(header, rows, right=(2, len(header) - 4, len(header) - 3)))
    if words.others(board):
        parts += ["Other metrics:\n", _others(board)]
    for number, breakdown in enumerate(board.breakdowns):
        parts.append(f"{escape(breakdown.metric)} by {escape(breakdown.column)}:\n")
        parts.append(_breakdown(board, number))
    if board.note:
        parts.append(f"{escape(board.note)}\n")
    if board.beside:
        parts += [f"{words.IMPORTED_BESIDE}\n", _imported(board, page)]
    if board.published:
        parts += [f"{words.PUBLISHED_BESIDE}\n", _plain(words.published_table(board.published))]
    return parts


def _others(board: Leaderboard) -> str:
    header, rows = ["checkpoint"], [[escape(row.name)] for row in board.rows]
    for name in words.others(board):
        header.append(f"{escape(name)} {words.arrow(board, name)}")
        header += ["difference"] if board.has_base else []
        for cells, row in zip(rows, board.rows, strict=True):
            cells.append(_with_unscored(row.cells[name].value))
            cells += [_difference(row.cells[name].difference)] if board.has_base else []
    return table(header, rows)


def _breakdown(board: Leaderboard, number: int) -> str:
    rows = [[escape(row.name), *map(words.value, row.parts[number])] for row in board.rows]
    return table(["checkpoint", *map(escape, board.breakdowns[number].titles)], rows)


def _imported(board: Leaderboard, page: Path) -> str:
    names = list(dict.fromkeys(name for row in board.beside for name in row.cells))
    rows = []
    for row in board.beside:
        cells = [_with_unscored(row.cells[n].value) if n in row.cells else "-" for n in names]
        rows.append([escape(row.name), *cells, row.date or "-", _links(row, page)])
    return table(["checkpoint", *map(escape, names), "date", "records"], rows)


def _plain(header_and_rows: tuple[list[str], list[list[str]]]) -> str:
    header, rows = header_and_rows
    return table(
        [escape(text) for text in header], [[escape(text) for text in row] for row in rows]
    )


def _with_unscored(figure: Figure) -> str:
    return words.value(figure) + (f" (+{figure.unscored} unscored)" if figure.unscored else "")


def _difference(figure: Figure | None) -> str:
    text = words.difference(figure)
    return f"**{text}**" if words.stands_out(figure) else text


def _links(row: Standing, page: Path) -> str:
    return ", ".join(f"[{name}](<{target}>)" for name, target in words.links(row, page))

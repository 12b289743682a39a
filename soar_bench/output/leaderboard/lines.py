"""The leaderboard as lines, one per checkpoint and metric: for CSV and for a program."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from soar_bench.boards import published
from soar_bench.boards.standings import (
    HELD_OUT,
    Breakdown,
    Cell,
    Figure,
    Leaderboard,
    Standing,
)
from soar_bench.core.text import csv_text
from soar_bench.output.leaderboard import words

#: ``source`` is measured, imported or published; only measured lines of one ``board`` are
#: comparable. low and high are the ends of the 95% interval, difference is to the base. records are
#: folders relative to the file, with a space between them.
COLUMNS = (
    "source", "suite", "protocol", "images_per_prompt", "board", "checkpoint", "metric", "unit",
    "higher_is_better", "ranked_by", "rank_best", "rank_worst", "value", "low", "high",
    "standard_error", "n", "unscored", "prompts", "seeds", "seed_deviation", "difference",
    "difference_low", "difference_high", "date", "records",
)  # fmt: skip
#: Follow where a breakdown was asked for; empty in the lines of all prompts.
BY = ("by", "category")


def table_of(boards: Sequence[Leaderboard], page: Path) -> str:
    """Return :func:`lines` as the text of a CSV file; fields of the unknown are empty."""
    target = io.StringIO()
    asked = any(_asked(breakdown) for board in boards for breakdown in board.breakdowns)
    columns = COLUMNS + (BY if asked else ())
    writer = csv.DictWriter(target, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for line in lines(boards, page):
        writer.writerow({column: _field(value) for column, value in line.items()})
    return target.getvalue()


def _field(value: Any) -> Any:
    """Return a value as a field of CSV."""
    if isinstance(value, list):
        value = " ".join(value)
    if isinstance(value, str):
        return csv_text(value)
    return f"{value:.6g}" if isinstance(value, float) else value


def rows_json(boards: Sequence[Leaderboard], page: Path) -> list[dict[str, Any]]:
    """Return :func:`lines` in JSON types: every one has all of :data:`COLUMNS` and :data:`BY`, None
    for the unknown.
    """
    empty: dict[str, Any] = dict.fromkeys(COLUMNS + BY)
    rows = [empty | line for line in lines(boards, page)]
    return [row | {"value": None if row["value"] is None else float(row["value"])} for row in rows]


def lines(boards: Sequence[Leaderboard], page: Path) -> Iterator[dict[str, Any]]:
    """Yield a line per checkpoint and metric, by :data:`COLUMNS`; None is unknown. Each category of
    a breakdown by a column has a line of its own, with :data:`BY`. ``records`` are relative to
    ``page``.
    """
    for board in boards:
        for row in board.rows:
            yield from (_line(board, row, metric, page) for metric in row.cells)
            for breakdown, figures in zip(board.breakdowns, row.parts, strict=True):
                if _asked(breakdown):
                    yield from _parts(board, row, breakdown, figures, page)
    yield from _published(boards)  # lines of their own suite and protocol, on no board


def _asked(breakdown: Breakdown) -> bool:
    return bool(breakdown.prompts) and breakdown.column != HELD_OUT


def _line(board: Leaderboard, row: Standing, metric: str, page: Path) -> dict[str, Any]:
    suite, declared, cell = board.suite, board.metrics[metric], row.cells[metric]
    ranked = metric == board.primary
    source = "imported" if row.tool else "measured"
    place = (source, suite.name, board.protocol.name, suite.images_per_prompt, board.id[:12])
    name = (row.name, metric, declared.unit, declared.higher_is_better, ranked)
    rank = row.rank if ranked and row.rank else (None, None)
    value, seeds = cell.value, (len(row.runs), _rounded(cell.seed_deviation))
    counts = (value.scored, value.unscored, value.prompts)
    records = [words.relative(run.folder, page) for run in row.runs]
    numbers = (*_interval(value), _rounded(value.standard_error), *counts, *seeds)
    last = (*_interval(cell.difference), row.date or None, records)
    return dict(zip(COLUMNS, (*place, *name, *rank, *numbers, *last), strict=True))


def _parts(
    board: Leaderboard, row: Standing, breakdown: Breakdown, figures: Sequence[Figure], page: Path
) -> Iterator[dict[str, Any]]:
    """Yield the lines of the categories: as of all prompts, without rank and difference."""
    for category, figure in zip(breakdown.categories, figures, strict=True):
        cell = Cell(figure, math.nan, None)
        part = replace(row, rank=None, cells={breakdown.metric: cell})
        by = dict(zip(BY, (breakdown.column, category), strict=True))
        yield _line(board, part, breakdown.metric, page) | by


def _interval(figure: Figure | None) -> tuple[float | None, float | None, float | None]:
    if figure is None:
        return None, None, None
    return _rounded(figure.value), _rounded(figure.low), _rounded(figure.high)


def _rounded(number: float) -> float | None:
    """Return six digits: the rest is rounding, which differs between processors."""
    return None if math.isnan(number) else float(f"{number:.6g}")


def _published(boards: Sequence[Leaderboard]) -> Iterator[dict[str, Any]]:
    """Yield the published numbers that the page has too."""
    rows = (*published.TABLE, *published.FOR_ONE_REWARD) if words.has_published(boards) else ()
    for row in rows:
        for column in published.COLUMNS:
            if column.name in row.values:
                yield {
                    "source": "published",
                    "suite": column.suite,
                    "protocol": published.PROTOCOL,
                    "checkpoint": row.model,
                    "metric": column.metric,
                    "value": f"{row.values[column.name]:.{column.digits}f}",
                    "records": [published.ADDRESS],
                }
    for further in words.further(boards):
        yield {
            "source": "published",
            "suite": further.suite,
            "protocol": further.protocol,
            "checkpoint": further.model,
            "metric": further.metric,
            "value": further.value,
            "records": [further.source],
        }

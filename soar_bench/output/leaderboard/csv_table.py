"""The leaderboard as one table in CSV: a line a checkpoint and metric."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from soar_bench.boards import published
from soar_bench.boards.standings import Cell, Leaderboard, Standing
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


def table_of(boards: Sequence[Leaderboard], page: Path) -> str:
    """The file's text, with the header :data:`COLUMNS` and empty fields for what is not known."""
    target = io.StringIO()
    writer = csv.DictWriter(target, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for board in boards:
        for row in board.rows:
            for metric, cell in row.cells.items():
                writer.writerow(_line(board, row, metric, cell, page))
    for line in _published():
        writer.writerow(line)
    return target.getvalue()


def _line(board: Leaderboard, row: Standing, metric: str, cell: Cell, page: Path) -> dict[str, Any]:
    declared = board.metrics[metric]
    ranked = metric == board.primary
    best, worst = row.rank if ranked and row.rank else ("", "")
    line = {
        "source": "imported" if row.tool else "measured",
        "suite": board.suite.name,
        "protocol": board.protocol.name,
        "images_per_prompt": board.suite.images_per_prompt,
        "board": board.id[:12],
        "checkpoint": row.name,
        "metric": metric,
        "unit": declared.unit,
        "higher_is_better": declared.higher_is_better,
        "ranked_by": ranked,
        "rank_best": best,
        "rank_worst": worst,
        "value": _plain(cell.value.value),
        "low": _plain(cell.value.low),
        "high": _plain(cell.value.high),
        "standard_error": _plain(cell.value.standard_error),
        "n": cell.value.scored,
        "unscored": cell.value.unscored,
        "prompts": cell.value.prompts,
        "seeds": len(row.runs),
        "seed_deviation": _plain(cell.seed_deviation),
        "date": row.date,
        "records": " ".join(words.relative(run.folder, page) for run in row.runs),
    }
    if cell.difference is not None:
        line |= {
            "difference": _plain(cell.difference.value),
            "difference_low": _plain(cell.difference.low),
            "difference_high": _plain(cell.difference.high),
        }
    return line


def _plain(number: float) -> str:
    """Six digits: what differs behind them is rounding of another processor."""
    return "" if math.isnan(number) else f"{number:.6g}"


def _published() -> Iterator[dict[str, Any]]:
    for row in (*published.TABLE, *published.FOR_ONE_REWARD):
        for column in published.COLUMNS:
            if column.name in row.values:
                yield {
                    "source": "published",
                    "suite": column.suite,
                    "protocol": published.PROTOCOL,
                    "checkpoint": row.model,
                    "metric": column.metric,
                    "value": f"{row.values[column.name]:.{column.digits}f}",
                    "records": published.ADDRESS,
                }

"""A comparison of checkpoints: its rows, notes, gate, and the forms in which it is read.

docs/statistics.md says what each number means and why it is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from soar_bench.boards import words
from soar_bench.boards.agreement import JUDGES, Agreement, agreements
from soar_bench.boards.board import Board
from soar_bench.boards.over_optimised import over_optimised
from soar_bench.boards.paper_table import long_tables, paper_tables
from soar_bench.boards.rows import ANALYTIC, Row
from soar_bench.core import markdown
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.text import csv_text, json_text
from soar_bench.stats import holm

#: Columns of tables that hold text and not numbers.
_NAMES = ("metric", "category", "checkpoint", "verdict")


@dataclass(frozen=True)
class Comparison:
    """Every metric of every entrant of a board against the first entrant."""

    board: Board
    #: metric by metric, entrants in the board's order
    rows: tuple[Row, ...]
    #: how entrants were not measured like the first, a sentence each; empty if all were
    mismatches: tuple[str, ...] = ()
    #: the kind of intervals that was asked for
    interval: str = ANALYTIC
    #: the column of the prompts' metadata that the rows of ``parts`` are by; empty without them
    by: str = ""
    #: each category of the prompts by itself, metric by metric; p corrected for the categories
    parts: tuple[Row, ...] = ()

    @property
    def reference(self) -> str:
        """Name of the first entrant."""
        return self.board.entrants[0].name

    @property
    def notes(self) -> list[str]:
        """Notes for a reader of the rows, a sentence or two each."""
        notes = words.notes(
            self.rows, self.board.entrants, self.mismatches, self.interval, self.parts
        )
        shown = {row.metric for row in self.rows}
        if shown == set(self.board.metrics):  # otherwise what fell may not be among them
            notes += over_optimised(self.board.entrants, self.rows)
        notes += [words.line(str(agreement)) for agreement in self.agreements]
        return notes + ([words.breakdown(self.by, self.parts)] if self.by else [])

    @property
    def agreements(self) -> list[Agreement]:
        """Agreement of two judges of right and wrong, where the rows have both."""
        shown = {row.metric for row in self.rows}
        return [a for a in agreements(self.board) if {a.first, a.second} <= shown]

    @property
    def verdicts(self) -> dict[tuple[str, str], str]:
        """The verdict on each metric and entrant but the first, in words."""
        return {(row.metric, row.entrant): row.verdict for row in self.rows if row.difference}

    def only(self, metrics: Sequence[str]) -> Comparison:
        """Return the rows of these metrics, of all if none is named; p stays corrected for all.
        SoarBenchError for unknown names.
        """
        names = list(dict.fromkeys(row.metric for row in self.rows))
        for metric in metrics:
            if metric not in names:
                raise SoarBenchError(
                    f"there is no metric {metric!r} here: there are {', '.join(names)}"
                )
        rows, parts = (
            tuple(row for row in part if not metrics or row.metric in metrics)
            for part in (self.rows, self.parts)
        )
        return replace(self, rows=rows, parts=parts)

    def worse(self, metrics: Sequence[str] = (), margin: float = 0.0) -> list[Row]:
        """Return the rows, of these metrics or of all, that are significantly worse than the first
        entrant by more than ``margin`` in the metric's own unit: see docs/ci.md.

        The test is that of the verdict, with Holm's correction over all metrics of the entrant,
        against a true difference of ``margin`` to the worse side instead of 0. SoarBenchError if
        an entrant has no score in common with the first in a metric that the first has scores of.
        """
        chosen = {(row.metric, row.entrant) for row in self.only(metrics).rows}
        worse = []
        for entrant in self.board.entrants[1:]:
            rows = [row for row in self.rows if row.entrant == entrant.name]
            thresholds = [-margin if row.higher_is_better else margin for row in rows]
            pairs = zip(rows, thresholds, strict=True)
            p_values = holm([row.p_against(d) if d else row.p_value for row, d in pairs])
            for row, threshold, p in zip(rows, thresholds, p_values, strict=True):
                if (row.metric, row.entrant) not in chosen or row.difference is None:
                    continue
                if not row.difference.scored and self.board.value(0, row.metric).scored:
                    raise SoarBenchError(
                        f"{row.entrant} and {self.reference} have no score of "
                        f"{row.metric} in common, so that neither is known to be worse"
                    )
                beyond = row.difference.value - threshold
                if p <= 1 - row.level and (beyond < 0) == row.higher_is_better and beyond:
                    worse.append(row)
        return worse

    def to_frame(self) -> pd.DataFrame:
        """Return the numbers, one row per metric and entrant; docs/statistics.md names the columns.
        NaN where a number is not known. With a breakdown its rows follow, and ``category`` names
        theirs; it is empty in the others.
        """
        if not self.by:
            return pd.DataFrame([_record(row) for row in self.rows])
        rows = [{"category": row.category, **_record(row)} for row in (*self.rows, *self.parts)]
        return pd.DataFrame(rows)

    def to_markdown(self) -> str:
        """Return a Markdown table, and one of the breakdown, with the notes under them."""
        escape = markdown.escape
        tables = []
        for rows in filter(None, (self.rows, self.parts)):
            titles = words.header(rows, self.by)
            body = [[escape(words.cells(row)[key]) for key in titles] for row in rows]
            right = [i for i, key in enumerate(titles) if key not in _NAMES]
            tables.append(markdown.table([escape(title) for title in titles.values()], body, right))
        if judges := [agreement.cells() for agreement in self.agreements]:
            body = [list(map(escape, row.values())) for row in judges]
            table = markdown.table(list(judges[0]), body, range(2, len(judges[0])))
            tables.append(f"{JUDGES}:\n\n{table}")
        return "\n".join(tables) + "".join(f"\n{escape(sentence)}\n" for sentence in self.notes)

    #: What `print` and a notebook show.
    __str__ = _repr_markdown_ = to_markdown

    def to_latex(self, long: bool = False) -> str:
        """Return a LaTeX table with the notes as comments above it; needs booktabs. A row per
        checkpoint, or, ``long``, one per metric and checkpoint, with differences. Of a breakdown
        follows a table per metric.
        """
        if long:
            return long_tables(self.rows, self.parts, self.by, self.notes)
        return paper_tables(self.board, self.rows, self.parts, self.by, self.notes)

    def to_csv(self) -> str:
        """Return the numbers of :meth:`to_frame`, with names on one line each."""
        return self.to_frame_of_text().to_csv(index=False, lineterminator="\n")

    def to_frame_of_text(self) -> pd.DataFrame:
        """Return :meth:`to_frame` with names that are fit for a file."""
        table = self.to_frame()
        for column in ("metric", "checkpoint", "unit", *(["category"] if self.by else [])):
            table[column] = [csv_text(words.line(text)) for text in table[column]]
        return table

    def to_json(self) -> str:
        """Return the numbers and the notes; null where a number is not known or infinite."""
        return json_text(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers and the notes, for JSON."""
        rows, alike = [_record(row) for row in self.rows], not self.mismatches
        head = {"reference": self.reference, "measured_alike": alike, "notes": self.notes}
        head |= {"mismatches": list(self.mismatches), "rows": rows}
        if judges := [agreement.record() for agreement in self.agreements]:
            head |= {"agreements": judges}
        if self.by:
            parts = [{"category": row.category, **_record(row)} for row in self.parts]
            head |= {"by": self.by, "categories": parts}
        return head


def _record(row: Row) -> dict[str, Any]:
    """Return the columns of :meth:`Comparison.to_frame`."""
    value, difference = row.value, row.difference
    return {
        "metric": row.metric, "higher_is_better": row.higher_is_better, "unit": row.unit,
        "checkpoint": row.entrant, "value": value.value, "standard_error": value.standard_error,
        "value_low": row.value_interval[0], "value_high": row.value_interval[1],
        "value_interval_by": row.value_interval_by, "level": row.level,
        "scored": value.scored, "unscored": value.unscored, "prompts": value.prompts,
        "seeds": value.seeds, "seed_deviation": value.seed_deviation,
        "difference": difference.value if difference else math.nan,
        "difference_standard_error": difference.standard_error if difference else math.nan,
        "difference_low": row.interval[0], "difference_high": row.interval[1],
        "interval_by": row.interval_by, "common_prompts": difference.prompts if difference else 0,
        "p_value": row.p_value, "p_corrected": row.p_corrected, "test": row.test,
        "tests": row.tests, "effect_size": row.effect, "odds": row.odds,
        "wins": row.wins, "ties": row.ties, "losses": row.losses,
        "prompts_needed": row.needed, "images_needed": row.needed_images, "detect": row.detect,
        "detect_prompts": row.detect_prompts, "detect_images": row.detect_images,
        "verdict": row.verdict, "measured_alike": row.alike,
    }  # fmt: skip

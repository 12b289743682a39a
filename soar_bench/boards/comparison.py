"""Checkpoints side by side: values, differences, one test of each pair, verdicts, a gate.

docs/statistics.md says what each number means and why it is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from soar_bench.boards import words
from soar_bench.boards.agreement import agreements
from soar_bench.boards.board import Board
from soar_bench.boards.categories import categories
from soar_bench.boards.entrants import Entrant, check_measured_alike, group_seeds, mismatches
from soar_bench.boards.over_optimised import over_optimised
from soar_bench.boards.paper_table import paper_table
from soar_bench.boards.rows import (
    ANALYTIC,
    BOOTSTRAP,
    EXACT,
    NOT_ALIKE,
    T_TEST,
    WILSON,
    Row,
    verdict,
)  # fmt: skip
from soar_bench.core import latex, markdown
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.text import csv_text, json_text
from soar_bench.records import Run
from soar_bench.stats import (
    CONFIDENCE,
    Pair,
    effect_size,
    holm,
    images_needed,
    interval_of,
    prompts_needed,
    sign_flip,
)  # fmt: skip
from soar_bench.suites.types import Suite

#: Columns of tables that hold text and not numbers.
_NAMES = ("metric", "category", "checkpoint", "verdict")
_IN_LATEX = ("prompts", "value", "difference", "p", "detect", *_NAMES)


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
        notes = words.notes(self.rows, self.board.entrants, self.mismatches, self.interval)
        shown = {row.metric for row in self.rows}
        if shown == set(self.board.metrics):  # otherwise what fell may not be among them
            notes += over_optimised(self.board.entrants, self.rows)
        pairs = (a for a in agreements(self.board) if {a.first, a.second} <= shown)
        notes += [words.line(str(agreement)) for agreement in pairs]
        return notes + ([words.breakdown(self.by, self.parts)] if self.by else [])

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
        return "\n".join(tables) + "".join(f"\n{escape(sentence)}\n" for sentence in self.notes)

    def to_latex(self, long: bool = False) -> str:
        """Return a LaTeX table with the notes as comments above it; needs booktabs. A row per
        checkpoint, or, ``long``, one per metric and checkpoint, with differences. A breakdown
        follows as a table of the long form.
        """
        if long:
            comments = "".join(f"% {sentence}\n" for sentence in map(words.line, self.notes))
            table = comments + self._long(self.rows)
        else:
            table = paper_table(self.board, self.rows, self.notes)
        return table + ("\n" + self._long(self.parts) if self.parts else "")

    def _long(self, rows: Sequence[Row]) -> str:
        titles = {key: v for key, v in words.header(rows, self.by).items() if key in _IN_LATEX}
        groups = [(row.metric, row.category) for row in rows]
        starts = [i for i in range(1, len(groups)) if groups[i - 1] != groups[i]]
        body = []
        for i, row in enumerate(rows):
            repeated = {} if i == 0 or i in starts else {"metric": "", "category": ""}
            texts = words.cells(row) | repeated
            body.append([_latex(key, texts[key]) for key in titles])
        columns = "".join("l" if key in _NAMES else "r" for key in titles)
        header = [_latex(key, title) for key, title in titles.items()]
        return latex.table(header, body, columns, starts)

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
        rows, alike = [_record(row) for row in self.rows], not self.mismatches
        head = {"reference": self.reference, "measured_alike": alike, "notes": self.notes}
        head |= {"mismatches": list(self.mismatches), "rows": rows}
        if self.by:
            parts = [{"category": row.category, **_record(row)} for row in self.parts]
            head |= {"by": self.by, "categories": parts}
        return json_text(head)


def _latex(key: str, text: str) -> str:
    """Return a cell; signs of numbers are set as minus signs."""
    if key == "p" and text.startswith("<"):
        return f"${text}$"
    signed = key == "difference" and len(text) > 1 and text[0] in "+-"
    return latex.escape(text).replace("-", "$-$") if signed else latex.escape(text)


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


def compare(
    runs: Sequence[Run] | Board,
    *,
    reference: Run | None = None,
    level: float = CONFIDENCE,
    detect: float | None = None,
    interval: str = ANALYTIC,
    test: str = T_TEST,
    anyway: bool = False,
    by: str = "",
    suite: Suite | None = None,
) -> Comparison:
    """Compare every entrant of a board with the first of them in every metric.

    Runs that differ by training seed alone become one entrant. The first is that of ``reference``;
    without it what was not trained, else the first run. ``level`` is that of intervals, and 1 -
    level the error rate of verdicts. ``detect``, in the metrics' own units, is a difference to
    count the necessary prompts for. ``interval`` is ``analytic`` or ``bootstrap``, ``test`` is
    ``t`` or ``exact`` (sign flips of whole prompts for right and wrong). ``by`` is a column of the
    prompts' metadata, for a breakdown by its values; ``suite`` has them where the runs' suite is
    neither a named one nor a file. SoarBenchError unless all runs were measured alike (``anyway``
    compares the metrics and prompts that all have), or if there is no such column.
    """
    if isinstance(runs, Board):
        board = runs
    else:
        if not anyway:
            check_measured_alike(runs)
        entrants = group_seeds(runs)
        if reference is not None:
            entrants.sort(key=lambda e: all(run.folder != reference.folder for run in e.runs))
        board = board_of(entrants)
    sentences = mismatches(board.runs)
    difference = math.nan if detect is None else detect
    by_category = categories(board, by, suite) if by else {}
    boards = {category: board.part(prompts) for category, prompts in by_category.items()}
    rows: list[Row] = []
    parts: list[Row] = []
    for number, entrant in enumerate(board.entrants):
        others = board.runs if number == 0 else [board.entrants[0].first, *entrant.runs]
        alike = not mismatches(others)
        settings = (level, difference, interval, test)
        rows += _judged([_row(board, number, name, *settings) for name in board.metrics], alike)
        for name in board.metrics:
            of_metric = [
                replace(_row(part, number, name, *settings), category=category)
                for category, part in boards.items()
            ]
            parts += _judged(of_metric, alike)
    metrics, order = list(board.metrics), list(boards)
    rows.sort(key=lambda row: metrics.index(row.metric))
    parts.sort(key=lambda row: (metrics.index(row.metric), order.index(row.category)))
    return Comparison(board, tuple(rows), tuple(sentences), interval, by, tuple(parts))


def _judged(rows: Sequence[Row], alike: bool) -> list[Row]:
    """Return rows of one entrant with their verdicts, p corrected for all of them together."""
    corrected = holm([row.p_value for row in rows])
    tests = sum(not math.isnan(p) for p in corrected)
    judged = []
    for row, p in zip(rows, corrected, strict=True):
        text = verdict(row.difference, row.higher_is_better, p, row.level)
        if text and not alike:
            text += NOT_ALIKE
        judged.append(replace(row, p_corrected=p, tests=tests, verdict=text, alike=alike))
    return judged


def board_of(entrants: Sequence[Entrant]) -> Board:
    """Return the board of entrants; of what they have in common if they were not measured alike."""
    alike = not mismatches([run for entrant in entrants for run in entrant.runs])
    return Board.of(entrants) if alike else Board.in_common(entrants)


def _row(
    board: Board, number: int, metric: str, level: float, detect: float, interval: str, test: str
) -> Row:
    """Return one row without what depends on the other metrics."""
    declared = board.metrics[metric]
    value = board.value(number, metric)
    by = interval if value.seeds == 1 else ANALYTIC
    value_interval = board.interval(number, metric, level, resampled=by == BOOTSTRAP)
    row = Row(
        metric, board.entrants[number].name, value,
        higher_is_better=declared.higher_is_better, unit=declared.unit, level=level,
        value_interval=value_interval, value_interval_by=WILSON if value.binary else by,
    )  # fmt: skip
    if number == 0:
        return row
    pair = board.pair(number, 0, metric)
    difference = pair.difference
    p_value, name = exact_test(pair) if test == EXACT else (pair.p_value, pair.test)
    wins, ties, losses = pair.wins
    ratio = pair.odds
    if not row.higher_is_better:
        wins, losses, ratio = losses, wins, 1 / ratio if ratio else math.nan
    ends, by = difference.interval(level), ANALYTIC
    if interval == BOOTSTRAP and not pair.over_seeds:
        ends, by = interval_of(pair.clusters, difference, level), BOOTSTRAP
    return replace(
        row, pair=pair, difference=difference, interval=ends, interval_by=by,
        p_value=p_value, test=name, effect=effect_size(difference), odds=ratio,
        wins=wins, ties=ties, losses=losses, detect=detect,
        needed=prompts_needed(difference, difference.value, level=level),
        needed_images=images_needed(difference, difference.value, level=level),
        detect_prompts=prompts_needed(difference, detect, level=level),
        detect_images=images_needed(difference, detect, level=level),
    )  # fmt: skip


def exact_test(pair: Pair) -> tuple[float, str]:
    """Return the p-value of sign flips of whole prompts and the name of the test; the pair's own
    test where scores are on a scale, or a side has several seeds: no flip of prompts shows how
    seeds differ.
    """
    if pair.difference.prompts < 2 or pair.over_seeds or not pair.binary:
        return pair.p_value, pair.test
    p_value, exact = sign_flip(pair.clusters)
    if pair.single_image and pair.plain:
        return p_value, "McNemar"
    return p_value, "sign-flip" if exact else "sign-flip, drawn"

"""Checkpoints side by side: values, differences, one test of each pair, verdicts, a gate.

docs/statistics.md says what each number means and why it is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from soar_bench.boards import formats, words
from soar_bench.boards.board import Board
from soar_bench.boards.entrants import check_measured_alike, group_seeds, mismatches
from soar_bench.boards.rows import ANALYTIC, BOOTSTRAP, EXACT, NOT_ALIKE, T_TEST, Row, verdict
from soar_bench.core.errors import SoarBenchError
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
)


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

    @property
    def reference(self) -> str:
        """Name of the first entrant."""
        return self.board.entrants[0].name

    @property
    def notes(self) -> list[str]:
        """What a reader of the rows has to know, a sentence or two each."""
        return words.notes(self.rows, self.board.entrants, self.mismatches, self.interval)

    @property
    def verdicts(self) -> dict[tuple[str, str], str]:
        """The verdict on each metric and entrant but the first, in words."""
        return {(row.metric, row.entrant): row.verdict for row in self.rows if row.difference}

    def only(self, metrics: Sequence[str]) -> Comparison:
        """Return the rows of these metrics, of all if none is named; p stays corrected for all.
        SoarBenchError for unknown names.
        """
        known = list(dict.fromkeys(row.metric for row in self.rows))
        for metric in metrics:
            if metric not in known:
                raise SoarBenchError(
                    f"there is no metric {metric!r} here: there are {', '.join(known)}"
                )
        rows = tuple(row for row in self.rows if not metrics or row.metric in metrics)
        return replace(self, rows=rows)

    def worse(self, metrics: Sequence[str] = (), margin: float = 0.0) -> list[Row]:
        """Return the rows, of these metrics or of all, that are significantly worse than the first
        entrant by more than ``margin`` in the metric's own unit.

        The test is that of the verdict, against a true difference of ``margin`` to the worse side
        instead of 0: two-sided at 1 - level with Holm's correction over all metrics of the entrant,
        and the difference beyond the margin. Without a margin these are the rows whose verdict is
        "worse". SoarBenchError if a metric that the first entrant has scores of has none in common
        with another entrant, so that nothing can be said.
        """
        chosen = {(row.metric, row.entrant) for row in self.only(metrics).rows}
        worse = []
        for entrant in self.board.entrants[1:]:
            rows = [row for row in self.rows if row.entrant == entrant.name]
            thresholds = [-margin if row.higher_is_better else margin for row in rows]
            p_values = [
                row.p_against(threshold) if threshold else row.p_value
                for row, threshold in zip(rows, thresholds, strict=True)
            ]
            for row, threshold, p in zip(rows, thresholds, holm(p_values), strict=True):
                if (row.metric, row.entrant) not in chosen or row.difference is None:
                    continue
                if not row.difference.scored and self._reference(row.metric).value.scored:
                    raise SoarBenchError(
                        f"{row.entrant} and {self.reference} have no score of "
                        f"{row.metric} in common, so that neither is known to be worse"
                    )
                beyond = row.difference.value - threshold
                if p <= 1 - row.level and (beyond < 0) == row.higher_is_better and beyond:
                    worse.append(row)
        return worse

    def _reference(self, metric: str) -> Row:
        return next(row for row in self.rows if row.metric == metric and row.difference is None)

    def to_frame(self) -> pd.DataFrame:
        """Return the numbers, one row per metric and entrant; docs/statistics.md names the columns.
        NaN where a number is not known.
        """
        return formats.frame(self.rows)

    def to_markdown(self) -> str:
        """Return a Markdown table and, under it, what a reader of it has to know."""
        return formats.as_markdown(self.rows, self.notes)

    def to_latex(self) -> str:
        """Return a LaTeX tabular with the notes as comments above it; needs booktabs."""
        return formats.as_latex(self.rows, self.notes)

    def to_csv(self) -> str:
        """Return the numbers of :meth:`to_frame`, with names on one line each."""
        return formats.as_csv(self.rows)

    def to_json(self) -> str:
        """Return the numbers and the notes; null where a number is not known or infinite."""
        return formats.as_json(self.rows, self.reference, self.notes, self.mismatches)


def compare(
    runs: Sequence[Run] | Board,
    *,
    reference: Run | None = None,
    level: float = CONFIDENCE,
    detect: float | None = None,
    interval: str = ANALYTIC,
    test: str = T_TEST,
    anyway: bool = False,
) -> Comparison:
    """Compare every entrant of a board with the first of them in every metric.

    Runs that differ by training seed alone become one entrant. The first is that of ``reference``;
    without it what was not trained, else the first run. ``level`` is that of intervals, and 1 -
    level the error rate of verdicts. ``detect`` is a difference, in the metrics' own units, for
    which the number of prompts is wanted. ``interval`` is ``analytic`` or ``bootstrap``, ``test``
    is ``t`` or ``exact`` (sign flips of whole prompts for right and wrong). SoarBenchError unless
    all runs were measured alike; with ``anyway``, metrics and prompts that all have are compared,
    and every row says that they were not.
    """
    board = runs if isinstance(runs, Board) else board_of_runs(runs, reference, anyway)
    sentences = mismatches(board.runs)
    first = board.entrants[0]
    rows: list[Row] = []
    for number, entrant in enumerate(board.entrants):
        others = board.runs if number == 0 else [first.first, *entrant.runs]
        alike = not mismatches(others)
        of_entrant = [
            _row(board, number, metric, level, detect, interval, test) for metric in board.metrics
        ]
        corrected = holm([row.p_value for row in of_entrant])
        tests = sum(not math.isnan(p) for p in corrected)
        for row, p in zip(of_entrant, corrected, strict=True):
            text = verdict(row.difference, row.higher_is_better, p, level)
            if text and not alike:
                text += NOT_ALIKE
            rows.append(replace(row, p_corrected=p, tests=tests, verdict=text, alike=alike))
    order = list(board.metrics)
    ordered = sorted(rows, key=lambda row: order.index(row.metric))
    return Comparison(board, tuple(ordered), tuple(sentences), interval)


def board_of_runs(runs: Sequence[Run], reference: Run | None = None, anyway: bool = False) -> Board:
    """Return the board of runs, with the entrant of ``reference`` first. SoarBenchError if, unless
    ``anyway``, they were not measured alike.
    """
    if not anyway:
        check_measured_alike(runs)
    entrants = group_seeds(runs)
    if reference is not None:
        entrants.sort(
            key=lambda entrant: all(run.folder != reference.folder for run in entrant.runs)
        )
    return Board.in_common(entrants) if mismatches(runs) else Board.of(entrants)


def _row(
    board: Board,
    number: int,
    metric: str,
    level: float,
    detect: float | None,
    interval: str,
    test: str,
) -> Row:
    """Return one row without what depends on the other metrics."""
    declared = board.metrics[metric]
    value = board.value(number, metric)
    value_interval, by = board.interval(number, metric, level), ANALYTIC
    if interval == BOOTSTRAP and value.seeds == 1:
        value_interval, by = board.resampled_interval(number, metric, level), BOOTSTRAP
    row = Row(
        metric=metric,
        entrant=board.entrants[number].name,
        value=value,
        higher_is_better=declared.higher_is_better,
        unit=declared.unit,
        level=level,
        value_interval=value_interval,
        value_interval_by=by,
    )
    if number == 0:
        return row
    pair = board.pair(number, 0, metric)
    difference = pair.difference
    p_value, name = exact_test(pair) if test == EXACT else (pair.p_value, pair.test)
    wins, ties, losses = pair.wins
    ratio = pair.odds
    if not row.higher_is_better:
        wins, losses, ratio = losses, wins, 1 / ratio if ratio else math.nan
    resample = interval == BOOTSTRAP and not pair.over_seeds
    asked = math.nan if detect is None else detect
    return replace(
        row,
        difference=difference,
        interval=interval_of(pair.clusters, difference, level)
        if resample
        else difference.interval(level),
        interval_by=BOOTSTRAP if resample else ANALYTIC,
        p_value=p_value,
        test=name,
        effect=effect_size(difference),
        odds=ratio,
        wins=wins,
        ties=ties,
        losses=losses,
        needed=prompts_needed(difference, difference.value, level=level),
        needed_images=images_needed(difference, difference.value, level=level),
        detect=asked,
        detect_prompts=prompts_needed(difference, asked, level=level),
        detect_images=images_needed(difference, asked, level=level),
        pair=pair,
    )


def exact_test(pair: Pair) -> tuple[float, str]:
    """Return the p-value of sign flips of whole prompts and what the test is called; the pair's own
    test where scores are on a scale or a side has several seeds.

    Several training seeds have a part in the error that no flip of prompts knows of.
    """
    if pair.difference.prompts < 2 or pair.over_seeds or not pair.binary:
        return pair.p_value, pair.test
    p_value, exact = sign_flip(pair.clusters)
    if pair.single_image and pair.one_stratum:
        return p_value, "McNemar"
    return p_value, "sign-flip" if exact else "sign-flip, drawn"

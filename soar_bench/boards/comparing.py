"""Compare checkpoints: from runs to values, differences, one test of each pair, and verdicts.

docs/statistics.md says what each number means and why it is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from soar_bench.boards.board import Board
from soar_bench.boards.categories import Categories, categories
from soar_bench.boards.comparison import Comparison
from soar_bench.boards.entrants import Entrant, check_measured_alike, group_seeds, mismatches
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


def compare(
    runs: Sequence[Run],
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
    """Compare every entrant of the runs' board with the first of them in every metric.

    Runs that differ by training seed alone become one entrant. The first is that of ``reference``;
    without it what was not trained, else the first run. ``level`` is that of intervals, and 1 -
    level the error rate of verdicts. ``detect``, in the metrics' own units, is a difference to
    count the necessary prompts for. ``interval`` is ``analytic`` or ``bootstrap``, ``test`` is
    ``t`` or ``exact`` (sign flips of whole prompts for right and wrong). ``by`` is a column of the
    prompts' metadata, for a breakdown by its values; ``suite`` has them where the runs' suite is
    neither a named one nor a file. SoarBenchError unless all runs were measured alike (``anyway``
    compares the metrics and prompts that all have), or if there is no such column.
    """
    if not anyway:
        check_measured_alike(runs)
    entrants = group_seeds(runs)
    if reference is not None:
        entrants.sort(key=lambda e: all(run.folder != reference.folder for run in e.runs))
    board = board_of(entrants)
    by_category = categories(board, by, suite) if by else {}
    return compare_board(
        board, level=level, detect=detect, interval=interval, test=test,
        by=by, by_category=by_category,
    )  # fmt: skip


def compare_board(
    board: Board,
    *,
    level: float = CONFIDENCE,
    detect: float | None = None,
    interval: str = ANALYTIC,
    test: str = T_TEST,
    by: str = "",
    by_category: Categories | None = None,
) -> Comparison:
    """Compare every entrant of a board with the first of them, as :func:`compare` says.

    ``by_category`` are the prompts of each category of the column ``by``.
    """
    sentences = mismatches(board.runs)
    difference = math.nan if detect is None else detect
    by_category = by_category or {}
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
    by = by if by_category else ""
    return Comparison(board, tuple(rows), tuple(sentences), interval, by, tuple(parts))


def _judged(rows: Sequence[Row], alike: bool) -> list[Row]:
    """Return rows of one entrant with their verdicts, p corrected for all of them together."""
    corrected = holm([row.p_value for row in rows])
    tests = sum(not math.isnan(p) for p in corrected)
    judged = []
    for row, p in zip(rows, corrected, strict=True):
        text = verdict(row.difference, row.higher_is_better, p, row.level, row.pair)
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

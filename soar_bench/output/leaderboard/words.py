"""Words and numbers that every form of the leaderboard shares, not escaped."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from soar_bench.boards import published
from soar_bench.boards.standings import Figure, Leaderboard, Standing

TITLE = "Leaderboard"

ABOUT = (
    "Values stand with their 95% interval [from, to], which treats the images of one prompt as one "
    "cluster and, where there are several training seeds, holds their spread too. Differences are "
    "to the base that a checkpoint was trained from, paired on the same prompts and noise; bold "
    "where the interval excludes zero. Where too little is known for an interval, there is none.",
    "A rank is the range of places that a checkpoint could have: below those that are "
    "significantly better and above those that are worse, by paired t-tests of every two on the "
    "board (5%, with Holm's correction over all pairs, which intervals do not have). Overlapping "
    "ranges are ties. The commands compare and report correct over the metrics of one pair "
    "instead, so they can call a difference better or worse whose ranks overlap here.",
    "Values of two boards are not comparable: suite, settings or evaluator versions differ.",
)

PUBLISHED_TITLE = "Published, not measured here"
PUBLISHED_ABOUT = (
    f"The table of the SOAR paper ({published.PAPER}): 512 pixels, guidance 4.5, 40 steps; GenEval "
    "and OCR on their own prompts, the others on DrawBench's. Printed without errors, seeds or "
    "scorer versions, so no board ranks or tests these numbers."
)
PUBLISHED_ONE_REWARD = "Runs that train for one reward alone, from the same paper:"
PUBLISHED_BESIDE = f"Published ({published.PAPER}), not measured here and not ranked:"
IMPORTED_BESIDE = (
    "Imported from another tool's results for the same prompts: other images, settings and "
    "evaluators that are not known here, so not ranked:"
)


def title(board: Leaderboard) -> str:
    return f"{board.suite.name} under {board.protocol.name}"


def facts(board: Leaderboard) -> str:
    """Return the facts that all rows of the board share, in a sentence or two."""
    suite, settings = board.suite, dict(board.protocol.settings)
    if settings.get("vae_dtype") == settings.get("dtype"):
        settings.pop("vae_dtype", None)
    values = ", ".join(f"{key} {value}" for key, value in sorted(settings.items()))
    seed = "" if suite.seed is None else f", seed {suite.seed}"
    images = f"{suite.images_per_prompt} image{'' if suite.images_per_prompt == 1 else 's'} each"
    return f"{suite.prompts} prompts, {images}{seed}; {values}. Ranked by {board.primary}."


def arrow(board: Leaderboard, metric: str) -> str:
    return "↑" if board.metrics[metric].higher_is_better else "↓"


def others(board: Leaderboard) -> list[str]:
    """Return the metrics that rows are not ranked by."""
    return [name for name in board.metrics if name != board.primary]


def rank(row: Standing) -> str:
    if row.rank is None:
        return "-"
    best, worst = row.rank
    return str(best) if best == worst else f"{best}-{worst}"


def value(figure: Figure | None, form: str = ".3f") -> str:
    """Return a number with its interval; a dash where nothing is scored."""
    if figure is None or math.isnan(figure.value):
        return "-"
    interval = "" if math.isnan(figure.low) else f" [{figure.low:{form}}, {figure.high:{form}}]"
    return f"{figure.value:{form}}{interval}"


def difference(figure: Figure | None) -> str:
    """Return a difference, with its sign, as :func:`value` does."""
    return value(figure, "+.3f")


def stands_out(figure: Figure | None) -> bool:
    """Return whether the interval excludes zero."""
    return figure is not None and (figure.low > 0 or figure.high < 0)


def relative(path: Path, page: Path) -> str:
    """Return the path as a link from the page."""
    return Path(os.path.relpath(path.resolve(), page.resolve().parent)).as_posix()


def links(row: Standing, page: Path) -> list[tuple[str, str]]:
    """Return the text and target of a link to each record of a row."""
    return [
        ("run" if run.seed is None else f"seed {run.seed}", relative(run.folder, page))
        for run in row.runs
    ]


def has_published(boards: Sequence[Leaderboard]) -> bool:
    """Return whether the paper's numbers belong on the page: a board has its suite and settings."""
    return any(board.published for board in boards)


def published_table(
    columns: Sequence[published.Column],
    rows: Sequence[published.PublishedRow] = published.TABLE,
) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of published numbers, without rows that have none of the columns."""
    iterations = any(row.iterations for row in rows)
    header = ["model", *(["iterations"] if iterations else []), *(c.name for c in columns)]
    body = []
    for row in rows:
        if any(c.name in row.values for c in columns):
            values = row.values
            numbers = [
                f"{values[c.name]:.{c.digits}f}" if c.name in values else "-" for c in columns
            ]
            body.append([row.model, *([row.iterations or "-"] if iterations else []), *numbers])
    return header, body


FURTHER_TITLE = (
    "Further numbers, each under the protocol beside it; only numbers of one protocol compare:"
)


def further(boards: Sequence[Leaderboard]) -> list[published.FurtherRow]:
    """Return published numbers under other protocols, of suites on the page and, beside the paper's
    table, of all.
    """
    suites = {b.suite.name for b in boards if not b.imported and not b.suite.source}
    beside_paper = has_published(boards)
    return [
        r
        for r in published.FURTHER
        if beside_paper or (r.suite in suites and r.protocol != published.PROTOCOL)
    ]


def further_table(boards: Sequence[Leaderboard]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of :func:`further`."""
    header = ["model", "metric", "suite", "value", "protocol", "source"]
    rows = [[r.model, r.name, r.suite, r.value, r.protocol, r.source] for r in further(boards)]
    return header, rows


#: The paper's table, and that of runs which train for one reward alone.
PAPER = published_table(published.COLUMNS)
REWARDS = published_table(
    [c for c in published.COLUMNS if any(c.name in row.values for row in published.FOR_ONE_REWARD)],
    published.FOR_ONE_REWARD,
)

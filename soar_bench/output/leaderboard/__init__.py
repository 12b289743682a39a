"""The leaderboard: a page made from the records in ``results/`` and from nothing else.

The same records give the same bytes, whatever their order on disk, the locale or the clock: rows
are ordered by value and name, and no clock is read. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from soar_bench.boards.board import ScoredRun
from soar_bench.boards.standings import Leaderboard, standings
from soar_bench.core.errors import SoarBenchError
from soar_bench.records import Run, read_run, run_folders

Form = Literal["md", "html", "csv"]
FORMS: tuple[Form, ...] = ("md", "html", "csv")

__all__ = ["FORMS", "Form", "leaderboard", "load", "render"]


def load(results: Path) -> list[ScoredRun]:
    """Return every run under ``results`` with its scores. SoarBenchError names every broken record,
    or says that there are none.
    """
    runs, broken = [], []
    for folder in run_folders(results):
        try:
            run = read_run(folder)
            scored = ScoredRun(run.folder, run.record)
            _ = scored.by_metric
            runs.append(scored)
        except SoarBenchError as error:
            broken.append(str(error))
    if len(broken) > 1:
        raise SoarBenchError(f"{len(broken)} records are broken: {'; '.join(broken)}")
    if broken:
        raise SoarBenchError(broken[0])
    if not runs:
        raise SoarBenchError(f"there are no runs in {results}: run soar-bench eval first")
    return runs


def leaderboard(
    runs: Sequence[Run], results: Path, page: Path, form: Form = "md", by: str = ""
) -> str:
    """Return the text of the page; links to the records are relative to ``page``. ``by`` is a
    column of the prompts' metadata to break every metric down by.

    SoarBenchError if scores cannot be read, two checkpoints are of one training and seed, or no
    board has the column.
    """
    return render(standings(runs, by), results, page, form)


def render(boards: Sequence[Leaderboard], results: Path, page: Path, form: Form = "md") -> str:
    """Return the text of the page with these boards."""
    from soar_bench.output.leaderboard import html_page, lines, markdown_page

    if form == "csv":
        return lines.table_of(boards, page)
    page_of = html_page.page_of if form == "html" else markdown_page.page_of
    return page_of(boards, results, page)

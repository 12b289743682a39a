"""``soar-bench compare`` and ``soar-bench leaderboard``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import typer


class Format(StrEnum):
    terminal = "terminal"
    markdown = "markdown"
    csv = "csv"


def compare(
    runs: list[Path] = typer.Argument(
        help="Runs' folders, or folders that hold runs; the first is what the others differ from."
    ),
    form: Format = typer.Option(Format.terminal, "--format", help="How to print the table."),
) -> None:
    """Compare runs of one suite and protocol, paired on the same prompts and noise.

    Runs that differ by training seed alone become one row.
    """
    from soar_bench import compare as comparison
    from soar_bench.markdown import escape, table
    from soar_bench.records import RUN_FILE, read_run, read_runs
    from soar_bench.types import SoarBenchError

    found = []
    for folder in runs:
        if not folder.is_dir():
            raise SoarBenchError(f"there is no run in {folder}")
        found += [read_run(folder)] if (folder / RUN_FILE).exists() else read_runs(folder)
    board = comparison.entrants(found)
    if len(board) < 2:
        raise SoarBenchError(f"comparing needs two checkpoints; {len(board)} found")
    rows = comparison.compare(board)
    if form is Format.markdown:
        typer.echo(
            table(comparison.HEADER, [[escape(c) for c in row] for row in comparison.cells(rows)])
        )
    elif form is Format.csv:
        typer.echo(comparison.frame(rows).to_csv(index=False), nl=False)
    else:
        from rich.console import Console

        from soar_bench.tables import comparison_table

        Console().print(comparison_table(rows))


def leaderboard(
    results: Path = typer.Option(Path("results"), help="Where the records are."),
    output: Path = typer.Option(Path("leaderboard.md"), help="The page to write."),
    check: bool = typer.Option(False, "--check", help="Only say whether the page is up to date."),
) -> None:
    """Write leaderboard.md from the records in results/."""
    from soar_bench.leaderboard import leaderboard as page_of
    from soar_bench.records import read_runs
    from soar_bench.types import SoarBenchError
    from training.files import write_text

    page = page_of(read_runs(results), results, output)
    if not check:
        write_text(output, page)
        typer.echo(output)
    elif not output.exists() or output.read_text("utf-8") != page:
        raise SoarBenchError(f"{output} is out of date: run soar-bench leaderboard")

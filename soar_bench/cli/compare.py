"""``soar-bench compare``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import typer


class Format(StrEnum):
    terminal = "terminal"
    markdown = "markdown"
    csv = "csv"
    latex = "latex"
    json = "json"


class Interval(StrEnum):
    analytic = "analytic"
    bootstrap = "bootstrap"


def compare(
    runs: list[str] = typer.Argument(
        help="Runs (folder, id or label) or folders that hold runs; the others are compared with "
        "the first."
    ),
    form: Format = typer.Option(Format.terminal, "--format", help="How to print the table."),
    metric: list[str] = typer.Option(
        [], help="Show only this metric; may be repeated. p stays corrected for all."
    ),
    level: float = typer.Option(0.95, help="Of the intervals; verdicts err at 1 - level."),
    detect: float | None = typer.Option(
        None, help="Say how many prompts it takes to see a difference of this size."
    ),
    interval: Interval = typer.Option(
        Interval.analytic, help="By t or by resampling prompts; with several seeds always by t."
    ),
    anyway: bool = typer.Option(
        False, "--anyway", help="Compare what runs have in common that were not measured alike."
    ),
    results: Path = typer.Option(Path("results"), help="Where ids and labels are looked up."),
) -> None:
    """Compare checkpoints on the same prompts and noise: is one really better?

    Runs that differ by training seed alone become one row.
    """
    from soar_bench.boards import compare as comparison
    from soar_bench.cli.options import split
    from soar_bench.core.errors import SoarBenchError
    from soar_bench.output import compare as view

    if not 0 < level < 1:
        raise SoarBenchError(f"--level takes a number between 0 and 1, not {level:g}")
    if detect is not None and not 0 < detect < float("inf"):
        raise SoarBenchError(f"--detect takes a positive number, not {detect:g}")
    board = comparison.board_of([comparison.find(run, results) for run in runs], anyway)
    rows = comparison.compare(board, level, detect, interval.value, anyway)
    shown = comparison.only(rows, split(metric))
    mismatches = comparison.mismatches([run for one in board for run in one.runs])
    said = view.notes(shown, board, mismatches, interval.value)
    if form is Format.markdown:
        typer.echo(view.as_markdown(shown, said), nl=False)
    elif form is Format.csv:
        typer.echo(view.as_csv(shown), nl=False)
    elif form is Format.latex:
        typer.echo(view.as_latex(shown, said), nl=False)
    elif form is Format.json:
        typer.echo(view.as_json(shown, said, mismatches), nl=False)
    else:
        from rich.console import Console

        from soar_bench.output.tables import comparison_table

        console = Console(highlight=False)
        console.print(comparison_table(shown, console.width))
        for sentence in said:
            console.print(sentence, markup=False, style="dim")
    if form is Format.csv:  # a table of numbers has no room for sentences
        for sentence in mismatches:
            typer.echo(f"soar-bench: {view.line(sentence)}", err=True)

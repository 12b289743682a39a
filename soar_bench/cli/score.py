"""``soar-bench score``."""

from __future__ import annotations

from pathlib import Path

import typer

from soar_bench.cli.options import Precision, split
from soar_bench.cli.outcome import complain


def score(
    folder: Path = typer.Argument(
        help="The images: GenEval's layout, or files with a list of prompts."
    ),
    evaluator: list[str] = typer.Option(
        [],
        "--evaluator",
        "--evaluators",
        help="Evaluators, separated by commas (see `soar-bench evaluators`).",
    ),
    prompts: Path | None = typer.Option(
        None,
        help="CSV, TSV or JSONL with the columns file and prompt.  [default: the folder's own]",
    ),
    label: str | None = typer.Option(
        None, help="What tables call the images.  [default: the folder's name]"
    ),
    suite: str | None = typer.Option(
        None, help="What the prompts are called.  [default: after their content]"
    ),
    batch_size: int = typer.Option(32, min=1, help="Images judged at once; changes no number."),
    device: str = typer.Option("auto", help="Where images are judged: cpu, cuda, mps."),
    evaluator_dtype: Precision = typer.Option(
        Precision.float32,
        help="Precision of the learned evaluators; other than float32 it is recorded and makes "
        "another board.",
    ),
    results: Path = typer.Option(Path("results"), help="Where the record is written."),
    cache: Path = typer.Option(Path("outputs/cache"), help="Where scores are kept."),
) -> None:
    """Score images made anywhere; write a record of them.

    Scores that exist are not made again: interrupted, the same command goes on.
    """
    from rich.console import Console

    from soar_bench.core.progress import stages
    from soar_bench.output.tables import run_table
    from soar_bench.score import Options, prepare, reasons, run

    options = Options(
        tuple(split(evaluator)),
        results,
        cache,
        prompts,
        label,
        suite,
        batch_size=batch_size,
        device=device,
        evaluator_dtype=evaluator_dtype.value,
    )
    with stages() as show:
        work = prepare(folder, options, show)
    for line in work.describe():
        typer.echo(line, err=True)
    with stages() as show:
        finished = run(work, options, show)
    Console().print(run_table([finished]))
    for line in reasons(finished):
        typer.echo(line, err=True)
    typer.echo(finished.folder)
    complain([finished])

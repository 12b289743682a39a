"""``soar-bench eval`` and ``suites``."""

from __future__ import annotations

from pathlib import Path

import typer

from soar_bench.cli.options import Precision, split


def evaluate(
    checkpoints: list[str] = typer.Argument(
        help="Checkpoints: `shapes`, a pipeline's folder, or what `soar-bench train` wrote."
    ),
    suite: str = typer.Option(
        "shapes", help="Suites, separated by commas (see `soar-bench suites`)."
    ),
    protocol: str | None = typer.Option(None, help="Named settings.  [default: the suite's]"),
    steps: int | None = typer.Option(None, min=1, help="Sampler steps, other than the protocol's."),
    guidance: float | None = typer.Option(
        None, min=1, help="Guidance, other than the protocol's; 1 is none."
    ),
    images: int | None = typer.Option(None, min=1, help="Images a prompt.  [default: the suite's]"),
    evaluator: list[str] = typer.Option(
        [],
        "--evaluator",
        "--evaluators",
        help="Evaluators, separated by commas.  [default: the suite's]",
    ),
    batch_size: int = typer.Option(32, min=1, help="Images made at once; changes no number."),
    device: str = typer.Option("cpu", help="Where images are made: cpu, cuda, mps."),
    evaluator_dtype: Precision = typer.Option(
        Precision.float32,
        help="Precision of the learned evaluators; other than float32 it is recorded and makes "
        "another board.",
    ),
    results: Path = typer.Option(Path("results"), help="Where records are written."),
    cache: Path = typer.Option(Path("outputs/cache"), help="Where images and scores are kept."),
) -> None:
    """Generate and score images of checkpoints; write a record of each run.

    Samples that exist are not made again: interrupted, the same command goes on.
    """
    from rich.console import Console

    from soar_bench.checkpoints import resolve
    from soar_bench.evaluate import Options, prepare, run
    from soar_bench.progress import stages
    from soar_bench.suites import DEFAULT_PROTOCOL, get_protocol, get_suite
    from soar_bench.tables import run_table

    options = Options(
        results,
        cache,
        images,
        tuple(split(evaluator)) or None,
        batch_size=batch_size,
        device=device,
        evaluator_dtype=evaluator_dtype.value,
    )
    suites = [get_suite(name.strip()) for name in suite.split(",")]
    judged = [resolve(name) for name in checkpoints]
    work = [
        prepare(
            checkpoint,
            one,
            get_protocol(protocol or DEFAULT_PROTOCOL[one.name]).override(
                steps=steps, guidance=guidance
            ),
            options,
        )
        for one in suites
        for checkpoint in judged
    ]
    for item in work:
        typer.echo(
            f"{item.checkpoint.label} on {item.suite.name} under {item.protocol.name}: "
            f"{len(item.to_generate)} of {len(item.samples)} images to make",
            err=True,
        )
    runs = []
    for item in work:
        with stages() as show:
            runs.append(run(item, options, show))
    Console().print(run_table(runs))
    for finished in runs:
        typer.echo(finished.folder)


def suites() -> None:
    """List the suites: prompts, images a prompt and evaluators."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from soar_bench.prompts import is_fetched
    from soar_bench.suites import DEFAULT_PROTOCOL, FETCHED, declared, get_suite, names
    from soar_bench.types import SoarBenchError

    table = Table(box=None, pad_edge=False)
    for name in ("suite", "prompts", "images", "protocol"):
        table.add_column(name, no_wrap=True)
    table.add_column("evaluators, and what is asked", overflow="fold")
    for name in names():
        suite = declared(name)
        asked = f"[dim]{escape(suite.description)}[/]"
        if name not in FETCHED:
            prompts = str(len(suite.prompts))
        elif not is_fetched(name):
            prompts = "not fetched"
        else:
            try:
                prompts = str(len(get_suite(name).prompts))
            except SoarBenchError as error:
                prompts, asked = "damaged", f"[red]{escape(str(error))}[/]"
        table.add_row(
            name,
            prompts,
            str(suite.images_per_prompt),
            DEFAULT_PROTOCOL[name],
            f"{', '.join(suite.evaluators)}\n{asked}",
        )
    Console().print(table)

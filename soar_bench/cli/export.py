"""``soar-bench export`` and ``soar-bench import``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from soar_bench.cli.common import RESULTS

if TYPE_CHECKING:
    from soar_bench.records import Run

app = typer.Typer(help="Write runs for other programs.", no_args_is_help=True)

_RUNS = "Runs: id, folder, label, or a part of the path that only one has."
_OUTPUT = typer.Option(..., help="File to write.")
_FORCE = typer.Option(False, "--force", help="Replace an existing file.")


@app.command()
def card(
    runs: list[str] = typer.Argument(help=_RUNS),
    output: Path = typer.Option(
        Path("README.md"), help="Model card; an existing one is kept and its results updated."
    ),
    name: str = typer.Option("", help="Name of the model in the index.  [default: the card's]"),
    source_url: str = typer.Option(
        "", help="URL at which the records can be read.  [default: none]"
    ),
    results: Path = RESULTS,
) -> None:
    """Put the values of one checkpoint into a Hugging Face model card.

    All other text and metadata of the card stay as they are.
    """
    from soar_bench.core.errors import SoarBenchError
    from soar_bench.core.files import replace_atomically
    from soar_bench.records.export import card as text_of

    found = _select(results, runs)
    try:
        there = output.read_bytes().decode("utf-8-sig") if output.exists() else ""
    except UnicodeDecodeError:
        raise SoarBenchError(f"{output} is no text in UTF-8: name another --output") from None
    try:
        text = text_of(found, there, name, source_url)
    except SoarBenchError as error:
        raise SoarBenchError(f"{output}: {error}") from None
    with replace_atomically(output) as aside:
        aside.write_bytes(text.encode("utf-8"))
    typer.echo(output)


@app.command()
def csv(
    runs: list[str] = typer.Argument(help=_RUNS),
    output: Path = _OUTPUT,
    force: bool = _FORCE,
    results: Path = RESULTS,
) -> None:
    """Write a CSV table with one line per sample and metric."""
    _samples(runs, "csv", output, force, results)


@app.command()
def parquet(
    runs: list[str] = typer.Argument(help=_RUNS),
    output: Path = _OUTPUT,
    force: bool = _FORCE,
    results: Path = RESULTS,
) -> None:
    """Write the same table as Parquet, which keeps the column types."""
    _samples(runs, "parquet", output, force, results)


def _samples(runs: list[str], form: str, output: Path, force: bool, results: Path) -> None:
    from soar_bench.records.export import write_samples

    rows = write_samples(_select(results, runs), form, output, force)
    typer.echo(f"{output}: {rows} rows")


def _select(results: Path, names: list[str]) -> list[Run]:
    """Return each run once, in the order named; SoarBenchError for a broken one."""
    from soar_bench.records.folders import select

    runs = [select(results, name).whole() for name in names]
    return list({run.folder.resolve(): run for run in runs}.values())


def import_(
    file: Path = typer.Argument(help="Results of another tool, one image per line."),
    label: str = typer.Option(..., help="Name of the images in tables."),
    tool: str | None = typer.Option(
        None, help="Tool: geneval or diffusion-nft.  [default: by the first line]"
    ),
    suite: str | None = typer.Option(
        None, help="Suite of the prompts.  [default: the one that has them]"
    ),
    results: Path = RESULTS,
) -> None:
    """Make a record of another tool's results, marked as imported.

    GenEval's results.jsonl, or the evaluation_results.jsonl of DiffusionNFT and HY-SOAR.
    """
    from soar_bench.records.imports import import_results, notes

    imported = import_results(file, label, tool, suite, results)
    for sentence in notes(imported):
        typer.echo(sentence, err=True)
    typer.echo(imported.folder)

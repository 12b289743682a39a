"""``soar-bench export`` and ``soar-bench import``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from soar_bench.records import Run

app = typer.Typer(help="Write runs for other programs.", no_args_is_help=True)

_RUNS = "Runs: id, folder, label, or a part of the path that only one has."
_RESULTS = typer.Option(Path("results"), help="Where the records are.")
_OUTPUT = typer.Option(..., help="The file to write.")
_FORCE = typer.Option(False, "--force", help="Replace the file if it is there.")


@app.command()
def card(
    runs: list[str] = typer.Argument(help=_RUNS),
    output: Path = typer.Option(
        Path("README.md"), help="The card; one that is there is kept and its results updated."
    ),
    name: str = typer.Option("", help="The model's name in the index.  [default: the card's]"),
    source_url: str = typer.Option("", help="Where the records can be read."),
    results: Path = _RESULTS,
) -> None:
    """Put the values of one checkpoint's runs into a Hugging Face model card.

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
    results: Path = _RESULTS,
) -> None:
    """Write one table of all samples, a line a sample and metric."""
    _samples(runs, "csv", output, force, results)


@app.command()
def parquet(
    runs: list[str] = typer.Argument(help=_RUNS),
    output: Path = _OUTPUT,
    force: bool = _FORCE,
    results: Path = _RESULTS,
) -> None:
    """Write the same as a Parquet file, which keeps the columns' types."""
    _samples(runs, "parquet", output, force, results)


def _samples(runs: list[str], form: str, output: Path, force: bool, results: Path) -> None:
    from soar_bench.records.export import write_samples

    rows = write_samples(_select(results, runs), form, output, force)
    typer.echo(f"{output}: {rows} rows")


def _select(results: Path, names: list[str]) -> list[Run]:
    """Each run once, in the order named. SoarBenchError for one that is broken."""
    from soar_bench.core.errors import SoarBenchError
    from soar_bench.records.manage import select

    found = {}
    for name in names:
        one = select(results, name)
        if one.run is None or one.fault:
            raise SoarBenchError(one.fault)
        found[one.folder.resolve()] = one.run
    return list(found.values())


def import_(
    file: Path = typer.Argument(help="Another tool's results, an image a line."),
    label: str = typer.Option(..., help="What tables call the images."),
    tool: str | None = typer.Option(
        None, help="Whose results: geneval or diffusion-nft.  [default: by the first line]"
    ),
    suite: str | None = typer.Option(
        None, help="The suite of the prompts.  [default: the one that has them]"
    ),
    results: Path = _RESULTS,
) -> None:
    """Make a record of another tool's results, marked as imported.

    GenEval's results.jsonl, or the evaluation_results.jsonl of DiffusionNFT and HY-SOAR.
    """
    from soar_bench.records.imports import import_results, notes

    imported = import_results(file, label, tool, suite, results)
    for sentence in notes(imported):
        typer.echo(sentence, err=True)
    typer.echo(imported.folder)

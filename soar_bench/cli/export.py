"""``soar-bench export`` and ``soar-bench import``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from typer import Argument, Option

from soar_bench.cli.common import RESULTS, echo, echo_json, echo_lines, file_to_write
from soar_bench.cli.help import App

if TYPE_CHECKING:
    from soar_bench.records import Run

app = App("Write runs for other programs.")

_RUNS = Argument(help="Runs: id, folder, label, or a part of the path that only one has.")
_OUTPUT = Option(..., metavar="FILE", callback=file_to_write, help="File to write.")
_FORCE = Option(False, "--force", help="Replace an existing file.")


@app.add("card", "soar-bench export card my-lora --output my-lora/README.md")
def card(
    runs: list[str] = _RUNS,
    output: Path = Option(
        Path("README.md"),
        metavar="FILE",
        callback=file_to_write,
        help="Model card; an existing one is kept and its results updated.",
    ),
    name: str = Option("", help="Name of the model in the index.  [default: the card's]"),
    source_url: str = Option("", help="URL at which the records can be read.  [default: none]"),
    results: Path = RESULTS,
) -> None:
    """Put the values of one checkpoint into a Hugging Face model card.

    All other text and metadata of the card stay as they are.
    """
    from soar_bench.core.errors import SoarBenchError
    from soar_bench.core.files import write_text
    from soar_bench.records.export import card as text_of

    runs_of_card = _select(results, runs)
    try:
        present = output.read_bytes().decode("utf-8-sig") if output.exists() else ""
        text = text_of(runs_of_card, present, name, source_url)
    except UnicodeDecodeError:
        raise SoarBenchError(f"{output} is no text in UTF-8: name another --output") from None
    except SoarBenchError as error:
        raise SoarBenchError(f"{output}: {error}") from None
    write_text(output, text)
    echo(output)


@app.add("csv", "soar-bench export csv my-lora base --output samples.csv")
def csv(
    runs: list[str] = _RUNS, output: Path = _OUTPUT, force: bool = _FORCE, results: Path = RESULTS
) -> None:
    """Write a CSV table with one line per sample and metric."""
    _samples(runs, "csv", output, force, results)


@app.add("parquet", "soar-bench export parquet my-lora --output samples.parquet")
def parquet(
    runs: list[str] = _RUNS, output: Path = _OUTPUT, force: bool = _FORCE, results: Path = RESULTS
) -> None:
    """Write the same table as Parquet, which keeps the column types."""
    _samples(runs, "parquet", output, force, results)


def _samples(runs: list[str], form: str, output: Path, force: bool, results: Path) -> None:
    from soar_bench.records.export import write_samples

    rows = write_samples(_select(results, runs), form, output, force)
    echo(f"{output}: {rows} rows")


def _select(results: Path, names: list[str]) -> list[Run]:
    """Return each run once, in the order named; SoarBenchError for a broken one."""
    from soar_bench.records.folders import select

    runs = [select(results, name).whole() for name in names]
    return list({run.folder.resolve(): run for run in runs}.values())


def import_(
    file: Path = Argument(help="Results of another tool, one image per line."),
    label: str = Option(..., help="Name of the images in tables."),
    tool: str | None = Option(
        None, help="Tool: geneval or diffusion-nft.  [default: by the first line]"
    ),
    suite: str | None = Option(
        None, metavar="NAME", help="Suite of the prompts.  [default: the one that has them]"
    ),
    results: Path = RESULTS,
    dry_run: bool = Option(
        False, "--dry-run", help="Read and check everything; write no record, show its folder."
    ),
    as_json: bool = Option(False, "--json", help="Print the record as JSON."),
) -> None:
    """Make a record of another tool's results, marked as imported.

    GenEval's results.jsonl, or the evaluation_results.jsonl of DiffusionNFT and HY-SOAR.
    """
    from tempfile import TemporaryDirectory

    from soar_bench.core.files import check_writable
    from soar_bench.records.imports import import_results, notes

    check_writable(results)
    with TemporaryDirectory() as aside:
        target = Path(aside) if dry_run else results
        imported = import_results(file, label, tool, suite, target)
        folder = results / imported.folder.relative_to(target)
    echo_lines(notes(imported), err=True)
    if as_json:
        echo_json({"folder": str(folder), **imported.record.as_json()})
    else:
        echo(folder)

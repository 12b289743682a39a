"""``soar-bench report``."""

from __future__ import annotations

from pathlib import Path

import typer

from soar_bench.cli.common import CACHE, RESULTS


def report(
    runs: list[str] | None = typer.Argument(
        None,
        metavar="[RUN_OR_FOLDER]...",
        help="Runs by folder, id or label, or folders that hold runs.  [default: all of --results]",
    ),
    results: Path = RESULTS,
    cache: Path = CACHE,
    output: Path = typer.Option(
        Path("outputs/report"), help="Folder to write; replaces an older report there."
    ),
    max_images: int = typer.Option(
        10_000,
        min=0,
        help="Most images in the gallery; the first image of every prompt comes first.",
    ),
    title: str = typer.Option("", help="Heading of the page.  [default: the suites' names]"),
    drift: list[Path] = typer.Option(
        [], help="A drift.csv or its folder.  [default: those beside the records]"
    ),
    lossless: bool = typer.Option(
        False, "--lossless", help="Write large images at full size as PNG instead of WebP."
    ),
) -> None:
    """Write a page with tables, plots and images, to open from disk."""
    from soar_bench.core.errors import SoarBenchError
    from soar_bench.core.progress import stages
    from soar_bench.records import RUN_FILE, read_runs
    from soar_bench.records.folders import select
    from soar_bench.report.page import Options, write_report

    chosen, top = [], []
    for name in runs or [str(results)]:
        folder = Path(name)
        if folder.is_dir() and not (folder / RUN_FILE).exists():
            chosen += read_runs(folder)
            top.append(folder)
            continue
        selected = select(results, name)
        if selected.run is None or selected.fault:
            raise SoarBenchError(selected.fault)
        chosen.append(selected.run)
    options = Options(output, cache, max_images, title, lossless, tuple(top), tuple(drift))
    with stages() as progress:
        written = write_report(chosen, options, progress)
    for sentence in written.missing:
        typer.echo(sentence, err=True)
    typer.echo(written.page)

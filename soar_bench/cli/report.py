"""``soar-bench report``."""

from __future__ import annotations

from pathlib import Path

from typer import Argument, Option

from soar_bench.cli import common


def report(
    runs: list[str] | None = Argument(
        None,
        metavar="RUN|FOLDER",
        help="Runs by folder, id or label, or folders that hold runs.  [default: all of --results]",
    ),
    config: Path | None = common.CONFIG,
    results: Path = common.RESULTS,
    cache: Path = common.CACHE,
    output: Path = Option(
        Path("outputs/report"),
        metavar="FOLDER",
        callback=common.folder_to_write,
        help="Folder to write; replaces an older report there.",
    ),
    max_images: int = Option(
        10_000,
        min=0,
        help="Most images in the gallery; the first image of every prompt comes first.",
    ),
    title: str = Option("", help="Heading of the page.  [default: the suites' names]"),
    by: str = common.BY,
    drift: list[str] = Option(
        [],
        help="Files drift.csv or their folders, separated by commas.  "
        "[default: those beside the records]",
    ),
    lossless: bool = Option(
        False, "--lossless", help="Write large images at full size as PNG instead of WebP."
    ),
    as_json: bool = Option(False, "--json", help="Print the page's path and counts as JSON."),
) -> None:
    """Write a page with tables, plots and images, to open from disk."""
    from dataclasses import asdict

    from soar_bench.core.progress import stages
    from soar_bench.records.folders import find
    from soar_bench.report.page import Options, write_report

    shown, top = [], []
    for name in runs or [str(results)]:
        shown += find(name, results)
        if Path(name).is_dir():
            top.append(Path(name))
    drifts = tuple(map(Path, common.files_or_names(drift)))
    options = Options(output, cache, max_images, title, lossless, tuple(top), drifts, by)
    with stages() as progress:
        written = write_report(shown, options, progress)
    common.echo_lines(written.missing, err=True)
    if as_json:
        common.echo_json(asdict(written) | {"page": str(written.page)})
    else:
        common.echo(written.page)

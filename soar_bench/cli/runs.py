"""``soar-bench runs`` and ``soar-bench rerun``."""

from __future__ import annotations

from pathlib import Path

import typer

app = typer.Typer(help="List, show, verify and delete the records of runs.", no_args_is_help=True)

_RUN = "A run: its id, its folder, its label, or a part of its path that only it has."
_RESULTS = typer.Option(Path("results"), help="Folder with the records.")
_CACHE = typer.Option(Path("outputs/cache"), help="Folder with images and scores.")


@app.command("list")
def listing(
    results: Path = _RESULTS,
    suite: str | None = typer.Option(None, help="Suite whose runs to list.  [default: all]"),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """List the runs, one per line; exit code 1 if a record is broken."""
    import sys

    from soar_bench.output import runs as run_view
    from soar_bench.records import json_text
    from soar_bench.records.manage import survey

    found = [
        one
        for one in survey(results)
        if suite is None or one.run is None or one.run.record.suite.name == suite
    ]
    if as_json:
        typer.echo(json_text(run_view.rows_json(found)), nl=False)
    elif not sys.stdout.isatty():
        for line in run_view.plain(found):
            typer.echo(line)
    else:
        from rich.console import Console

        Console().print(run_view.table(found))
    broken = run_view.faults(found)
    for fault in broken:
        typer.echo(f"broken: {fault}", err=True)
    if broken:
        raise typer.Exit(1)


@app.command()
def show(
    run: str = typer.Argument(help=_RUN),
    results: Path = _RESULTS,
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Show a record: checkpoint, settings, evaluators and values."""
    from soar_bench.core.errors import SoarBenchError
    from soar_bench.output import runs as run_view
    from soar_bench.records import json_text
    from soar_bench.records.manage import select

    found = select(results, run)
    scores = found.run.scores() if found.run and not found.fault else None
    if as_json:
        typer.echo(json_text(run_view.page_json(found, scores)), nl=False)
    elif found.run is not None:
        for line in run_view.page(found, found.run, scores):
            typer.echo(line)
    if found.fault:
        raise SoarBenchError(found.fault)


@app.command()
def delete(
    runs: list[str] = typer.Argument(help=_RUN),
    images: bool = typer.Option(
        False,
        "--images",
        help="Also delete cached images and scores that no other record here needs.",
    ),
    yes: bool = typer.Option(False, "--yes", "-y", help="Do not ask for confirmation."),
    results: Path = _RESULTS,
    cache: Path = _CACHE,
) -> None:
    """Delete records and, with --images, their images and scores."""
    import sys

    from soar_bench.core.errors import SoarBenchError
    from soar_bench.records.manage import delete as remove
    from soar_bench.records.manage import delete_cached, only_needed_by, select, survey

    found = list({one.folder.resolve(): one for one in (select(results, r) for r in runs)}.values())
    cached = only_needed_by(found, survey(results), cache) if images else []
    for one in found:
        typer.echo(f"to delete: {one.folder}", err=True)
    if images:
        count = sum(len(one.images) for one in cached)
        typer.echo(f"to delete: {count} images in {cache}, and their scores", err=True)
    if not yes:
        if not sys.stdin.isatty():
            raise SoarBenchError("nothing was deleted: say --yes where nobody can be asked")
        if not typer.confirm("Delete?", err=True):
            raise typer.Exit(1)
    # Images first: stopped in between, the same command goes on.
    removed, _ = delete_cached(cached)
    for one in found:
        remove(one, results)
        typer.echo(one.folder)
    if images:
        typer.echo(f"{removed} images deleted", err=True)


@app.command()
def verify(
    runs: list[str] | None = typer.Argument(None, help=f"{_RUN}  [default: all]"),
    results: Path = _RESULTS,
    cache: Path = _CACHE,
    as_json: bool = typer.Option(False, "--json", help="Print every check as JSON."),
) -> None:
    """Check records against scores, suite, noise and images.

    Exits with 1 if anything is wrong.
    """
    from dataclasses import asdict

    from soar_bench.output import runs as run_view
    from soar_bench.records import json_text
    from soar_bench.records.manage import select, survey
    from soar_bench.records.verify import verify as check

    found = [select(results, run) for run in runs] if runs else survey(results)
    findings = {one.id: check(one, cache) for one in found}
    every = [finding for one in findings.values() for finding in one]
    if as_json:
        typer.echo(json_text([asdict(finding) for finding in every]), nl=False)
    else:
        for line in run_view.findings(found, findings):
            typer.echo(line)
    if any(finding.state == "wrong" for finding in every):
        raise typer.Exit(1)


def rerun(
    run: str = typer.Argument(help=_RUN),
    results: Path = _RESULTS,
    output: Path = typer.Option(
        Path("outputs/reruns"), help="Folder for the images and the new record."
    ),
    device: str | None = typer.Option(
        None, help="Device: auto, cpu, cuda or mps.  [default: the recorded]"
    ),
    batch_size: int | None = typer.Option(
        None, min=1, help="Images generated at once.  [default: the recorded]"
    ),
    anyway: bool = typer.Option(
        False, "--anyway", help="Go on where the checkpoint or the suite has changed since."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the comparison as JSON."),
) -> None:
    """Make a run again from its record and say what differs.

    Exits with 1 if its scores differ.

    The record and its cache are only read. Interrupted, the same command goes on.
    """
    from soar_bench import rerun as reruns
    from soar_bench.cli.signals import terminate_as_interrupt
    from soar_bench.core.errors import SoarBenchError
    from soar_bench.core.progress import stages
    from soar_bench.records import json_text
    from soar_bench.records.manage import select

    terminate_as_interrupt()
    found = select(results, run)
    if found.run is None or found.fault:
        raise SoarBenchError(found.fault)
    again = reruns.plan_again(
        found.run, output, results=results, device=device, batch_size=batch_size
    )
    for sentence in (*again.others, *again.changes):
        typer.echo(f"differs: {sentence}", err=True)
    if again.others and not anyway:
        raise SoarBenchError(
            f"{'; '.join(again.others)}: bring back what the record names, or see what comes of "
            "this one with --anyway"
        )
    reruns.start(again)
    with stages() as progress:
        compared = reruns.make(again, progress, progress.note)
    if as_json:
        typer.echo(json_text(compared.as_json()), nl=False)
    else:
        for line in reruns.lines(compared):
            typer.echo(line)
        typer.echo(compared.made.folder)
    if not compared.same:
        raise typer.Exit(1)

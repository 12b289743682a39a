"""``soar-bench runs`` and ``soar-bench rerun``."""

from __future__ import annotations

from pathlib import Path

import typer
from typer import Argument, Option

from soar_bench.cli import common
from soar_bench.cli.help import App, ListGroups

app = App("List, show, verify and delete the records of runs.", ListGroups)

_RUN = "A run: its id, its folder, its label, or a part of its path that only it has."


@app.add("list", "soar-bench runs\nsoar-bench runs list --suite geneval,ocr")
def listing(
    results: Path = common.RESULTS,
    suite: list[str] = Option(
        [], help="Suites whose runs to list, separated by commas.  [default: all]"
    ),
    cost: bool = Option(
        False, "--cost", help="List seconds per image and peak memory by stage instead."
    ),
    as_json: bool = common.AS_JSON,
) -> None:
    """List the runs, one per line; exit code 1 if a record is broken."""
    import sys

    from soar_bench.core.errors import unknown_name
    from soar_bench.core.terminal import new_console
    from soar_bench.output import costs
    from soar_bench.output import runs as pages
    from soar_bench.records.folders import survey
    from soar_bench.suites import names

    entries = survey(results)
    if suites := common.split(suite):
        here = list(dict.fromkeys(e.run.record.suite.name for e in entries if e.run))
        for name in suites:
            if name not in here and name not in names():
                raise unknown_name("suite of these runs", name, here)
        entries = [e for e in entries if e.run is None or e.run.record.suite.name in suites]
    if cost and as_json:
        common.echo_json(list(costs.rows(entries)))
    elif as_json:
        common.echo_json(pages.rows_json(entries))
    elif not sys.stdout.isatty():
        common.echo_lines(costs.lines(entries) if cost else pages.plain(entries))
    else:
        new_console().print(costs.table(entries) if cost else pages.table(entries))
    faults = [f"broken: {entry.fault}" for entry in entries if entry.fault]
    common.echo_lines(faults, err=True)
    if faults:
        raise typer.Exit(1)


@app.add("show", "soar-bench runs show my-lora")
def show(
    run: str = Argument(help=_RUN),
    results: Path = common.RESULTS,
    as_json: bool = common.AS_JSON,
) -> None:
    """Show a record: checkpoint, settings, evaluators and values."""
    from soar_bench.output import runs as pages
    from soar_bench.records.folders import select

    entry = select(results, run)
    scores = entry.run.scores() if entry.run and not entry.fault else None
    if as_json:
        common.echo_json(pages.page_json(entry, scores))
    elif entry.run is not None:
        common.echo_lines(pages.page(entry, entry.run, scores))
    entry.whole()


@app.add("delete", "soar-bench runs delete my-lora --images --dry-run")
def delete(
    runs: list[str] = Argument(help=_RUN),
    images: bool = Option(
        False,
        "--images",
        help="Also delete cached images and scores that no other record here needs.",
    ),
    yes: bool = Option(False, "--yes", "-y", help="Do not ask for confirmation."),
    dry_run: bool = Option(False, "--dry-run", help="Say what would be deleted."),
    results: Path = common.RESULTS,
    cache: Path = common.CACHE,
) -> None:
    """Delete records and, with --images, their images and scores."""
    import sys

    from soar_bench.core.errors import SoarBenchError
    from soar_bench.records.delete import delete as remove
    from soar_bench.records.delete import delete_cached, only_needed_by
    from soar_bench.records.folders import select, survey

    selected = [select(results, run) for run in runs]
    entries = list({entry.folder.resolve(): entry for entry in selected}.values())
    cached = only_needed_by(entries, survey(results), cache) if images else []
    common.echo_lines((f"to delete: {entry.folder}" for entry in entries), err=True)
    if images:
        count = sum(len(part.images) for part in cached)
        common.echo(f"to delete: {count} images in {cache}, and their scores", err=True)
    if dry_run:
        return
    if not yes:
        if not sys.stdin.isatty():
            raise SoarBenchError("nothing was deleted: say --yes where nobody can be asked")
        if not typer.confirm("Delete?", err=True):
            raise typer.Exit(1)
    # Images first: stopped in between, the same command goes on.
    removed = delete_cached(cached)
    for entry in entries:
        remove(entry, results)
        common.echo(entry.folder)
    if images:
        common.echo(f"{removed} images deleted", err=True)


@app.add("verify", "soar-bench runs verify\nsoar-bench runs verify my-lora")
def verify(
    runs: list[str] | None = Argument(None, help=f"{_RUN}  [default: all]"),
    results: Path = common.RESULTS,
    cache: Path = common.CACHE,
    deep: bool = Option(
        False, "--deep", help="Also read checkpoints and weights of evaluators again, every byte."
    ),
    as_json: bool = Option(False, "--json", help="Print every check as JSON."),
) -> None:
    """Check records against scores, suite, noise and images.

    Exits with 1 if anything is wrong.
    """
    from contextlib import nullcontext
    from dataclasses import asdict

    from soar_bench.core.digests import reading_through
    from soar_bench.output import runs as pages
    from soar_bench.records.folders import select, survey
    from soar_bench.records.verify import verify as check

    entries = [select(results, run) for run in runs] if runs else survey(results)
    with reading_through() if deep else nullcontext():
        findings = {entry.id: check(entry, cache, deep) for entry in entries}
    together = [finding for of_entry in findings.values() for finding in of_entry]
    if as_json:
        common.echo_json([asdict(finding) for finding in together])
    else:
        common.echo_lines(pages.findings(entries, findings))
    if any(finding.state == "wrong" for finding in together):
        raise typer.Exit(1)


def rerun(
    run: str = Argument(help=_RUN),
    results: Path = common.RESULTS,
    output: Path = Option(
        Path("outputs/reruns"),
        metavar="FOLDER",
        callback=common.folder_to_write,
        help="Folder for the images and the new record.",
    ),
    device: str | None = Option(
        None, help="Device: auto, cpu, cuda or mps.  [default: the recorded]"
    ),
    batch_size: int | None = Option(
        None, min=1, help="Images generated at once.  [default: the recorded]"
    ),
    evaluator: list[str] = Option(
        [],
        "--evaluator",
        "--evaluators",
        help="Files or modules that the record names as evaluators and that may be run, separated "
        "by commas.  [default: none]",
    ),
    anyway: bool = Option(
        False, "--anyway", help="Go on where the checkpoint or the suite has changed since."
    ),
    dry_run: bool = Option(False, "--dry-run", help="Check everything and make nothing."),
    as_json: bool = Option(False, "--json", help="Print the comparison as JSON."),
) -> None:
    """Make a run again from its record and say what differs.

    Exits with 1 if its scores differ.

    The record and its cache are only read. Interrupted, the same command goes on.
    """
    from soar_bench import rerun as reruns
    from soar_bench.core.errors import SoarBenchError
    from soar_bench.core.progress import stages
    from soar_bench.records.folders import select

    recorded = select(results, run).whole()
    again = reruns.plan_again(
        recorded,
        output,
        results=results,
        device=device,
        batch_size=batch_size,
        evaluators=common.files_or_names(evaluator),
    )
    common.echo_lines((f"differs: {text}" for text in (*again.others, *again.changes)), err=True)
    if again.others and not anyway:
        raise SoarBenchError(
            f"{'; '.join(again.others)}: bring back what the record names, or see what comes of "
            "this one with --anyway"
        )
    if dry_run:
        common.echo(f"{run} can be made again, in {output}")
        return
    reruns.start(again)
    with stages() as progress:
        compared = reruns.make(again, progress, progress.note)
    if as_json:
        common.echo_json(compared.as_json())
    else:
        common.echo_lines([*reruns.lines(compared), compared.made.folder])
    if not compared.same:
        raise typer.Exit(1)

"""``soar-bench fetch``."""

from __future__ import annotations

import typer


def fetch(
    names: list[str] = typer.Argument(
        None, help="Weights, evaluators or prompt sets; without any, what there is is listed."
    ),
    suite: list[str] = typer.Option(
        [], help="A suite: its prompts and the weights of its evaluators."
    ),
    everything: bool = typer.Option(False, "--all", help="All weights and prompt sets."),
    checkpoint: list[str] = typer.Option(
        [],
        metavar="ID",
        help="A checkpoint of the Hugging Face hub: org/name or org/name@revision.",
    ),
    mirror: str | None = typer.Option(
        None, metavar="FOLDER|ADDRESS", help="Somebody's copy to take the files from."
    ),
    offline: bool = typer.Option(
        False, "--offline", help="Never use the network; only verify and say what is missing."
    ),
) -> None:
    """Download weights, prompt sets and checkpoints.

    Weights and prompt sets are verified against their SHA-256.

    Files that are there and whole are left alone. Interrupted, the same command goes on.
    """
    from rich.console import Console

    from soar_bench import fetch as work
    from soar_bench.core.errors import SoarBenchError
    from soar_bench.core.files import home
    from soar_bench.fetch import download, file_sets
    from soar_bench.fetch.mirror import AddressMirror, open_mirror
    from soar_bench.output.fetch import listing, progress

    wanted = [s for name in names or [] for s in file_sets.named(name)]
    wanted += [s for name in suite for s in file_sets.of_suite(name)]
    wanted += file_sets.everything() if everything else []
    wanted = file_sets.distinct(wanted)
    if not (names or suite or everything or checkpoint):
        if mirror is not None:
            raise SoarBenchError("say what to take from the mirror: names, --suite or --all")
        Console().print(listing(file_sets.everything(), _say))
        typer.echo(f"They are kept in {home()}.")
        return

    offline = offline or download.offline()
    _checkpoints(checkpoint, offline)
    if checkpoint and not (names or suite or everything):
        return
    source: work.Source | None = None if offline else work.Published()
    if mirror is not None:
        source = open_mirror(mirror)
        if offline and isinstance(source, AddressMirror):
            raise SoarBenchError("a mirror's address needs the network: drop --offline")

    planned = work.plan(wanted, source, _say)
    for item in planned.present:
        typer.echo(f"{item.label}: here and whole")
    if not planned.missing:
        typer.echo("Nothing to fetch.")
        return
    for line in work.summary(planned):
        typer.echo(line)
    if source is None:
        sets = " ".join(dict.fromkeys(item.set.name for item in planned.missing))
        _fail(
            f"offline, so nothing was fetched: run `soar-bench fetch {sets}` where there is "
            "internet, and bring the files here with --mirror"
        )
        return
    planned.check_space()
    with progress(_say) as show:
        report = work.fetch(planned, source, show, _say)
    for item in report.fetched:
        typer.echo(f"{item.label}: fetched")
    if report.failures:
        *before, last = [str(error) for _, error in report.failures]
        for words in before:
            _say(f"soar-bench: {words}")
        if report.untried:
            last += f" (files that were not tried then: {len(report.untried)})"
        _fail(last)


def _checkpoints(names: list[str], offline: bool) -> None:
    """Brings checkpoints into the hub's cache, or says which are there."""
    from soar_bench.checkpoints import hub
    from soar_bench.core.errors import SoarBenchError

    wanted = []
    for name in dict.fromkeys(names):
        one = hub.parse(name)
        if one is None:
            raise SoarBenchError(f"{name!r} is no hub id: write org/name or org/name@revision")
        wanted.append(one)
    absent = [one for one in wanted if offline and not hub.is_here(one)]
    if absent:
        ids = " ".join(f"--checkpoint {one}" for one in absent)
        _fail(
            f"offline, so nothing was fetched: run `soar-bench fetch {ids}` where there is "
            "internet, and bring the hub's cache here (the folder that HF_HUB_CACHE names)"
        )
    for one in wanted:
        if offline:
            typer.echo(f"{one}: here ({hub.find(one)[0]})")
            continue
        planned = hub.plan(one)
        typer.echo(planned.summary())
        hub.check_space(planned)
        typer.echo(f"{one}: fetched ({hub.fetch(planned)})")


def _say(words: str) -> None:
    typer.echo(words, err=True)


def _fail(words: str) -> None:
    _say(f"soar-bench: {words}")
    raise typer.Exit(1)

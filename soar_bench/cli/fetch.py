"""``soar-bench fetch``."""

from __future__ import annotations

from typing import NoReturn

import typer


def fetch(
    names: list[str] = typer.Argument(
        None,
        help="Weights, evaluators or prompt sets.  [default: list what can be fetched]",
    ),
    suite: list[str] = typer.Option(
        [], help="Suite whose prompts and weights to fetch.  [default: none]"
    ),
    everything: bool = typer.Option(False, "--all", help="Fetch all weights and prompt sets."),
    checkpoint: list[str] = typer.Option(
        [],
        metavar="ID",
        help="Checkpoint of the Hugging Face hub, org/name or org/name@revision.  [default: none]",
    ),
    mirror: str | None = typer.Option(
        None,
        metavar="FOLDER|ADDRESS",
        help="Copy to take the files from.  [default: where they are published]",
    ),
    offline: bool = typer.Option(
        False, "--offline", help="Use no network; verify the files here and list what is missing."
    ),
) -> None:
    """Download weights, prompt sets and checkpoints.

    Weights and prompt sets are verified against their SHA-256.

    Files that are here and whole are left alone. Interrupted, the same command goes on.
    """
    from rich.console import Console

    from soar_bench import fetch as fetching
    from soar_bench import suites
    from soar_bench.core.errors import SoarBenchError
    from soar_bench.core.files import home
    from soar_bench.fetch import download, file_sets
    from soar_bench.fetch import mirror as mirrors
    from soar_bench.output.fetch import listing

    sets = [s for name in names or [] for s in file_sets.named(name, suites.SUITES)]
    for name in suite:
        sets += file_sets.of_suite(name, suites.declared(name).evaluators)
    sets = file_sets.distinct([*sets, *(file_sets.everything() if everything else [])])
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
    source: fetching.Source | None = None if offline else fetching.Source()
    if mirror is not None:
        source = mirrors.open_mirror(mirror)
        if offline and isinstance(source, mirrors.AddressMirror):
            raise SoarBenchError("a mirror's address needs the network: drop --offline")

    plan = fetching.plan(sets, source, _say)
    for item in plan.present:
        typer.echo(f"{item.label}: here and whole")
    if not plan.missing:
        typer.echo("Nothing to fetch.")
        return
    for line in plan.summary():
        typer.echo(line)
    if source is None:
        absent = " ".join(dict.fromkeys(missing.item.set.name for missing in plan.missing))
        _fail(
            f"offline, so nothing was fetched: run `soar-bench fetch {absent}` where there is "
            "internet, and bring the files here with --mirror"
        )
    download.check_space(home(), plan.needed)
    failures, untried = [], len(plan.missing)
    for item, failure in fetching.fetch(plan, source, _say):
        untried -= 1
        if failure is None:
            typer.echo(f"{item.label}: fetched")
        else:
            failures.append(str(failure))
    if failures:
        *before, last = failures
        for words in before:
            _say(f"soar-bench: {words}")
        _fail(last + (f" (files that were not tried then: {untried})" if untried else ""))


def _checkpoints(names: list[str], offline: bool) -> None:
    """Bring checkpoints into the hub's cache, or say which are there."""
    from soar_bench.checkpoints import hub
    from soar_bench.core.errors import SoarBenchError

    ids = []
    for name in dict.fromkeys(names):
        if (hub_id := hub.parse(name)) is None:
            raise SoarBenchError(f"{name!r} is no hub id: write org/name or org/name@revision")
        ids.append(hub_id)
    absent = [hub_id for hub_id in ids if offline and not hub.is_here(hub_id)]
    if absent:
        options = " ".join(f"--checkpoint {hub_id}" for hub_id in absent)
        _fail(
            f"offline, so nothing was fetched: run `soar-bench fetch {options}` where there is "
            "internet, and bring the hub's cache here (the folder that HF_HUB_CACHE names)"
        )
    for hub_id in ids:
        if offline:
            typer.echo(f"{hub_id}: here ({hub.find(hub_id)[0]})")
            continue
        plan = hub.plan(hub_id)
        typer.echo(plan.summary())
        typer.echo(f"{hub_id}: fetched ({hub.fetch(plan)})")


def _say(words: str) -> None:
    typer.echo(words, err=True)


def _fail(words: str) -> NoReturn:
    _say(f"soar-bench: {words}")
    raise typer.Exit(1)

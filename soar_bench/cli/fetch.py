"""``soar-bench fetch``."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import typer
from typer import Argument, Option

from soar_bench.cli.common import SUITES, echo, echo_json, echo_lines, fail, split

if TYPE_CHECKING:
    from soar_bench.checkpoints.hub import HubId
    from soar_bench.fetch import Plan, Source
    from soar_bench.fetch.file_sets import FileSet


def fetch(
    names: list[str] = Argument(
        None,
        metavar="NAME",
        help="Weights, evaluators or prompt sets.  [default: list what can be fetched]",
    ),
    suite: list[str] = Option(
        [],
        autocompletion=SUITES,
        help="Suites whose prompts and weights to fetch, separated by commas.  [default: none]",
    ),
    everything: bool = Option(False, "--all", help="Fetch all weights and prompt sets."),
    checkpoint: list[str] = Option(
        [],
        help="Checkpoints of the Hugging Face hub, org/name or org/name@revision, separated by "
        "commas.  [default: none]",
    ),
    mirror: str | None = Option(
        None,
        metavar="FOLDER|ADDRESS",
        help="Copy to take the files from.  [default: where they are published]",
    ),
    dry_run: bool = Option(False, "--dry-run", help="Say what would be fetched."),
    offline: bool = Option(
        False, "--offline", help="Use no network; verify the files here and list what is missing."
    ),
    verify: bool = Option(
        False, "--verify", help="Fetch nothing; read the files here again, every byte."
    ),
    as_json: bool = Option(
        False, "--json", help="Fetch nothing; print as JSON what there is and what is here."
    ),
) -> None:
    """Download weights, prompt sets and checkpoints.

    Weights and prompt sets are verified against their SHA-256.

    Files that are here and whole are left alone. Interrupted, the same command goes on.
    """
    from soar_bench import fetch as fetching
    from soar_bench import suites
    from soar_bench.core.errors import SoarBenchError
    from soar_bench.core.files import home
    from soar_bench.fetch import connection, download, file_sets
    from soar_bench.fetch import mirror as mirrors

    names, suite, checkpoint = split(names or []), split(suite), split(checkpoint)
    by_name = {name: file_sets.named(name, suites.SUITES) for name in names}
    chosen = file_sets.everything() if everything else []
    for name in suite:
        chosen += file_sets.of_suite(name, suites.declared(name).evaluators)
    # Prompts that share the name of weights are brought too, but nothing fails for want of them.
    also = [s for name, of_name in by_name.items() for s in file_sets.beside(name, of_name)]
    chosen += [s for of_name in by_name.values() for s in of_name if s not in also]
    also = [s for s in also if s not in chosen]
    sets = file_sets.distinct([*chosen, *also])
    no_sets = not (names or suite or everything)
    if as_json and checkpoint:
        raise SoarBenchError("--json is about weights and prompt sets: drop --checkpoint")
    if as_json:
        _list(file_sets.everything() if no_sets else sets, as_json)
        return
    if verify:
        _verify(file_sets.everything() if no_sets and not checkpoint else sets, checkpoint)
        return
    if no_sets and mirror is not None:
        raise SoarBenchError("say what to take from the mirror: names, --suite or --all")
    if no_sets and not checkpoint:
        _list(file_sets.everything())
        return

    offline = offline or connection.offline()
    source: fetching.Source | None = None if offline else fetching.Source()
    if mirror is not None:
        source = mirrors.open_mirror(mirror)
        if offline and isinstance(source, mirrors.AddressMirror):
            raise SoarBenchError("a mirror's address needs the network: drop --offline")

    if not offline:
        connection.check_settings()
    hub_ids = _hub_ids(checkpoint)
    absent, failures = _checkpoints(hub_ids, offline, dry_run)
    code = 2 if failures else 0
    if not no_sets:
        own = [*names, *suites.evaluators_of(suite)]
        lacking = _bring(own, look=source is None or mirror is not None or dry_run)
        plan = fetching.plan(sets, source, _say)
        echo_lines(f"{item.label}: here and whole" for item in plan.present)
        if plan.missing:
            echo_lines(plan.summary())
        else:
            echo("Nothing to fetch." if not lacking else "No files to fetch.")
        if source is None:
            files = {name: of_name for name, of_name in by_name.items() if file_sets.is_local(name)}
            local = {s.name: name for name, of_name in files.items() for s in of_name}
            unfetched = [m.item.set.name for m in plan.missing if m.item.set not in also]
            absent = [*dict.fromkeys(local.get(name, name) for name in unfetched), *absent]
        elif not dry_run and plan.missing:
            download.check_space(home(), plan.needed)
            failures += _carry_out(plan, source, also)
        # what was asked for by its name and its package does not bring
        unmet = any(name in names for name in lacking) and not dry_run
        code = code or int(bool(failures) or unmet)
    if absent:
        _fail_offline(absent)
    echo_lines([f"soar-bench: {failure}" for failure in failures], err=True)
    if code:
        raise typer.Exit(code)


def _carry_out(plan: Plan, source: Source, also: list[FileSet]) -> list[str]:
    """Bring the files of a plan and return what failed; those of ``also`` only say so."""
    from soar_bench import fetch as fetching

    failures, untried = [], sum(missing.item.set not in also for missing in plan.missing)
    for item, failure in fetching.fetch(plan, source, _say):
        untried -= item.set not in also
        if failure is None:
            echo(f"{item.label}: fetched")
        elif item.set in also:
            _say(
                f"the prompts of the same name were not brought ({failure}); they are wanted only "
                f"for the suite: soar-bench fetch --suite {item.set.name}"
            )
        else:
            failures.append(str(failure))
    failures = list(dict.fromkeys(failures))  # of a proxy, say, which is every host's
    if failures and untried:
        failures[-1] += f" (files that were not tried then: {untried})"
    return failures


def _list(sets: list[FileSet], as_json: bool = False) -> None:
    """Print what there is and what of it is here."""
    import sys

    from soar_bench.core.files import home
    from soar_bench.core.terminal import new_console
    from soar_bench.output import fetch as pages

    rows = pages.listing(sets, _say)
    if as_json:
        echo_json([pages.as_json(row) for row in rows])
    elif not sys.stdout.isatty():
        echo_lines(pages.plain(rows))
    else:
        console = new_console(highlight=False)
        console.print(pages.table(rows, console.width))
        console.print(f"They are kept in {home()}.", markup=False)


def _bring(names: list[str], look: bool) -> list[str]:
    """Let packages of evaluators among the names download the models that they keep themselves, or
    only ``look`` whether they have them; say which are lacking and return those evaluators.
    """
    from evaluators import registry
    from evaluators.types import Evaluator, EvaluatorError

    lacking = []
    for name in dict.fromkeys(names):
        if name not in registry.names():
            continue
        try:
            evaluator = registry.create(name)
            if not look:
                brought = evaluator.bring()
                echo_lines([brought] if brought else [])
            elif type(evaluator).bring is not Evaluator.bring:
                evaluator.check()
        except EvaluatorError as error:  # a package, say, that is not installed here
            _say(f"note: {name}: {error}")
            lacking.append(name)
    return lacking


def _verify(sets: list[FileSet], checkpoints: list[str]) -> None:
    """Compare every byte of the files that are here with their digests; what is absent is no fault.

    Ends with exit code 1 if a file is damaged.
    """
    from soar_bench import fetch as fetching
    from soar_bench.checkpoints import hub
    from soar_bench.core.digests import reading_through

    with reading_through():
        plan = fetching.plan(sets, None, _say)
    echo_lines(f"{item.label}: here and whole" for item in plan.present)
    absent = [missing.item.label for missing in plan.missing if missing.fault == "absent"]
    echo_lines(f"{label}: not here" for label in absent)
    faults = [f"{m.item.label} is {m.fault}" for m in plan.missing if m.fault != "absent"]
    for hub_id in _hub_ids(checkpoints):
        damaged = hub.damaged(hub_id)
        faults += [f"{file} of {hub_id} is damaged: delete it" for file in damaged]
        echo_lines([] if damaged else [f"{hub_id}: here and whole"])
    if faults:
        fail(f"{'; '.join(faults)}; `soar-bench fetch` with the same names brings it again")


def _hub_ids(names: list[str]) -> list[HubId]:
    from soar_bench.checkpoints import hub
    from soar_bench.core.errors import SoarBenchError

    ids = []
    for name in dict.fromkeys(names):
        if (hub_id := hub.parse(name)) is None:
            raise SoarBenchError(f"{name!r} is no hub id: write org/name or org/name@revision")
        ids.append(hub_id)
    return ids


def _checkpoints(hub_ids: list[HubId], offline: bool, dry_run: bool) -> tuple[list[str], list[str]]:
    """Bring checkpoints into the hub's cache, or say which are there.

    Returns the options that name those which are absent offline, and what failed.
    """
    from soar_bench.checkpoints import hub
    from soar_bench.fetch.connection import FetchError

    absent: list[str] = []
    failures: list[str] = []
    for hub_id in hub_ids:
        if not offline:
            try:
                plan = hub.plan(hub_id)
                echo(plan.summary())
                if not dry_run:
                    echo(f"{hub_id}: fetched ({hub.fetch(plan)})")
            except FetchError as error:  # others may come all the same
                failures.append(str(error))
        elif hub.is_here(hub_id):
            echo(f"{hub_id}: here ({hub.find(hub_id)[0]})")
        else:
            absent.append(f"--checkpoint {hub_id}")
            if others := hub.other_revisions(hub_id):
                _say(f"note: {hub_id} is not here, but {', '.join(others)}")
    return absent, failures


def _say(sentence: str) -> None:
    echo(sentence, err=True)


def _fail_offline(absent: list[str]) -> NoReturn:
    """End with the arguments that fetch, elsewhere, what is absent here."""
    of_hub = [argument.startswith("--checkpoint ") for argument in absent]
    files = ["the files here with --mirror"] if not all(of_hub) else []
    files += ["the hub's cache here (the folder that HF_HUB_CACHE names)"] if any(of_hub) else []
    fail(
        f"offline, so nothing was fetched: run `soar-bench fetch {' '.join(absent)}` where there "
        f"is internet, and bring {' and '.join(files)}"
    )

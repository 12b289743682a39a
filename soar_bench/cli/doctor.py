"""``soar-bench doctor``."""

from __future__ import annotations

import typer


def doctor(
    device: str = typer.Option("cpu", help="Device for the golden check: cpu, cuda or mps."),
    golden: bool = typer.Option(
        True, "--golden/--no-golden", help="Score packaged images with tiny weights."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Check packages, weights and evaluators on this machine.

    A golden check scores packaged images and compares with recorded values.

    Exits with 1 if something that is here is broken; what is absent is no fault.
    """
    import json
    from dataclasses import asdict

    from rich.console import Console

    from soar_bench.doctor import State, examine
    from soar_bench.output.tables import doctor_tables

    quiet = Console(stderr=True)
    with quiet.status("looking") as status:
        findings = list(examine(device, golden, lambda what: status.update(f"looking at {what}")))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        console = Console()
        for table in doctor_tables(findings):
            console.print(table)
    broken = [finding for finding in findings if finding.state is State.broken]
    if broken:
        names = ", ".join(f"{f.section} {f.name}" for f in broken)
        typer.echo(f"soar-bench: broken here: {names}", err=True)
        raise typer.Exit(1)

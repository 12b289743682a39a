"""``soar-bench doctor``."""

from __future__ import annotations

import typer
from typer import Option

from soar_bench.cli.common import AS_JSON, fail


def doctor(
    device: str = Option("cpu", help="Device for the golden check: cpu, cuda or mps."),
    golden: bool = Option(
        True, "--golden/--no-golden", help="Score packaged images with tiny weights."
    ),
    as_json: bool = AS_JSON,
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

    with Console(stderr=True).status("looking") as status:
        findings = list(examine(device, golden, lambda name: status.update(f"looking at {name}")))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        Console().print(*doctor_tables(findings))
    broken = [f"{f.section} {f.name}" for f in findings if f.state is State.broken]
    if broken:
        fail(f"broken here: {', '.join(broken)}")

"""How a command ends that finished its work but not all of it well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from soar_bench.records import Run


def complain(runs: Sequence[Run]) -> None:
    """Exit code 1 with a sentence if an evaluator failed on samples of these runs."""
    failed = {
        f"{name} failed on {count} of the samples of {run.folder}"
        for run in runs
        for name, count in run.record["made"].get("failed", {}).items()
    }
    if failed:
        typer.echo(
            f"soar-bench: {'; '.join(sorted(failed))}: they are unscored, the reason is in the "
            "record, and the same command tries them again",
            err=True,
        )
        raise typer.Exit(1)

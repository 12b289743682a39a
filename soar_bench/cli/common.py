"""What several commands share: options, lists in options, signals, and the end of a run."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

if TYPE_CHECKING:
    from soar_bench.core.distributed import Group
    from soar_bench.evaluation import Options, Plan
    from soar_bench.records import Run


class Precision(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


BASE = typer.Option(
    None, help="Pipeline that a transformer or a LoRA stands on.  [default: the one it names]"
)
DTYPE = typer.Option(None, help="Precision of the model.  [default: the protocol's]")
EVALUATOR_DTYPE = typer.Option(
    Precision.float32,
    help="Precision of the learned evaluators; any but float32 makes another board.",
)
DEVICE = typer.Option("auto", help="Device to run on: auto, cpu, cuda or mps.")
RESULTS = typer.Option(Path("results"), help="Folder of the records.")
CACHE = typer.Option(Path("outputs/cache"), help="Folder of images and scores.")

Number = TypeVar("Number", int, float)


def split(values: Sequence[str]) -> list[str]:
    """Return the names in repeated values of an option, each a list with commas."""
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


def files_or_names(values: Sequence[str]) -> list[str]:
    """Split the values as :func:`split` does, but keep the path of an existing file whole."""
    return [
        name for value in values for name in ([value] if Path(value).is_file() else split([value]))
    ]


def numbers(option: str, text: str, kind: type[Number], least: Number) -> list[Number]:
    """Return the numbers in a list with commas; BadParameter unless all are at least ``least``."""
    try:
        values = [kind(part) for part in split([text])]
    except ValueError:
        values = []
    if (text and not values) or any(not least <= number < float("inf") for number in values):
        noun = "whole numbers" if kind is int else "numbers"
        raise typer.BadParameter(f"{option} takes {noun} from {least}, not {text!r}")
    return values


def terminate_as_interrupt() -> None:
    """Let SIGTERM, by which clusters reclaim a node, end a command in order, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def carry_out(
    plans: Sequence[Plan], options: Options, group: Group, *, dry_run: bool, as_json: bool
) -> None:
    """Show the plans, run them and print their records, as far as ``dry_run`` allows.

    SoarBenchError if an evaluator cannot run here. Exit code 1 if one failed on samples.
    """
    from rich.console import Console

    from soar_bench.core.distributed import leave
    from soar_bench.core.errors import SoarBenchError
    from soar_bench.core.progress import stages
    from soar_bench.core.text import json_text
    from soar_bench.evaluation import problems, run
    from soar_bench.output.plan import plan_record, show_plans
    from soar_bench.output.tables import run_table

    if group.main:
        if dry_run and as_json:
            typer.echo(json_text(plan_record(plans)), nl=False)
        else:
            show_plans(plans, Console(stderr=True))
    if reasons := problems(plans):
        raise SoarBenchError("nothing was started: " + "; ".join(reasons))
    if dry_run:
        return
    runs = []
    for plan in plans:
        with stages(quiet=not group.main) as show:
            runs.append(run(plan, options, show, show.note, group))
    leave(group)
    if not group.main:
        return
    if as_json:
        typer.echo(
            json_text([{"folder": str(r.folder), **r.record.as_json()} for r in runs]), nl=False
        )
    else:
        Console().print(run_table(runs))
        for line in [line for finished in runs for line in _reasons(finished)]:
            typer.echo(line, err=True)
        for finished in runs:
            typer.echo(finished.folder)
    _complain(runs)


def _reasons(run: Run) -> list[str]:
    """Why samples of images from elsewhere are unscored, the most frequent reasons first."""
    from collections import Counter

    lines = []
    for metric, scores in run.scores().groupby("metric", sort=False) if run.imported else ():
        counts = Counter(reason for reason in scores["unscored"] if reason)
        for reason, count in counts.most_common(5):
            lines.append(f"{metric}: {count} unscored: {reason}")
    return lines


def _complain(runs: Sequence[Run]) -> None:
    """Exit code 1 with a sentence if an evaluator failed on samples of these runs."""
    failed = {
        f"{name} failed on {count} of the samples of {run.folder}"
        for run in runs
        for name, count in run.record.made.failed.items()
    }
    if failed:
        typer.echo(
            f"soar-bench: {'; '.join(sorted(failed))}: they are unscored, the reason is in the "
            "record, and the same command tries them again",
            err=True,
        )
        raise typer.Exit(1)

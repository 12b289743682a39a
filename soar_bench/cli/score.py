"""``soar-bench score``."""

from __future__ import annotations

from pathlib import Path

import typer

from soar_bench.cli.common import (
    CACHE,
    DEVICE,
    EVALUATOR_DTYPE,
    RESULTS,
    Precision,
    carry_out,
    split,
    terminate_as_interrupt,
)


def score(
    folder: Path = typer.Argument(
        help="Folder of images: GenEval's layout, or files with a list of prompts."
    ),
    evaluator: list[str] = typer.Option(
        [],
        "--evaluator",
        "--evaluators",
        help="Evaluators, separated by commas.  [default: none, so name one]",
    ),
    prompts: Path | None = typer.Option(
        None,
        help="CSV, TSV or JSONL with the columns file and prompt.  [default: the folder's own]",
    ),
    label: str | None = typer.Option(
        None, help="Name of the images in tables.  [default: the folder's name]"
    ),
    suite: str | None = typer.Option(
        None, help="Name of the prompts.  [default: after their content]"
    ),
    batch_size: int = typer.Option(
        32, min=1, help="Images scored at once; does not change the numbers."
    ),
    device: str = DEVICE,
    evaluator_dtype: Precision = EVALUATOR_DTYPE,
    results: Path = RESULTS,
    cache: Path = CACHE,
    force: bool = typer.Option(False, "--force", help="Score again what is there."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Check everything and show the plan."),
    as_json: bool = typer.Option(False, "--json", help="The record (or the plan) as JSON."),
) -> None:
    """Score images made anywhere; write a record of them.

    Scores that exist are not made again: interrupted, the same command goes on.
    """
    from soar_bench.core.distributed import join
    from soar_bench.core.progress import stages
    from soar_bench.evaluation import Options, prepare_images

    options = Options(
        results,
        cache,
        evaluators=tuple(split(evaluator)),
        batch_size=batch_size,
        device=device,
        evaluator_dtype=evaluator_dtype.value,
        force=force,
    )
    terminate_as_interrupt()
    group = join()
    with stages(quiet=not group.main) as show:
        plan = prepare_images(folder, options, prompts, label=label, suite=suite, observe=show)
    carry_out([plan], options, group, dry_run=dry_run, as_json=as_json)

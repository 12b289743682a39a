"""``soar-bench train``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import typer

from soar_bench.cli.options import numbers


class Method(StrEnum):
    sft = "sft"
    soar = "soar"


def train(
    method: Method = typer.Argument(help="The objective."),
    config: Path | None = typer.Option(None, help="A YAML file of settings (see configs/)."),
    base: str | None = typer.Option(
        None, help="The pipeline to start from: a folder, or `shapes`."
    ),
    data: str | None = typer.Option(
        None, help="A folder, .jsonl, .csv, .tar, or shapes-clean[:COUNT]: see docs/data.md."
    ),
    output: Path | None = typer.Option(
        None,
        help="Where the run is written; {seed} stands for the seed.  [default: "
        "outputs/train/NAME-seedSEED]",
    ),
    name: str | None = typer.Option(None, help="What tables call the run.  [default: the method]"),
    steps: int | None = typer.Option(None, help="Optimizer steps."),
    batch_size: int | None = typer.Option(None, help="Samples a micro-batch and process."),
    seed: int | None = typer.Option(None, help="Training seed."),
    seeds: str = typer.Option("", help="Several seeds, as 0,1,2: a run of its own for each."),
    assignments: list[str] = typer.Option(
        [], "--set", metavar="NAME=VALUE", help="Any other setting, for example soar.guidance=3."
    ),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Check everything and show what would be trained."
    ),
) -> None:
    """Train a checkpoint with SFT or SOAR. Interrupted, the same command goes on."""
    from soar_bench.core.distributed import described
    from soar_bench.core.progress import stages
    from soar_bench.train.config import load_config
    from soar_bench.train.data import open_data
    from soar_bench.train.run import check
    from soar_bench.train.run import train as run

    several: list[int | None] = [*dict.fromkeys(numbers("--seeds", seeds, int, 0))]
    if several and seed is not None:
        raise typer.BadParameter("give --seed or --seeds, not both")
    options = {
        "method": method.value,
        "base": base,
        "data": data,
        "name": name,
        "steps": steps,
        "batch_size": batch_size,
        "output": output,
    }
    configs = [load_config(config, {**options, "seed": s}, assignments) for s in several or [seed]]
    if len({c.output for c in configs}) < len(configs):
        raise typer.BadParameter(
            f"{configs[0].output} is one folder for several seeds: put {{seed}} in the output's "
            "name"
        )
    main = described().main
    if dry_run:
        plan = None
        for settings in configs:
            with stages(quiet=not main) as show:
                plan = check(settings, like=plan, progress=show)
            if main:
                for line in plan.lines():
                    typer.echo(line)
        return
    first = configs[0]  # they differ by seed and output alone
    source = open_data(first.data, first.images, first.cache)
    from soar_bench.train.watch import callbacks_of

    for settings in configs[1:]:
        callbacks_of(settings)  # all are checked before the first is trained
    for settings in configs:
        with stages(quiet=not main) as show:
            last = run(settings, source=source, progress=show, note=show.note)
        if main:
            typer.echo(last)
    from training.parallel import leave

    leave()

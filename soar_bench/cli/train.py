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
    from soar_bench.checkpoints import digest_pipeline, pipeline_folder
    from soar_bench.core.distributed import described
    from soar_bench.core.progress import stages
    from soar_bench.core.torchvision import mend_torchvision
    from soar_bench.train.config import load_config
    from soar_bench.train.data import open_data
    from soar_bench.train.plan import TrainPlan

    every: list[int | None] = [*dict.fromkeys(numbers("--seeds", seeds, int, 0))]
    if every and seed is not None:
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
    runs = [load_config(config, {**options, "seed": one}, assignments) for one in every or [seed]]
    if len({one.output for one in runs}) < len(runs):
        raise typer.BadParameter(
            f"{runs[0].output} is one folder for several seeds: put {{seed}} in the output's name"
        )
    settings = runs[0]  # they differ by seed and output alone
    folder = pipeline_folder(settings.base)
    source = open_data(settings.data, settings.images, settings.cache)

    mend_torchvision()
    from soar_bench.train.memory import measure
    from soar_bench.train.watch import watchers
    from training.cache import Cache
    from training.data.checking import check
    from training.encoders import Pipeline
    from training.loop import train as run
    from training.optimizers import check_optimizer
    from training.parallel import leave
    from training.pipeline import check_resolution
    from training.run import Base, Run
    from training.state import states
    from training.trackers import check_trackers

    if dry_run:
        check_resolution(Pipeline(folder).outline, settings.resolution)
        check_optimizer(settings.optimizer)
        check_trackers(settings)
        sizes, processes = measure(folder, settings), described().size
        kept = Cache(settings.cache) if settings.cache is not None else None
        with stages(quiet=not described().main) as show:
            source = check(
                source, settings.images, kept, progress=lambda *done: show("check", *done)
            ).source
        digest = digest_pipeline(folder)
        for one in runs:
            watchers(one)
            planned = Run(one, Base(one.base, None, digest), source, processes)
            planned.check()
            done = max(states(one.output), default=0)
            planned.check_space(done, sizes.parameters, sizes.trained)
            if described().main:
                for line in TrainPlan(one, sizes, len(source), processes).lines():
                    typer.echo(line)
        return
    for one in runs[1:]:
        watchers(one)  # all are checked before the first is trained
    for one in runs:
        # Loaded anew for each: training changes it.
        start = Base(one.base, Pipeline(folder), digest_pipeline(folder))
        with stages(quiet=not described().main) as show:
            last = run(one, start, source, show, watchers(one, observe=show, note=show.note))
        if described().main:
            typer.echo(last)
    leave()

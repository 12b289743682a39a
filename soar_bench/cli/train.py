"""``soar-bench train``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer
from typer import Argument, Option

from soar_bench.cli.common import echo, echo_json, echo_lines, numbers


def _help_settings(show: bool) -> None:
    if show:
        from soar_bench.shapes.recipe import RECIPE
        from soar_bench.trainer.config import Config
        from soar_bench.trainer.settings import help_lines

        echo_lines(help_lines(Config, RECIPE))
        raise typer.Exit


def train(
    method: Literal["sft", "soar", "defar", "nft", "flow-grpo", "d-opsd"] = Argument(
        help="Objective."
    ),
    config: Path | None = Option(
        None, "--config", help="YAML file of settings (see configs/).  [default: none]"
    ),
    base: str | None = Option(
        None,
        help="Pipeline or checkpoint of `train` to start from: a folder, hub id or `shapes`; "
        "{seed} stands for the seed.  [default: the config's]",
    ),
    data: str | None = Option(
        None,
        help="A folder, .jsonl, .csv, .tar, or shapes-clean[:COUNT]: see docs/data.md.  "
        "[default: shapes-clean for `shapes`]",
    ),
    output: Path | None = Option(
        None,
        metavar="FOLDER",
        help="Folder of the run; {seed} stands for the seed.  [default: "
        "outputs/train/NAME-seedSEED]",
    ),
    name: str | None = Option(None, help="Name of the run in tables.  [default: the method]"),
    steps: int | None = Option(None, help="Optimizer steps.  [default: 5000; 1000 for `shapes`]"),
    batch_size: int | None = Option(
        None, help="Samples per micro-batch and process.  [default: 4; 16 for `shapes`]"
    ),
    seed: int | None = Option(None, help="Seed of the training.  [default: 42]"),
    seeds: str = Option(
        "", help="Seeds to train one after the other, as 0,1,2.  [default: --seed alone]"
    ),
    assignments: list[str] = Option(
        [],
        "--set",
        metavar="NAME=VALUE",
        help="Any other setting, such as soar.guidance=3.  [default: as --help-settings says]",
    ),
    dry_run: bool = Option(
        False, "--dry-run", help="Check everything and show what would be trained."
    ),
    as_json: bool = Option(False, "--json", help="Print the plan, or the checkpoints, as JSON."),
    memory: str = Option(
        "",
        help="Memory of the GPU that --dry-run checks the step against, as 80GiB.  "
        "[default: this machine's GPU]",
    ),
    help_settings: bool = Option(
        False,
        "--help-settings",
        callback=_help_settings,
        is_eager=True,
        help="Show every setting with its type, default and purpose.",
    ),
) -> None:
    """Train a checkpoint with an objective. Interrupted, the same command goes on."""
    from soar_bench.core.distributed import described
    from soar_bench.core.memory import byte_size
    from soar_bench.core.progress import stages
    from soar_bench.trainer.config import load_config
    from soar_bench.trainer.run import check
    from soar_bench.trainer.run import train as run

    seed_list: list[int | None] = [*dict.fromkeys(numbers("--seeds", seeds, int, 0))]
    if seed_list and seed is not None:
        raise typer.BadParameter("give --seed or --seeds, not both")
    names = {"method": method, "base": base, "data": data, "output": output, "name": name}
    options = {**names, "steps": steps, "batch_size": batch_size}
    configs = [
        load_config(config, {**options, "seed": s}, assignments) for s in seed_list or [seed]
    ]
    if len({c.output for c in configs}) < len(configs):
        folder = configs[0].output
        raise typer.BadParameter(
            f"{folder} is one folder for several seeds: put {{seed}} in the output's name"
        )
    if memory and not dry_run:
        raise typer.BadParameter("--memory is what --dry-run checks against: add it")
    device = byte_size("--memory", memory) if memory else None
    main = described().main
    if dry_run:
        plan, plans = None, []
        for settings in configs:
            with stages(quiet=not main) as show:  # of runs that differ by seed and output alone
                plan = check(settings, like=plan, memory=device, progress=show)
            plans.append(plan)
        if main and as_json:
            echo_json([of_seed.as_json() for of_seed in plans])
        elif main:
            echo_lines(line for of_seed in plans for line in of_seed.lines())
        return
    from soar_bench.trainer.run import base_of
    from soar_bench.trainer.watch import callbacks_of
    from training.parallel import leave

    for settings in configs[1:]:
        base_of(settings)  # all are checked before the first is trained
        callbacks_of(settings)
    folders = []
    for settings in configs:
        with stages(quiet=not main) as show:
            folders.append(str(run(settings, progress=show, note=show.note)))
        if main and not as_json:
            echo(folders[-1])
    leave()
    if main and as_json:
        echo_json([{"checkpoint": folder} for folder in folders])

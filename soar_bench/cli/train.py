"""``soar-bench train``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import typer


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
        None, help="A folder with metadata.jsonl, or shapes-clean[:COUNT]."
    ),
    output: Path | None = typer.Option(
        None, help="Where the run is written.  [default: outputs/train/NAME-seedSEED]"
    ),
    name: str | None = typer.Option(None, help="What tables call the run.  [default: the method]"),
    steps: int | None = typer.Option(None, help="Optimizer steps."),
    batch_size: int | None = typer.Option(None, help="Samples a step and process."),
    seed: int | None = typer.Option(None, help="Training seed."),
    assignments: list[str] = typer.Option(
        [], "--set", metavar="NAME=VALUE", help="Any other setting, for example soar.guidance=3."
    ),
) -> None:
    """Train a checkpoint with SFT or SOAR. Interrupted, the same command goes on."""
    from evaluators.torchvision_import import mend_torchvision
    from soar_bench.checkpoints import digest_pipeline, pipeline_folder
    from soar_bench.config import load_config
    from soar_bench.data import open_data
    from soar_bench.progress import stages

    options = {
        "method": method.value,
        "base": base,
        "data": data,
        "output": output,
        "name": name,
        "steps": steps,
        "batch_size": batch_size,
        "seed": seed,
    }
    settings = load_config(config, options, assignments)
    folder = pipeline_folder(settings.base)
    source = open_data(settings.data)

    mend_torchvision()
    from training.loop import Base
    from training.loop import train as run
    from training.pipeline import load_pipeline

    start = Base(settings.base, load_pipeline(folder), digest_pipeline(folder))
    with stages() as show:
        checkpoint = run(settings, start, source, show)
    typer.echo(f"{checkpoint}")

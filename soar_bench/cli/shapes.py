"""``soar-bench shapes``: the embedded world."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import typer

app = typer.Typer(help="Show, export or pretrain the embedded world.", no_args_is_help=True)


class World(StrEnum):
    clean = "shapes-clean"
    broad = "shapes-broad"


@app.command()
def render(
    output: Path = typer.Argument(
        help="New folder for images and metadata.jsonl, or a .png for a sheet of images."
    ),
    world: World = typer.Option(World.clean, help="Distribution of the examples."),
    count: int = typer.Option(64, min=1, help="Number of examples."),
    seed: int = typer.Option(
        0, min=0, help="Seed of the examples; each depends on the seed and its number alone."
    ),
) -> None:
    """Write examples as training data (`--data FOLDER`) or as a sheet."""
    from soar_bench.shapes.export import write_folder, write_sheet
    from soar_bench.shapes.world import DISTRIBUTIONS

    write = write_sheet if output.suffix == ".png" else write_folder
    write(output, DISTRIBUTIONS[world.value], seed, count)
    typer.echo(output)


@app.command()
def pretrain(
    config: Path = typer.Option(
        Path("configs/shapes_pretrain.yaml"), help="YAML file of settings."
    ),
    output: Path = typer.Option(Path("outputs/pretrain"), help="Folder for the stages."),
    stage: list[str] = typer.Option(
        [], help="Stages to run: vae, text, transformer, scorer.  [default: all]"
    ),
) -> None:
    """Train the embedded base and scorer from scratch, in a clone.

    Takes hours on a CPU; run again, it resumes.
    """
    import sys

    from soar_bench.core.errors import SoarBenchError

    clone = Path(__file__).resolve().parents[2]
    if not (clone / "benchmarks" / "pretrain").is_dir():
        raise SoarBenchError(
            "pretraining is not part of the installed package: run this in a clone of the "
            "repository, installed with pip install -e"
        )
    sys.path.append(str(clone))
    from benchmarks.pretrain import STAGES, read_recipe
    from benchmarks.pretrain import pretrain as run
    from soar_bench.core.errors import unknown_name
    from soar_bench.core.progress import stages

    for name in stage:
        if name not in STAGES:
            raise unknown_name("stage", name, list(STAGES))
    recipe = read_recipe(config)
    with stages() as show:
        run(recipe, output, tuple(stage) or STAGES, show)
    typer.echo(output)

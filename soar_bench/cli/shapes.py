"""``soar-bench shapes``: the embedded world."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import typer

app = typer.Typer(
    help="The embedded world: show it, export it, pretrain its base.", no_args_is_help=True
)


class World(StrEnum):
    clean = "shapes-clean"
    broad = "shapes-broad"


@app.command()
def render(
    output: Path = typer.Argument(
        help="A new folder for images and metadata.jsonl, or a .png for a sheet."
    ),
    world: World = typer.Option(World.clean, help="Which distribution."),
    count: int = typer.Option(64, min=1, help="Examples."),
    seed: int = typer.Option(0, min=0, help="Examples depend on this and their number alone."),
) -> None:
    """Show or export examples; an exported folder is training data (`--data FOLDER`)."""
    from soar_bench.shapes.export import write_folder, write_sheet
    from soar_bench.shapes.world import DISTRIBUTIONS

    write = write_sheet if output.suffix == ".png" else write_folder
    write(output, DISTRIBUTIONS[world.value], seed, count)
    typer.echo(output)


@app.command()
def pretrain(
    config: Path = typer.Option(Path("configs/shapes_pretrain.yaml"), help="The recipe."),
    output: Path = typer.Option(Path("outputs/pretrain"), help="Where the stages are kept."),
    stage: list[str] = typer.Option([], help="Only these stages: vae, text, transformer, scorer."),
) -> None:
    """Train the embedded base and scorer from scratch: hours on a CPU, resumed when run again."""
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

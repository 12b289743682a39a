"""Train the embedded base and scorer from scratch.

    python -m benchmarks.pretrain               # from the root of a clone; hours on two CPU cores
    python -m benchmarks.pretrain --stage vae

Stages are resumed when the command is run again.
"""

from __future__ import annotations

from pathlib import Path

import typer

import soar_bench.cli

app = typer.Typer(add_completion=False)


@app.command()
def main(
    config: Path = typer.Option(
        Path("configs/shapes_pretrain.yaml"), help="YAML file of settings."
    ),
    output: Path = typer.Option(Path("outputs/pretrain"), help="Folder for the stages."),
    stage: list[str] = typer.Option(
        [], help="Stages to run: vae, text, transformer, lessons, scorer.  [default: all]"
    ),
) -> None:
    """Train the embedded base and scorer from scratch: hours on a CPU, resumed when run again."""
    from soar_bench.core.torchvision import mend_torchvision

    mend_torchvision()
    from benchmarks.pretrain import STAGES, pretrain, read_recipe
    from soar_bench.core.errors import unknown_name
    from soar_bench.core.progress import stages

    for name in stage:
        if name not in STAGES:
            raise unknown_name("stage", name, list(STAGES))
    recipe = read_recipe(config)
    with stages() as show:
        pretrain(recipe, output, tuple(stage) or STAGES, show)
    typer.echo(output)


if __name__ == "__main__":
    soar_bench.cli.main(app)

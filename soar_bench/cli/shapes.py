"""``soar-bench shapes``: the embedded world."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from typer import Argument, Option

from soar_bench.cli.common import echo, folder_to_write
from soar_bench.cli.help import App

app = App("Show or export the embedded world.")


@app.add(
    "render",
    "soar-bench shapes render sheet.png\n"
    "soar-bench shapes render outputs/signs --world shapes-broad --count 500",
)
def render(
    output: Path = Argument(
        metavar="FOLDER|SHEET.png",
        callback=folder_to_write,
        help="New folder for images and metadata.jsonl, or a .png for a sheet of images.",
    ),
    world: Literal["shapes-clean", "shapes-broad"] = Option(
        "shapes-clean", help="Distribution of the examples."
    ),
    count: int = Option(64, min=1, help="Number of examples."),
    seed: int = Option(
        0, min=0, help="Seed of the examples; each depends on the seed and its number alone."
    ),
) -> None:
    """Write examples as training data (`--data FOLDER`) or as a sheet."""
    from soar_bench.shapes.export import write_folder, write_sheet
    from soar_bench.shapes.world import DISTRIBUTIONS

    write = write_sheet if output.suffix == ".png" else write_folder
    write(output, DISTRIBUTIONS[world], seed, count)
    echo(output)

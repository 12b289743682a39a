"""``soar-bench data``: check and describe training data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

app = typer.Typer(
    help="Check training data, describe it, and show what is encoded.", no_args_is_help=True
)

_DATA = typer.Argument(
    help="A folder, a .jsonl or .csv, a .tar or {000..009}.tar, or shapes-clean[:COUNT]."
)
_FOLDER = typer.Option(
    "",
    "--image-folder",
    help="Folder with the images of a .jsonl or .csv.  [default: the file's own folder]",
)
_IMAGE = typer.Option(
    "", "--image", help="Column, key or tar member of the image.  [default: by its name]"
)
_CAPTION = typer.Option(
    "", "--caption", help="Column, key or tar member of the caption.  [default: by its name]"
)
_SPLIT = typer.Option("train", help="Split to read from a saved dataset with several.")
_JSON = typer.Option(False, "--json", help="Print JSON.")


@app.command()
def check(
    data: str = _DATA,
    image_folder: str = _FOLDER,
    image: str = _IMAGE,
    caption: str = _CAPTION,
    split: str = _SPLIT,
    as_json: bool = _JSON,
) -> None:
    """Read every record and list what is missing or broken.

    Exits with 1 if anything is.
    """
    import json

    from soar_bench.core.progress import stages
    from soar_bench.output import data as data_view

    images = _images(folder=image_folder, image=image, caption=caption, split=split)
    with stages() as show:
        report = data_view.check(data, images, lambda done, total: show("check", done, total))
    if as_json:
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        for line in data_view.check_lines(report):
            typer.echo(line)
    if report["broken"]:
        raise typer.Exit(1)


@app.command()
def stats(
    data: str = _DATA,
    resolution: int = typer.Option(
        512, min=8, help="Training resolution, which decides the buckets."
    ),
    bucket_step: int = typer.Option(
        64, min=8, help="Sides of buckets are multiples of this many pixels."
    ),
    batch_size: int = typer.Option(4, min=1, help="Samples per step, of all processes together."),
    image_folder: str = _FOLDER,
    image: str = _IMAGE,
    caption: str = _CAPTION,
    split: str = _SPLIT,
    as_json: bool = _JSON,
) -> None:
    """Count records, sizes, buckets, caption lengths and duplicates."""
    import json

    from soar_bench.core.errors import SoarBenchError
    from soar_bench.core.progress import stages
    from soar_bench.output import data as data_view

    if bucket_step > resolution:
        raise SoarBenchError(f"--bucket-step {bucket_step} is more than --resolution {resolution}")
    images = _images(
        folder=image_folder, image=image, caption=caption, split=split, bucket_step=bucket_step
    )
    with stages() as show:
        report = data_view.stats(
            data, images, resolution, batch_size, lambda done, total: show("read", done, total)
        )
    if as_json:
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False))
        return
    for line in data_view.stats_lines(report):
        typer.echo(line)


@app.command()
def cache(
    folder: Path = typer.Option(
        Path("outputs/cache/encodings"), help="Folder of the encodings, as the setting `cache`."
    ),
    clear: bool = typer.Option(
        False, "--clear", help="Delete the encodings; they can be made again."
    ),
) -> None:
    """Count the encoded images and captions on disk, or delete them."""
    from soar_bench.output import data as data_view

    if clear:
        from training.cache import Cache

        typer.echo(f"{folder}: {Cache(folder).clear()} files deleted")
        return
    for line in data_view.cache_lines(folder):
        typer.echo(line)


def _images(**settings: Any) -> Any:
    from training.types import Images

    return Images(**settings)

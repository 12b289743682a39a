"""``soar-bench data``: check and describe training data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer import Argument, Option

from soar_bench.cli.common import AS_JSON, CACHE, DEVICE, EVALUATORS, echo_lines, files_or_names
from soar_bench.cli.help import App

if TYPE_CHECKING:
    from soar_bench.trainer.scored_data import Scored
    from training.types import Images

app = App("Check training data, describe it, and show what is encoded.")

_DATA = Argument(
    help="A folder, a .jsonl or .csv, a .tar or {000..009}.tar, or shapes-clean[:COUNT]."
)
_FOLDER = Option(
    "",
    "--image-folder",
    help="Folder with the images of a .jsonl or .csv.  [default: the file's own folder]",
)
_IMAGE = Option(
    "", "--image", help="Column, key or tar member of the image.  [default: by its name]"
)
_CAPTION = Option(
    "", "--caption", help="Column, key or tar member of the caption.  [default: by its name]"
)
_SPLIT = Option("train", help="Split to read from a saved dataset with several.")
_AT_ONCE = Option(64, "--batch-size", min=1, help="Images that an evaluator sees at once.")


@app.add(
    "check",
    "soar-bench data check photos/\nsoar-bench data check photos/ --against geneval,my-prompts.txt",
)
def check(
    data: str = _DATA,
    image_folder: str = _FOLDER,
    image: str = _IMAGE,
    caption: str = _CAPTION,
    split: str = _SPLIT,
    base: str | None = Option(
        None,
        help="Pipeline whose tokenizers count the captions that are too long for it.  "
        "[default: none, their words are counted]",
    ),
    max_sequence_length: int = Option(
        256, min=1, help="Caption tokens that the T5 encoder sees; training has 77 by default."
    ),
    against: list[str] = Option(
        [],
        help="Suites or files of prompts, separated by commas: names the captions that are or hold "
        "one of their prompts.  [default: none]",
    ),
    as_json: bool = AS_JSON,
) -> None:
    """Read every record and list what is missing or broken.

    Exits with 1 if anything is. Says how many captions are longer than text encoders read.
    """
    from functools import partial

    from soar_bench.core.errors import Refusals
    from soar_bench.core.progress import stages
    from soar_bench.output.data import check, check_lines
    from soar_bench.suites import get_suite
    from training.types import Images

    refusals = Refusals()
    suites = refusals.each(get_suite, files_or_names(against))
    refusals.tell()
    images = Images(folder=image_folder, image=image, caption=caption, split=split)
    with stages() as show:
        report = check(data, images, base, max_sequence_length, partial(show, "check"), suites)
    _print(report, check_lines, as_json)
    if report["broken"]:
        raise typer.Exit(1)


@app.add("stats", "soar-bench data stats list.jsonl --resolution 1024 --batch-size 32")
def stats(
    data: str = _DATA,
    resolution: int = Option(512, min=8, help="Training resolution, which decides the buckets."),
    bucket_step: int = Option(
        64, min=8, help="Sides of buckets are multiples of this many pixels."
    ),
    batch_size: int = Option(4, min=1, help="Samples per step, of all processes together."),
    image_folder: str = _FOLDER,
    image: str = _IMAGE,
    caption: str = _CAPTION,
    split: str = _SPLIT,
    as_json: bool = AS_JSON,
) -> None:
    """Count records, sizes, buckets, caption lengths and duplicates."""
    from functools import partial

    from soar_bench.core.errors import SoarBenchError
    from soar_bench.core.progress import stages
    from soar_bench.output.data import stats, stats_lines
    from training.types import Images

    if bucket_step > resolution:
        raise SoarBenchError(f"--bucket-step {bucket_step} is more than --resolution {resolution}")
    images = Images(
        folder=image_folder, image=image, caption=caption, split=split, bucket_step=bucket_step
    )
    with stages() as show:
        report = stats(data, images, resolution, batch_size, partial(show, "read"))
    _print(report, stats_lines, as_json)


@app.add("score", "soar-bench data score photos/ --evaluators aesthetic,pickscore")
def score(
    data: str = _DATA,
    evaluators: list[str] = Option(
        ...,
        "--evaluator",
        "--evaluators",
        autocompletion=EVALUATORS,
        help="Evaluators by name, as aesthetic,pickscore.",
    ),
    cache: Path = CACHE,
    batch_size: int = _AT_ONCE,
    device: str = DEVICE,
    image_folder: str = _FOLDER,
    image: str = _IMAGE,
    caption: str = _CAPTION,
    split: str = _SPLIT,
    as_json: bool = AS_JSON,
) -> None:
    """Score every picture with its caption. Interrupted, the same command goes on."""
    from soar_bench.output.data import score_lines
    from training.types import Images

    images = Images(folder=image_folder, image=image, caption=caption, split=split)
    scored = _scored(data, images, files_or_names(evaluators), cache, device, batch_size)
    _print({"data": data, "metrics": scored.summary()}, score_lines, as_json)


@app.add(
    "select",
    "soar-bench data select photos/ --metric aesthetic --at-least 6.8 --output best",
)
def select(
    data: str = _DATA,
    metric: str = Option(..., help="Metric that decides."),
    output: Path = Option(..., metavar="FOLDER", help="Folder of the new data set."),
    at_least: float | None = Option(
        None, help="Keep records with at least this value.  [default: none]"
    ),
    top_share: float | None = Option(
        None, min=0, max=1, help="Keep this share of the scored records, the best.  [default: none]"
    ),
    top: int | None = Option(
        None, min=1, help="Keep this number of records, the best.  [default: none]"
    ),
    evaluator: str = Option("", help="Evaluator of the metric.  [default: the one that has it]"),
    cache: Path = CACHE,
    batch_size: int = _AT_ONCE,
    device: str = DEVICE,
    image_folder: str = _FOLDER,
    image: str = _IMAGE,
    caption: str = _CAPTION,
    split: str = _SPLIT,
    as_json: bool = AS_JSON,
) -> None:
    """Write the records with the best scores, as data for `train`.

    Scores that `data score` has made are taken; others are made first.
    """
    from soar_bench.output.data import select_lines
    from soar_bench.trainer.scored_data import (
        check_output,
        chosen,
        evaluator_of,
        write_selection,
    )
    from training.types import Images

    rules = {"at_least": at_least, "top_share": top_share, "top": top}
    check_output(output, rules)
    images = Images(folder=image_folder, image=image, caption=caption, split=split)
    evaluators = [evaluator or evaluator_of(metric)]
    scored = _scored(data, images, evaluators, cache, device, batch_size)
    kept = chosen(scored, metric, at_least, top_share, top)
    rule = {name: value for name, value in rules.items() if value is not None}
    _print(write_selection(scored, metric, kept, rule, output), select_lines, as_json)


def _scored(
    data: str, images: Images, evaluators: list[str], cache: Path, device: str, batch_size: int
) -> Scored:
    """Score the data, with progress."""
    from soar_bench.core.progress import stages
    from soar_bench.trainer.scored_data import score_data

    with stages() as show:
        return score_data(data, images, evaluators, cache, device, batch_size, show)


def _print(report: dict[str, Any], lines: Callable[..., Iterable[str]], as_json: bool) -> None:
    import json

    whole = [json.dumps(report, indent=2, ensure_ascii=False)]
    echo_lines(whole if as_json else lines(report))


@app.add("cache", "soar-bench data cache\nsoar-bench data cache --clear")
def cache(
    folder: Path = Option(
        Path("outputs/cache/encodings"), help="Folder of the encodings, as the setting `cache`."
    ),
    clear: bool = Option(False, "--clear", help="Delete the encodings; they can be made again."),
    as_json: bool = AS_JSON,
) -> None:
    """Count the encoded images and captions on disk, or delete them."""
    from soar_bench.output.data import cache_lines, cached
    from training.cache import Cache

    if clear:
        report = {"folder": str(folder), "deleted": Cache(folder).clear()}
        _print(report, lambda report: [f"{folder}: {report['deleted']} files deleted"], as_json)
    else:
        _print(cached(folder), cache_lines, as_json)

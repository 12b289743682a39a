"""The report as a whole: from runs to a folder with a page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup

from soar_bench.boards.words import visible
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.text import count, encodable
from soar_bench.records import Run
from soar_bench.records.labels import told_apart
from soar_bench.report import (
    curves,
    drift,
    evaluations,
    folder,
    made,
    pictures,
    plots,
    samples,
    svg,
    sweeps,
    words,
)
from soar_bench.report.plots import Plot
from soar_bench.report.samples import Gallery
from soar_bench.report.sections import Section, sections_of
from soar_bench.scoring.scores import Observer
from soar_bench.stats import CONFIDENCE

TEMPLATES = Path(__file__).parent / "templates"
PAGE = "index.html"
#: Without a limit a large board would fill the disk.
MOST_IMAGES = 10_000


@dataclass(frozen=True)
class Options:
    """Contents of a report, and its place."""

    output: Path
    #: of images
    cache: Path
    #: images in the gallery, over all boards
    max_images: int = MOST_IMAGES
    #: by default the suites' names
    title: str = ""
    #: full-size images as PNG where they are larger than a thumbnail, rather than WebP
    lossless: bool = False
    #: the folders that were asked for; drift files are looked for up to them
    top: tuple[Path, ...] = ()
    #: drift files elsewhere, or their folders
    drift: tuple[Path, ...] = ()
    #: column of the prompts' metadata to break metrics down by
    by: str = ""


@dataclass(frozen=True)
class Report:
    """A report that was written."""

    page: Path
    boards: int
    checkpoints: int
    runs: int
    images: int
    #: images that are missing, in sentences
    missing: tuple[str, ...]


def write_report(
    runs: Sequence[Run], options: Options, observe: Observer = lambda stage, done, total: None
) -> Report:
    """Write a report of the runs into a folder that stands whole or not at all.

    SoarBenchError if there is no run, runs cannot stand on a board, no board has the column of a
    breakdown, or the folder holds something else.
    """
    if not runs:
        raise SoarBenchError("there is no run to report on: run soar-bench eval first")
    if options.max_images < 0:
        raise SoarBenchError("--max-images is a number from 0")
    folder.check(options.output)
    boards = sections_of(runs, options.by)
    content = _content(boards, options, observe)
    with folder.writing(options.output) as aside:
        data, images = _gallery(boards, aside, options, observe)
        (aside / "data").mkdir()
        for _, contents in data:
            key = contents["key"]
            (aside / "data" / f"{key}.js").write_text(_script(key, contents), "utf-8")
        (aside / PAGE).write_text(_render(content), "utf-8")
        for name in ("report.css", "report.js"):
            shutil.copyfile(TEMPLATES / name, aside / name)
    missing = tuple(text for of_board in data for text in samples.lacking(*of_board))
    checkpoints = {e.first.record.checkpoint.digest for board in boards for e in board.entrants}
    counts = len(boards), len(checkpoints), sum(len(board.runs) for board in boards), images
    return Report(options.output / PAGE, *counts, missing)


def _content(boards: Sequence[Section], options: Options, observe: Observer) -> dict[str, Any]:
    """Return all that the page's template shows, apart from the gallery."""
    runs = [run for board in boards for run in board.runs]
    drifts = _drifts(boards, [run.folder for run in runs], options)
    sections = []
    for number, board in enumerate(boards, start=1):
        sections.append(_section(board, options.cache))
        observe("plots", number, len(boards))
    logs, without = curves.trainings(runs)
    series = curves.series_of(logs, boards)
    suites = list(dict.fromkeys(board.suite for board in boards))
    more = " and more" if len(suites) > 3 else ""
    return {
        "title": options.title or f"Report: {', '.join(suites[:3])}{more}",
        "sections": sections,
        "sweeps": sweeps.protocol_sweeps(boards),
        "losses": curves.figure(logs, series),
        "by_step": sweeps.training_sweeps(boards),
        "evaluations": evaluations.figures(logs, series, boards),
        "without": without,
        "trained": bool(logs or without),
        "drifts": drifts,
        "arrows": {**words.ARROWS, "": ""},
        "markers": svg.LETTERS,
        "colors": svg.COLORS,
        "most": plots.MOST,
        "level": round(100 * CONFIDENCE),
    }


def _drifts(boards: Sequence[Section], folders: Sequence[Path], options: Options) -> list[Plot]:
    """Return the drift curves of every file, in the colours of the checkpoints on the boards."""
    series: dict[str, int] = {}
    for board in reversed(boards):
        places = [number for number, e in enumerate(board.entrants) for _ in e.runs]
        labels = told_apart([run.record.checkpoint.named for run in board.runs])
        series |= zip(labels, places, strict=True)
        series |= {entrant.name: number for number, entrant in enumerate(board.entrants)}
    files = dict.fromkeys([*drift.find(folders, options.top), *drift.named(options.drift)])
    return [
        plot
        for number, file in enumerate(files)
        for plot in drift.figures(drift.read(file), f"drift-{number}", series)
    ]


def _section(board: Section, cache: Path) -> dict[str, Any]:
    """Return one board as the page's template has it."""
    drawn: list[Plot | None] = [plots.effects(board), plots.values(board)]
    drawn += [plots.tasks(board, metric, declared) for metric, declared in board.metrics]
    drawn += [plots.categories(board, metric, declared) for metric, declared in board.metrics]
    for metric, declared in board.metrics:
        drawn.append(plots.distribution(board, metric, declared))
        drawn.append(plots.differences(board, metric, declared))
    return {
        "board": board,
        "introduction": words.introduction(board),
        "findings": words.findings(board),
        "warnings": words.warnings(board),
        "rows": words.table(board),
        "judges": words.judges(board),
        "tests": words.tests(board),
        "reference": board.entrants[0].name,
        "plots": list(filter(None, drawn)),
        "made": made.of_board(board),
        "runs": [made.of_run(run, cache) for run in board.runs],
    }


def _gallery(
    boards: Sequence[Section], aside: Path, options: Options, observe: Observer
) -> tuple[list[tuple[Gallery, dict[str, Any]]], int]:
    """Return every board's data for the page's script, and how many images were placed."""
    galleries = [Gallery.of(board) for board in boards]
    images = [gallery.images(options.cache) for gallery in galleries]
    order = [gallery.first_images_first for gallery in galleries]
    shelf = pictures.Shelf(aside, options.lossless)
    most, total = options.max_images, sum(len(s) for of_board in images for s in of_board)
    while True:  # what is missing takes no other image's place
        chosen = samples.choose(images, order, most)
        all_images = [image for of_board in chosen for image in of_board]
        placed = shelf.place(all_images, partial(observe, "images"))
        missing = sum(isinstance(picture, str) for picture in placed)
        if most >= options.max_images + missing or len(placed) == total:
            break
        most = options.max_images + missing
    results = iter(placed)
    data = []
    for gallery, of_board in zip(galleries, chosen, strict=True):
        pairs = [(image, next(results)) for image in of_board]
        data.append((gallery, samples.board_data(gallery, pairs, options.cache)))
    return data, sum(isinstance(picture, pictures.Picture) for picture in placed)


def _script(key: str, data: dict[str, Any]) -> str:
    """Return data as an ASCII script without ``<``: a page from disk may not read files."""
    content = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f"soarBench.board({json.dumps(key)}, {content});\n"


def _shown(value: Any) -> Any:
    """Return a value for the page, in which no text turns the text after it around."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _render(page: dict[str, Any]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, finalize=_shown,
    )  # fmt: skip
    environment.filters["count"] = count
    return encodable(environment.get_template("index.html.j2").render(page))

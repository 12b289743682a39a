"""The report as a whole: from runs to a folder with a page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soar_bench.core.errors import SoarBenchError
from soar_bench.records import Run
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
    text,
    words,
)
from soar_bench.report.made import Facts
from soar_bench.report.plots import Figures
from soar_bench.report.samples import Samples
from soar_bench.report.sections import Section, sections_of
from soar_bench.stats import CONFIDENCE

TEMPLATES = Path(__file__).parent / "templates"
PAGE = "index.html"
#: Without a limit a large board would fill the disk.
MOST_IMAGES = 10_000

#: Called with a stage's name, how much of it is done, and of how much.
Observer = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Options:
    """What the report shows and where it goes."""

    output: Path
    #: where images are looked for
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


@dataclass(frozen=True)
class Report:
    """What was written."""

    page: Path
    images: int
    #: images that are missing, in sentences
    missing: tuple[str, ...]


@dataclass(frozen=True)
class _Section:
    """One board as the page's template has it."""

    board: Section
    introduction: str
    findings: list[tuple[str, str]]
    warnings: list[str]
    lines: list[words.Line]
    tests: list[str]
    reference: str
    plots: list[Figures]
    made: list[Facts]
    runs: list[Facts]


def write_report(
    runs: Sequence[Run], options: Options, observe: Observer = lambda stage, done, total: None
) -> Report:
    """Writes a report of the runs into a folder that stands whole or not at all.

    SoarBenchError if there is no run, runs cannot stand on a board, or the folder holds something
    else.
    """
    if not runs:
        raise SoarBenchError("there is no run to report on: run soar-bench eval first")
    if options.max_images < 0:
        raise SoarBenchError("--max-images is a number from 0")
    folder.check(options.output)
    boards = sections_of(runs)
    content = _content(boards, options, observe)
    with folder.writing(options.output) as aside:
        data, images = _gallery(boards, aside, options, observe)
        (aside / "data").mkdir()
        for board, (_, contents) in zip(boards, data, strict=True):
            (aside / "data" / f"{board.key}.js").write_text(_script(board.key, contents), "utf-8")
        (aside / PAGE).write_text(_render(content), "utf-8")
        for name in ("report.css", "report.js"):
            shutil.copyfile(TEMPLATES / name, aside / name)
    missing = [text for gallery, contents in data for text in samples.lacking(gallery, contents)]
    return Report(options.output / PAGE, images, tuple(missing))


def _content(boards: Sequence[Section], options: Options, observe: Observer) -> dict[str, Any]:
    """What the page's template shows, apart from the gallery."""
    every = [run for board in boards for run in board.runs]
    drifts = _drifts(boards, [run.folder for run in every], options)
    sections = []
    for number, board in enumerate(boards, start=1):
        sections.append(_section(board, options.cache))
        observe("plots", number, len(boards))
    logs, without = curves.trainings(every)
    series = curves.series_of(logs, boards)
    return {
        "title": options.title or _title(boards),
        "sections": sections,
        "sweeps": sweeps.protocol_sweeps(boards),
        "losses": curves.figure(logs, series),
        "by_step": sweeps.training_sweeps(boards),
        "evaluations": evaluations.figures(logs, series, boards),
        "without": without,
        "trained": bool(logs or without),
        "drifts": drifts,
        "markers": [letter for _, letter in svg.MARKERS],
        "colors": svg.COLORS,
        "most": plots.MOST,
        "level": round(100 * CONFIDENCE),
    }


def _drifts(boards: Sequence[Section], folders: Sequence[Path], options: Options) -> list[Figures]:
    """The drift curves of every file, in the colours that the boards give their checkpoints."""
    series = {
        run.label: number
        for board in reversed(boards)
        for number, entrant in enumerate(board.entrants)
        for run in entrant.runs
    }
    files = dict.fromkeys([*drift.find(folders, options.top), *drift.named(options.drift)])
    return [
        figure
        for number, file in enumerate(files)
        for figure in drift.figures(drift.read(file), f"drift-{number}", series)
    ]


def _title(boards: Sequence[Section]) -> str:
    suites = list(dict.fromkeys(board.suite for board in boards))
    return f"Report: {', '.join(suites[:3])}{' and more' if len(suites) > 3 else ''}"


def _section(board: Section, cache: Path) -> _Section:
    figures: list[Figures | None] = [plots.values(board)]
    for metric, declared in board.metrics:
        figures.append(plots.tasks(board, metric, declared))
    for metric, declared in board.metrics:
        figures.append(plots.distribution(board, metric, declared))
        figures.append(plots.differences(board, metric, declared))
    return _Section(
        board,
        words.introduction(board),
        words.findings(board),
        words.warnings(board),
        words.table(board),
        words.tests(board),
        board.entrants[0].name,
        [figure for figure in figures if figure is not None],
        made.of_board(board),
        [made.of_run(run, cache) for run in board.runs],
    )


def _gallery(
    boards: Sequence[Section], aside: Path, options: Options, observe: Observer
) -> tuple[list[tuple[Samples, dict[str, Any]]], int]:
    """Every board's data for the page's script, and how many images were placed."""
    samples_of_boards = [Samples.of(board) for board in boards]
    wanted = [samples.wanted(item, options.cache) for item in samples_of_boards]
    order = [item.first_images_first for item in samples_of_boards]
    chosen = samples.choose(wanted, order, options.max_images)
    shelf = pictures.Shelf(aside, options.lossless)
    placed = shelf.place(
        [item for items in chosen for item in items], lambda done, all: observe("images", done, all)
    )
    images = sum(isinstance(item, pictures.Picture) for item in placed)
    results = iter(placed)
    return [
        (gallery, samples.board_data(gallery, [(w, next(results)) for w in items], options.cache))
        for gallery, items in zip(samples_of_boards, chosen, strict=True)
    ], images


def _script(key: str, data: dict[str, Any]) -> str:
    """The data as a script, since a page from disk may not read files. ASCII, without ``<``."""
    content = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f"soarBench.board({json.dumps(key)}, {content});\n"


def _render(page: dict[str, Any]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = text.count
    rendered = environment.get_template("index.html.j2").render(page)
    # Halves of surrogate pairs, which no file can hold, as their escape.
    return rendered.encode("utf-8", "backslashreplace").decode("utf-8")

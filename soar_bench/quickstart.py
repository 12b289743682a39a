"""The whole path on the embedded world in minutes: train, evaluate, compare, show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from soar_bench.boards import Comparison, compare
from soar_bench.boards.rows import BETTER, WORSE, Row
from soar_bench.boards.words import format_difference, format_p, format_value
from soar_bench.cache.images import ImageStore
from soar_bench.checkpoints import Checkpoint, resolve
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.files import replace_atomically, write_text
from soar_bench.core.gallery import grid
from soar_bench.core.progress import Stages, named
from soar_bench.core.text import aligned
from soar_bench.evaluation import Options, prepare, run
from soar_bench.output.leaderboard import leaderboard
from soar_bench.records import Run
from soar_bench.report.page import Options as ReportOptions
from soar_bench.report.page import write_report
from soar_bench.suites import get_suite
from soar_bench.suites.protocols import SHAPES_PROTOCOL
from soar_bench.suites.types import PlannedSample, Prompt, Suite
from soar_bench.trainer.config import load_config
from soar_bench.trainer.run import train

#: Each suite with the metric that says whether an image is right.
SUITES = {"shapes": "shapes_geneval", "shapes-signs": "ocr_accuracy"}
METHODS = ("sft", "soar")
#: rows of the picture: one prompt of each task and one sign
_SHOWN = ("single_object", "counting", "colors", "two_object", "position", "color_attr", "sign")


@dataclass(frozen=True)
class Result:
    """Results of the quickstart."""

    #: of each suite, all against the base
    comparisons: tuple[Comparison, ...]
    #: of each suite, SOAR against SFT
    between: tuple[Comparison, ...]
    leaderboard: Path
    picture: Path
    report: Path


def quickstart(output: Path, steps: int, images: int, seed: int, show: Stages) -> Result:
    """Train SFT and SOAR from the embedded base and compare the three on the same noise.

    Everything is written to ``output``; what exists there is not made again.
    """
    checkpoints = [resolve("shapes"), *(_train(m, output, steps, seed, show) for m in METHODS)]
    options = Options(output / "results", output / "cache", images_per_prompt=images)
    runs: dict[str, list[Run]] = {}
    for name in SUITES:
        suite = get_suite(name)
        for checkpoint in checkpoints:
            plan = prepare(checkpoint, suite, SHAPES_PROTOCOL, options)
            observe = partial(named, show, f"{checkpoint.label} on {name}")
            runs.setdefault(name, []).append(run(plan, options, observe))
    page = output / "leaderboard.md"
    judged = [*chain(*runs.values())]
    write_text(page, leaderboard(judged, output / "results", page))
    picture = _picture(output, checkpoints, runs, options)
    to_write = ReportOptions(output / "report", options.cache)
    report = write_report(judged, to_write, partial(named, show, "report")).page
    against_base, between = (
        tuple(compare(of_suite[first:]) for of_suite in runs.values()) for first in (0, 1)
    )
    return Result(against_base, between, page, picture, report)


def _train(method: str, output: Path, steps: int, seed: int, show: Stages) -> Checkpoint:
    folder = output / "train" / f"{method}-{steps}-seed{seed}"
    run_settings = {"method": method, "base": "shapes", "output": folder, "seed": seed}
    limits = {"steps": steps, "save_every": steps, "cache": output / "cache" / "encodings"}
    progress = partial(named, show, method)
    return resolve(str(train(load_config(None, run_settings | limits), progress=progress)))


def _picture(
    output: Path, checkpoints: Sequence[Checkpoint], runs: dict[str, list[Run]], options: Options
) -> Path:
    """Draw the first image of a prompt of each kind, with one column per checkpoint."""
    images, correct, prompts = [], [], []
    for name, metric in SUITES.items():
        suite = get_suite(name)
        for task in _SHOWN:
            for prompt in [p for p in suite.prompts if p.task == task][:1]:
                prompts.append(prompt.text)
                images.append([_image(c, suite, prompt, options) for c in checkpoints])
                correct.append(
                    [_right(of_checkpoint, prompt, metric) for of_checkpoint in runs[name]]
                )
    file = output / "grid.png"
    with replace_atomically(file) as aside:
        columns = ["base", *(method.upper() for method in METHODS)]
        grid(columns, prompts, images, correct).save(aside, format="PNG")
    return file


def _image(checkpoint: Checkpoint, suite: Suite, prompt: Prompt, options: Options) -> np.ndarray:
    settings = SHAPES_PROTOCOL.settings()
    store = ImageStore.of(options.cache, checkpoint.digest, settings, suite.seed)
    image = store.read(PlannedSample(prompt, 0))
    if image is None:
        raise SoarBenchError(f"an image has gone from {store.folder}: run the same command again")
    return image


def _right(judged: Run, prompt: Prompt, metric: str) -> bool | None:
    """Return whether the first image has the metric's full score; None where it has no score."""
    scores = judged.scores().set_index(["metric", "prompt_id", "index"])["value"]
    value = float(scores.loc[(metric, prompt.id, 0)])
    return None if math.isnan(value) else value == 1


def words(result: Result) -> str:
    """Return the board and a sentence per comparison, for someone who reads nothing else."""
    rows = [row for comparison in result.comparisons for row in comparison.rows]
    metrics = list(dict.fromkeys(row.metric for row in rows))
    values = {(row.entrant, row.metric): row.value for row in reversed(rows)}  # the first suite's
    table = [["", *metrics]]
    for name in dict.fromkeys(row.entrant for row in rows):
        table.append([name, *(format_value(values[name, metric]) for metric in metrics)])
    lines = [line.rstrip() for line in aligned(table)]
    for comparisons in (result.comparisons, result.between):
        lines.append("")
        lines += [
            _sentence(row, comparison) for comparison in comparisons for row in comparison.rows
            if row.difference is not None
        ]  # fmt: skip
    return "\n".join(lines)


def _sentence(row: Row, comparison: Comparison) -> str:
    suite = comparison.board.runs[0].record.suite.name
    difference = format_difference(row.difference, row.interval)
    figures = f"{row.metric} on {suite}, {difference}, p {format_p(row.p_corrected)}"
    verdict = {BETTER: "is better than", WORSE: "is worse than"}.get(row.verdict)
    if verdict is None:
        return f"{row.entrant} and {comparison.reference}: {row.verdict} ({figures})"
    return f"{row.entrant} {verdict} {comparison.reference} ({figures})"

"""The whole path on the embedded world in minutes: train, evaluate, compare, show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from soar_bench.checkpoints import Checkpoint, digest_pipeline, pipeline_folder, resolve
from soar_bench.compare import Row, compare, entrants, format_difference, format_value
from soar_bench.config import load_config
from soar_bench.data import open_data
from soar_bench.evaluate import Options, prepare, run
from soar_bench.gallery import grid
from soar_bench.generate import image_file, image_folder, read_image
from soar_bench.leaderboard import leaderboard
from soar_bench.progress import Stages
from soar_bench.records import Run
from soar_bench.suites import SHAPES_PROTOCOL, get_suite
from soar_bench.types import Prompt, Suite
from training.files import replace_atomically, write_text

SUITES = ("shapes", "shapes-signs")
METHODS = ("sft", "soar")
#: rows of the picture: one prompt of each task and one sign
_SHOWN = ("single_object", "counting", "colors", "two_object", "position", "color_attr", "sign")


@dataclass(frozen=True)
class Result:
    """What the quickstart made."""

    boards: tuple[list[Row], ...]
    leaderboard: Path
    picture: Path


def quickstart(output: Path, steps: int, images: int, seed: int, show: Stages) -> Result:
    """Trains SFT and SOAR from the embedded base and compares the three on the same noise.

    Everything lands in ``output``; what is there already is not made again.
    """
    checkpoints = [resolve("shapes"), *(_train(m, output, steps, seed, show) for m in METHODS)]
    options = Options(output / "results", output / "cache", images_per_prompt=images)
    runs: list[Run] = []
    for name in SUITES:
        suite = get_suite(name)
        for checkpoint in checkpoints:
            work = prepare(checkpoint, suite, SHAPES_PROTOCOL, options)
            label = f"{checkpoint.label} on {name}"
            runs.append(
                run(work, options, lambda stage, *a, label=label: show(f"{label}: {stage}", *a))
            )
    page = output / "leaderboard.md"
    write_text(page, leaderboard(runs, output / "results", page))
    boards = tuple(
        compare(entrants([r for r in runs if r.record["suite"]["name"] == name])) for name in SUITES
    )
    picture = _picture(output, checkpoints, runs, options)
    return Result(boards, page, picture)


def _train(method: str, output: Path, steps: int, seed: int, show: Stages) -> Checkpoint:
    from training.loop import Base, train
    from training.pipeline import load_pipeline

    config = load_config(
        None,
        {
            "method": method,
            "base": "shapes",
            "output": output / "train" / f"{method}-{steps}-seed{seed}",
            "steps": steps,
            "save_every": min(steps, 50),
            "seed": seed,
        },
    )
    folder = pipeline_folder(config.base)
    base = Base(config.base, load_pipeline(folder), digest_pipeline(folder))
    checkpoint = train(
        config, base, open_data(config.data), lambda stage, *a: show(f"{method}: {stage}", *a)
    )
    return resolve(str(checkpoint))


def _picture(
    output: Path, checkpoints: Sequence[Checkpoint], runs: Sequence[Run], options: Options
) -> Path:
    """A grid of the first image of a prompt of each kind, a column a checkpoint."""
    rows: list[tuple[Suite, Prompt]] = []
    for name in SUITES:
        suite = get_suite(name)
        for task in _SHOWN:
            rows += [(suite, p) for p in suite.prompts if p.task == task][:1]
    images, correct = [], []
    for suite, prompt in rows:
        line, marks = [], []
        for checkpoint in checkpoints:
            folder = image_folder(options.cache, checkpoint, suite, SHAPES_PROTOCOL)
            image = read_image(image_file(folder, _first(prompt)))
            assert image is not None, "every planned image was made and scored"
            line.append(image)
            marks.append(_is_right(runs, checkpoint, suite, prompt))
        images.append(line)
        correct.append(marks)
    names = ["base", *(m.upper() for m in METHODS)]
    picture = grid(names, [p.text for _, p in rows], images, correct)
    file = output / "grid.png"
    with replace_atomically(file) as aside:
        picture.save(aside, format="PNG")
    return file


def _first(prompt: Prompt):  # type: ignore[no-untyped-def]
    from soar_bench.types import PlannedSample

    return PlannedSample(prompt, 0)


def _is_right(
    runs: Sequence[Run], checkpoint: Checkpoint, suite: Suite, prompt: Prompt
) -> bool | None:
    metric = "ocr_accuracy" if suite.name == "shapes-signs" else "shapes_geneval"
    for one in runs:
        if (
            one.record["checkpoint"]["digest"] == checkpoint.digest
            and one.record["suite"]["name"] == suite.name
        ):
            scores = one.scores()
            row = scores[
                (scores["metric"] == metric)
                & (scores["prompt_id"] == prompt.id)
                & (scores["index"] == 0)
            ]
            value = row["value"].iloc[0]
            return None if value != value else bool(value == 1)
    return None


def words(result: Result) -> str:
    """What was measured, for someone who reads nothing else."""
    lines = []
    for rows in result.boards:
        for metric in dict.fromkeys(row.metric for row in rows):
            of_metric = [row for row in rows if row.metric == metric]
            values = ", ".join(f"{row.entrant} {format_value(row.value)}" for row in of_metric)
            lines.append(f"{metric} (n = {of_metric[0].value.scored}): {values}")
            lines += [
                f"  {row.entrant} against {of_metric[0].entrant}: "
                f"{format_difference(row.difference)}: {row.verdict}"
                for row in of_metric[1:]
            ]
    return "\n".join(lines)

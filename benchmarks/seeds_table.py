"""The board over training seeds as Markdown, a column a number of sampling steps.

    python benchmarks/seeds_table.py                                     GenEval's rules
    python benchmarks/seeds_table.py --metric shapes_clipscore           alignment
    python benchmarks/seeds_table.py --suite shapes-signs --metric ocr_accuracy
    python benchmarks/seeds_table.py --images 1                          first images alone
    python benchmarks/seeds_table.py --guidance 6                        strong guidance
    python benchmarks/seeds_table.py --pairs                             every two of every board
    python benchmarks/seeds_table.py --pairs --suite shapes --task two_object

Reads the records that `benchmarks/shapes_board.sh` makes. Boards may have other numbers of images a
prompt; with --images all columns are of the same samples, the first of each prompt.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from soar_bench.boards import Board, group_seeds
from soar_bench.boards.words import format_difference, format_p
from soar_bench.core import markdown
from soar_bench.core.errors import SoarBenchError
from soar_bench.records import Run, metrics_of, read_runs
from soar_bench.stats import Estimate, Pair, Scores, holm

#: The name of each entrant in the records, and in the table.
ROWS = {"shapes": "base", "sft": "SFT", "soar": "SOAR", "soar, step 200": "SOAR, equal compute"}
#: What is compared with what, where a board has both.
DIFFERENCES = (
    ("soar", "sft"), ("soar, step 200", "sft"), ("sft", "shapes"), ("soar", "shapes"),
)  # fmt: skip
#: Rows that every board must have.
ALWAYS = ("shapes", "sft", "soar")

#: number of sampling steps -> board
Boards = dict[int, Board]


@dataclass(frozen=True)
class Part:
    """Which samples of a board count."""

    #: the first so many images of each prompt; None for all
    images: int | None = None
    #: prompts of one task; empty for all
    task: str = ""

    def __call__(self, scores: Scores) -> np.ndarray:
        """Return which samples count, [samples]."""
        images = len(scores.value) if self.images is None else self.images
        of_task = np.asarray(scores.task) == self.task if self.task else True
        return np.asarray((scores.index < images) & of_task)


ALL = Part()


def boards(
    runs: Iterable[Run], suite: str, metric: str, part: Part = ALL, guidance: float = 3.0
) -> Boards:
    """The boards of ``suite`` that have ``metric``, from few sampling steps to many.

    SoarBenchError if there is no board, one lacks an entrant or samples, or two have the same
    number of steps.
    """
    found: dict[int, list[Run]] = {}
    for run in runs:
        settings = run.record.protocol.settings
        judged = run.record.suite.name == suite and metric in dict(metrics_of(run))
        if judged and float(settings["guidance"]) == guidance:
            found.setdefault(int(settings["steps"]), []).append(run)
    if not found:
        raise SoarBenchError(
            f"there is no record of {metric} on {suite}: bash benchmarks/shapes_board.sh makes them"
        )
    return {steps: _board(found[steps], steps, metric, part) for steps in sorted(found)}


def _board(runs: list[Run], steps: int, metric: str, part: Part) -> Board:
    if len({run.board for run in runs}) > 1:
        raise SoarBenchError(
            f"the records of {steps} sampling steps differ in other settings too: keep those of "
            "one board in --results"
        )
    if part.images is not None and part.images > images_of(runs[0]):
        raise SoarBenchError(
            f"--images {part.images} is more than the records of {steps} sampling steps have of a "
            f"prompt: ask for {images_of(runs[0])} at most"
        )
    board = Board.of(group_seeds(runs)).only(part)
    lacking = [name for name in ALWAYS if name not in names_of(board)]
    if lacking:
        raise SoarBenchError(
            f"there is no record of {', '.join(lacking)} at {steps} sampling steps: "
            "bash benchmarks/shapes_board.sh makes them"
        )
    if not board.table(metric).layout.samples:
        raise SoarBenchError(f"there is no task {part.task!r} in the records: see leaderboard.md")
    return board


def names_of(board: Board) -> list[str]:
    """Return the entrants' names: of several checkpoints of one training the last has no step."""
    last: dict[str, int] = {}
    for run in board.runs:
        last[run.name] = max(last.get(run.name, 0), step_of(run))
    return [
        first.name if step_of(first) == last[first.name] else entrant.name
        for entrant in board.entrants
        for first in (entrant.first,)
    ]


def step_of(run: Run) -> int:
    """Training step of a checkpoint; 0 for a base."""
    return int(run.training.get("step", 0))


def images_of(run: Run) -> int:
    """Images per prompt."""
    return int(run.record.suite.images_per_prompt)


def spread(estimate: Estimate) -> str:
    """Mean ± standard deviation over training seeds; the value of one set of weights."""
    if estimate.seeds < 2:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} ± {estimate.seed_deviation:.3f}"


def means(boards: Boards, metric: str, part: Part = ALL) -> str:
    """Return a row per entrant, a column per number of sampling steps."""
    header = ["checkpoint", "training seeds"]
    for steps, board in boards.items():
        count = part.images or images_of(board.runs[0])
        header.append(f"{steps} steps, {count} image{'s' * (count > 1)}")
    rows = []
    for name, title in ROWS.items():
        values = [
            board.value(names_of(board).index(name), metric) if name in names_of(board) else None
            for board in boards.values()
        ]
        seeds = ", ".join(dict.fromkeys(str(value.seeds) for value in values if value))
        if seeds:
            rows.append([title, seeds, *("" if v is None else spread(v) for v in values)])
    return markdown.table(header, rows, range(1, len(header)))


def differences(boards: Boards, metric: str) -> str:
    """Return the :data:`DIFFERENCES`, as ``soar-bench compare`` gives them, at each number of
    steps. p is also corrected over the rows of this table.
    """
    rows = [
        (f"{ROWS[name]} - {ROWS[base]}", steps, _pair(board, name, base, metric))
        for name, base in DIFFERENCES
        for steps, board in boards.items()
        if {name, base} <= set(names_of(board))
    ]
    corrected = holm([pair.p_value for *_, pair in rows])
    return markdown.table(
        ["difference", "steps", "value [95%]", "p", "p (Holm)"],
        [
            [title, str(steps), format_difference(pair.difference), format_p(pair.p_value),
             format_p(p)]
            for (title, steps, pair), p in zip(rows, corrected, strict=True)
        ],
        range(1, 5),
    )  # fmt: skip


def _pair(board: Board, name: str, base: str, metric: str) -> Pair:
    names = names_of(board)
    return board.pair(names.index(name), names.index(base), metric)


def page(results: Path, suite: str, metric: str, part: Part = ALL, guidance: float = 3.0) -> str:
    """Both tables and what a reader of them has to know."""
    by_steps = boards(read_runs(results), suite, metric, part, guidance)
    declared = next(iter(by_steps.values())).metrics[metric]
    better = "higher" if declared.higher_is_better else "lower"
    of_task = f", {part.task} alone" if part.task else ""
    return "\n".join(
        [
            f"`{metric}` on `{suite}`{of_task}: {declared.unit}, {better} is better.",
            "Mean ± standard deviation over training seeds (n - 1):\n",
            means(by_steps, metric, part),
            "Paired by prompt and image, with the 95% interval and p-value of `soar-bench compare`",
            "(prompts and training seeds are two levels), and p corrected over these "
            "rows by Holm's method:\n",
            differences(by_steps, metric),
        ]
    )


def pairs(results: Path, suite: str = "", part: Part = ALL) -> str:
    """Every two entrants by every metric of every board, of ``suite`` or of all suites; p corrected
    over the pairs of one board and metric, and over all.
    """
    runs = read_runs(results)
    suites = [suite] if suite else sorted({run.record.suite.name for run in runs})
    named: list[list[str]] = []
    p_values: list[float] = []
    by_board: list[float] = []
    for name in suites:
        for metric in _metrics(runs, name):
            for steps, board in boards(runs, name, metric, part).items():
                of_board = []
                rows = [name for name in ROWS if name in names_of(board)]
                for base, entrant in combinations(rows, 2):
                    pair = _pair(board, entrant, base, metric)
                    title = f"{ROWS[entrant]} - {ROWS[base]}"
                    shown = format_difference(pair.difference)
                    named.append([name, markdown.escape(metric), str(steps), title, shown])
                    of_board.append(pair.p_value)
                p_values += of_board
                by_board += holm(of_board)
    header = ["suite", "metric", "steps", "difference", "value [95%]"]
    last = ["p", "p, Holm over the board", f"p, Holm over all {len(p_values)}"]
    rows = zip(named, p_values, by_board, holm(p_values), strict=True)
    return markdown.table(
        header + last,
        [cells + list(map(format_p, of_pair)) for cells, *of_pair in rows],
        (2, 4, 5, 6, 7),
    )


def _metrics(runs: Iterable[Run], suite: str) -> list[str]:
    for run in runs:
        if run.record.suite.name == suite:
            return [metric for metric, _ in metrics_of(run)]
    raise SoarBenchError(f"there is no record of the suite {suite!r}: see leaderboard.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--suite", help="(shapes; of --pairs all)")
    parser.add_argument("--metric", default="shapes_geneval")
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--images", type=int, help="first images of each prompt (all)")
    parser.add_argument("--task", default="", help="prompts of one task (all)")
    parser.add_argument("--pairs", action="store_true", help="every two of every board and metric")
    options = parser.parse_args()
    if options.images is not None and options.images < 1:
        parser.error("--images is 1 or more")
    part = Part(options.images, options.task)
    try:
        if options.pairs:
            print(pairs(options.results, options.suite or "", part), end="")
        else:
            suite = options.suite or "shapes"
            print(page(options.results, suite, options.metric, part, options.guidance), end="")
    except SoarBenchError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()

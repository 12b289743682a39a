"""``soar-bench compare`` and ``soar-bench leaderboard``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer
from typer import Argument, Option

from soar_bench.cli.common import (
    BY,
    CONFIG,
    RESULTS,
    echo,
    echo_json,
    echo_lines,
    file_to_write,
    split,
)  # fmt: skip

Form = Literal["terminal", "markdown", "csv", "latex", "latex-long", "json"]

#: Exit code of ``--fail-if worse`` where something is.
WORSE = 3


def compare(
    runs: list[str] = Argument(
        help="Runs (folder, id or label), folders of runs, or checkpoints as in `eval`; the first "
        "is the reference."
    ),
    form: Form = Option(
        "terminal",
        "--format",
        help="Format of the table; latex has a row per checkpoint, latex-long one per metric too.",
    ),
    reference: str | None = Option(
        None,
        metavar="NAME",
        help="Checkpoint that the others are compared with.  [default: the first, in a folder the "
        "pipeline that others stand on]",
    ),
    metric: list[str] = Option(
        [], help="Metrics to show, separated by commas. p stays corrected for all.  [default: all]"
    ),
    by: str = BY,
    level: float = Option(
        0.95, help="Confidence level of the intervals; verdicts err at 1 - level."
    ),
    detect: float | None = Option(
        None, help="Difference for which to say how many prompts it takes.  [default: none]"
    ),
    interval: Literal["analytic", "bootstrap"] = Option(
        "analytic",
        help="Interval by t or by resampling prompts; with several seeds always by t.",
    ),
    anyway: bool = Option(
        False, "--anyway", help="Compare what runs measured differently have in common."
    ),
    test: Literal["t", "exact"] = Option(
        "t",
        help="Test of each pair: t as on every page; exact is sign flips of prompts for scores of "
        "right and wrong.",
    ),
    fail_if: Literal["worse"] | None = Option(
        None,
        help="Exit with code 3 if a metric (of --metric, or any) is significantly worse than the "
        "first run's.  [default: exit with 0]",
    ),
    margin: float = Option(
        0.0, help="With --fail-if: in the metric's own unit, how much worse is not yet a failure."
    ),
    config: Path | None = CONFIG,
    results: Path = Option(Path("results"), help="Folder in which ids and labels are looked up."),
    output_file: Path | None = Option(
        None,
        "--output",
        metavar="FILE",
        callback=file_to_write,
        help="File for the table.  [default: the terminal]",
    ),
    as_json: bool = Option(False, "--json", help="Print JSON, as --format json does."),
) -> None:
    """Compare checkpoints on the same prompts and noise.

    Runs that differ by training seed alone become one row; boards are compared one by one.
    """
    from functools import partial

    from soar_bench.boards.categories import categories_of_boards
    from soar_bench.boards.comparing import board_of, compare_board
    from soar_bench.boards.selection import select_boards
    from soar_bench.boards.words import line, worse_than
    from soar_bench.core.errors import SoarBenchError
    from soar_bench.core.files import write_text
    from soar_bench.output.comparisons import print_comparisons, text_of
    from soar_bench.records.folders import find

    if not 0 < level < 1:
        raise SoarBenchError(f"--level takes a number between 0 and 1, not {level:g}")
    if detect is not None and not 0 < detect < float("inf"):
        raise SoarBenchError(f"--detect takes a positive number, not {detect:g}")
    if not 0 <= margin < float("inf"):
        raise SoarBenchError(f"--margin takes a number from 0, not {margin:g}")
    if margin and fail_if is None:
        raise SoarBenchError("--margin is that of --fail-if worse: give both or neither")
    look_up = partial(find, results=results)
    entrants, notes = select_boards([look_up(run) for run in runs], anyway, reference, look_up)
    boards = [board_of(of_board) for of_board in entrants]
    by_board, reasons = categories_of_boards(boards, by)
    notes += dict.fromkeys(filter(None, reasons))
    comparisons = [
        compare_board(
            board, level=level, detect=detect, interval=interval, test=test,
            by=by, by_category=by_category,
        )
        for board, by_category in zip(boards, by_board, strict=True)
    ]  # fmt: skip
    metrics = split(metric)
    unknown = [name for name in metrics if not any(name in c.board.metrics for c in comparisons)]
    if unknown:
        comparisons[0].only(unknown)  # refuses them
    chosen = [(c, [name for name in metrics if name in c.board.metrics]) for c in comparisons]
    chosen = [(c, names) for c, names in chosen if names or not metrics]
    shown = [c.only(names) for c, names in chosen]
    form = "json" if as_json else form
    if output_file is not None and form == "terminal":
        form = _form_of(output_file)
    if form == "terminal":
        print_comparisons(shown)
    elif output_file is None:
        echo(text_of(shown, form), nl=False)
    else:
        write_text(output_file, text_of(shown, form))
        echo(output_file)
    if form == "csv":  # a table of numbers has no room for sentences
        notes += [line(text) for comparison in shown for text in comparison.mismatches]
    echo_lines((f"soar-bench: {note}" for note in notes), err=True)
    failed = False
    for comparison, names in chosen if fail_if else ():
        for row in comparison.worse(names, margin):
            echo(f"soar-bench: {worse_than(row, comparison.reference, margin)}", err=True)
            failed = True
    if failed:
        raise typer.Exit(WORSE)


def _form_of(file: Path) -> Form:
    """Return the format that a file's ending names."""
    from soar_bench.core.errors import SoarBenchError

    match file.suffix.lower():
        case ".md":
            return "markdown"
        case ".tex":
            return "latex"
        case ".csv":
            return "csv"
        case ".json":
            return "json"
    raise SoarBenchError(f"{file} ends in none of .md, .csv, .tex and .json: name a --format")


def leaderboard(
    results: Path = RESULTS,
    form: Literal["md", "html", "csv"] | None = Option(
        None, "--format", help="Markdown, HTML or CSV.  [default: by the ending of --output]"
    ),
    output: Path | None = Option(
        None, metavar="FILE", help="File to write.  [default: leaderboard.md, .html or .csv]"
    ),
    by: str = BY,
    check: bool = Option(
        False, "--check", help="Write nothing; exit code 2 if the file is out of date."
    ),
    config: Path | None = CONFIG,
    as_json: bool = Option(False, "--json", help="Write nothing; print the rows as JSON."),
) -> None:
    """Write the leaderboard from the records in results/."""
    from soar_bench.boards.standings import standings
    from soar_bench.core.errors import SoarBenchError
    from soar_bench.core.files import write_text
    from soar_bench.output import leaderboard as pages
    from soar_bench.output.leaderboard.lines import rows_json

    if as_json:
        if output or form or check:
            raise SoarBenchError(
                "--json prints the rows and writes no file: leave --output, --format and --check "
                "out"
            )
        rows = rows_json(standings(pages.load(results), by), Path("leaderboard.json"))
        echo_json({"rows": rows})
        return
    file = output or Path(f"leaderboard.{form or 'md'}")
    if form is None:
        form = next((f for f in pages.FORMS if file.suffix.lower() == f".{f}"), None)
    if form is None:
        raise SoarBenchError(f"{output} ends in none of .md, .html and .csv: name a --format")
    if not check:
        file_to_write(file)
    page = pages.leaderboard(pages.load(results), results, file, form, by)
    if not check:
        write_text(file, page)
        echo(file)
    elif not file.exists() or file.read_bytes() != page.encode("utf-8"):
        options = "" if output is None and form == "md" else f" --output {file}"
        options += f" --format {form}" if output and output.suffix != f".{form}" else ""
        options += f" --by {by}" if by else ""
        raise SoarBenchError(f"{file} is out of date: run soar-bench leaderboard{options}")

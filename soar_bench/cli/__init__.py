"""The command ``soar-bench``.

Commands import what they need when they run, so that ``--help`` answers at once. A user's mistake
is one sentence on the error stream: exit code 2 for bad input, 1 for work that failed, 130 for an
interruption.
"""

from __future__ import annotations

import errno
import sys

import typer

from soar_bench.cli import board, evaluate, quickstart, shapes, train

app = typer.Typer(
    name="soar-bench",
    help="Is a text-to-image checkpoint really better? Train, evaluate, compare.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("compare")(board.compare)
app.command("leaderboard")(board.leaderboard)
app.command("suites")(evaluate.suites)
app.command("evaluators")(evaluate.evaluators)
app.command("quickstart")(quickstart.quickstart)
app.add_typer(shapes.app, name="shapes")


def _version(show: bool) -> None:
    if show:
        from soar_bench import __version__

        typer.echo(f"soar-bench {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version."
    ),
) -> None:
    pass


def _fail(message: str, code: int) -> None:
    typer.echo(f"soar-bench: {message}", err=True)
    sys.exit(code)


def main() -> None:
    """Entry point: runs the command and turns a user's mistake into a sentence and an exit code."""
    try:
        app()
    except KeyboardInterrupt:
        _fail("interrupted; the same command goes on where it stopped", 130)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            where = f" ({error.filename})" if error.filename else ""
            _fail(f"no space left on the disk{where}: free some and run the same command again", 1)
        raise
    except Exception as error:
        from evaluators.types import EvaluatorError
        from soar_bench.types import SoarBenchError
        from training.types import Diverged, TrainingError

        if isinstance(error, Diverged):
            _fail(str(error), 1)
        if isinstance(error, SoarBenchError | EvaluatorError | TrainingError):
            _fail(str(error), 2)
        raise

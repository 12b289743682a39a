"""The command ``soar-bench``.

Commands import what they need when they run, so that ``--help`` answers at once. A user's mistake
is one sentence on the error stream: exit code 2 for bad input, 1 for work that failed, 130 for an
interruption.
"""

from __future__ import annotations

import errno
from typing import Any

import typer
from typer import Option
from typer.core import TyperGroup

from soar_bench.cli import (
    compare,
    data,
    drift,
    evaluate,
    evaluators,
    export,
    fetch,
    report,
    runs,
    shapes,
    start,
    suites,
    train,
)
from soar_bench.cli.common import fail


class _Groups(TyperGroup):
    """Commands under the headings they were registered with, each with its whole summary."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        width = max(map(len, self.commands))
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            heading = getattr(command, "rich_help_panel", None) or "Commands"
            summary = command.get_short_help_str(limit=1000)
            sections.setdefault(heading, []).append((name.ljust(width), summary))
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


app = typer.Typer(
    name="soar-bench",
    cls=_Groups,
    help="Is a text-to-image checkpoint really better? Train, evaluate, compare.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_SET_UP, _TRAIN, _SCORE, _COMPARE, _MANAGE = "Set up", "Train", "Score", "Compare", "Manage"
app.command("quickstart", rich_help_panel=_SET_UP)(start.quickstart)
app.command("doctor", rich_help_panel=_SET_UP)(start.doctor)
app.command("fetch", rich_help_panel=_SET_UP)(fetch.fetch)
app.command("train", rich_help_panel=_TRAIN)(train.train)
app.command("eval", rich_help_panel=_SCORE)(evaluate.evaluate)
app.command("score", rich_help_panel=_SCORE)(evaluate.score)
app.command("suites", rich_help_panel=_SCORE)(suites.suites)
app.command("compare", rich_help_panel=_COMPARE)(compare.compare)
app.command("leaderboard", rich_help_panel=_COMPARE)(compare.leaderboard)
app.command("report", rich_help_panel=_COMPARE)(report.report)
app.command("drift", rich_help_panel=_COMPARE)(drift.drift)
app.command("rerun", rich_help_panel=_MANAGE)(runs.rerun)
app.command("import", rich_help_panel=_MANAGE)(export.import_)
app.add_typer(shapes.app, name="shapes", cls=_Groups, rich_help_panel=_SET_UP)
app.add_typer(data.app, name="data", cls=_Groups, rich_help_panel=_TRAIN)
app.add_typer(evaluators.app, name="evaluators", cls=_Groups, rich_help_panel=_SCORE)
app.add_typer(runs.app, name="runs", cls=_Groups, rich_help_panel=_MANAGE)
app.add_typer(export.app, name="export", cls=_Groups, rich_help_panel=_MANAGE)

_INTERRUPTED = 130


def _version(show: bool) -> None:
    if show:
        from soar_bench import __version__

        typer.echo(f"soar-bench {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version."
    ),
) -> None:
    pass


def main(command: typer.Typer = app) -> None:
    """Entry point: run the command and turn a user's mistake into a sentence and an exit code."""
    interrupted = "interrupted; the same command goes on where it stopped"
    try:
        command()
    except SystemExit as end:  # typer ends with one, always
        if end.code == _INTERRUPTED:
            fail(interrupted, _INTERRUPTED)
        raise
    except KeyboardInterrupt:  # before typer has begun, or after it has ended
        fail(interrupted, _INTERRUPTED)
    except Exception as error:
        message, code = _explain(error)
        if message is None:
            raise
        fail(message, code)


def _explain(error: Exception) -> tuple[str | None, int]:
    """The sentence and the exit code of an error that a user can mend; None for a fault of ours."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" ({error.filename})" if error.filename else ""
        return f"no space left on the disk{where}: free some and run the same command again", 1

    from evaluators.types import EvaluatorError
    from soar_bench.core.errors import SoarBenchError
    from training.types import Diverged, Stopped, TrainingError

    if isinstance(error, Stopped):
        return f"stopped at step {error.step}; the same command goes on from there", _INTERRUPTED
    if isinstance(error, Diverged):
        return str(error), 1
    if isinstance(error, SoarBenchError | EvaluatorError | TrainingError):
        return str(error), 2
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror.lower()}", 1
    return None, 1

"""The commands of ``soar-bench``, under their headings.

They import what they need when they run, so that ``--help`` answers at once.
"""

from __future__ import annotations

from collections.abc import Callable

import typer
from typer import Option

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
from soar_bench.cli.common import echo
from soar_bench.cli.help import App

app = App(
    name="soar-bench", help="Is a text-to-image checkpoint really better? Train, evaluate, compare."
)
_SET_UP, _TRAIN, _SCORE, _COMPARE, _MANAGE = "Set up", "Train", "Score", "Compare", "Manage"
_COMMANDS: tuple[tuple[str, str, Callable[..., None], str], ...] = (
    (_SET_UP, "quickstart", start.quickstart, """\
soar-bench quickstart
soar-bench quickstart --steps 50"""),
    (_SET_UP, "doctor", start.doctor, """\
soar-bench doctor
soar-bench doctor geneval,pickscore --device cuda"""),
    (_SET_UP, "fetch", fetch.fetch, """\
soar-bench fetch                        # what there is and what is here
soar-bench fetch --suite geneval,ocr    # prompts, and evaluators' weights
soar-bench fetch pickscore --mirror /data/mirror"""),
    (_TRAIN, "train", train.train, """\
soar-bench train soar --base shapes --data shapes-clean --seeds 0,1,2
soar-bench train soar --config configs/sd35m_soar.yaml --dry-run
soar-bench train sft --base models/sd3.5m --data photos/ --set lora.rank=64"""),
    (_SCORE, "eval", evaluate.evaluate, """\
soar-bench eval shapes outputs/train/soar-seed0 --suite shapes,shapes-signs
soar-bench eval my-lora --base models/sd3.5-medium --suite ocr --dtype bf16
soar-bench eval models/tuned --suite my-prompts.txt --steps 20,40 --dry-run"""),
    (_SCORE, "score", evaluate.score, """\
soar-bench score images --evaluators geneval,clipscore
soar-bench score images --prompts list.csv --evaluators pickscore --label mine"""),
    (_COMPARE, "compare", compare.compare, """\
soar-bench compare results/shapes/shapes
soar-bench compare results/shapes/shapes --by held_out
soar-bench compare BASE NEW --fail-if worse --metric geneval"""),
    (_COMPARE, "leaderboard", compare.leaderboard, """\
soar-bench leaderboard
soar-bench leaderboard --results results --output board.html
soar-bench leaderboard --by tag --output by-task.md"""),
    (_COMPARE, "report", report.report, """\
soar-bench report
soar-bench report results/geneval --output outputs/geneval-report
soar-bench report results/parti --by challenge"""),
    (_COMPARE, "drift", drift.drift, """\
soar-bench drift shapes outputs/train/sft-seed0 outputs/train/soar-seed0"""),
    (_MANAGE, "rerun", runs.rerun, """\
soar-bench rerun results/shapes/shapes/shapes-a8b7eceb"""),
    (_MANAGE, "import", export.import_, """\
soar-bench import results.jsonl --label other-tool"""),
)  # fmt: skip
for heading, name, function, example in _COMMANDS:
    app.add(name, example, rich_help_panel=heading)(function)
app.add_typer(suites.app, name="suites", rich_help_panel=_SCORE)
app.add_typer(shapes.app, name="shapes", rich_help_panel=_SET_UP)
app.add_typer(data.app, name="data", rich_help_panel=_TRAIN)
app.add_typer(evaluators.app, name="evaluators", rich_help_panel=_SCORE)
app.add_typer(runs.app, name="runs", rich_help_panel=_MANAGE)
app.add_typer(export.app, name="export", rich_help_panel=_MANAGE)


def _version(show: bool) -> None:
    if show:
        from soar_bench import __version__

        echo(f"soar-bench {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version."
    ),
    debug: bool = Option(
        False, "--debug", help="Show the traceback of an error, with any command."
    ),
) -> None:
    pass

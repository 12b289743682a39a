"""``soar-bench quickstart``."""

from __future__ import annotations

from pathlib import Path

import typer
from typer import Option


def quickstart(
    output: Path = Option(Path("outputs/quickstart"), help="Folder for everything that is made."),
    steps: int = Option(200, min=1, help="Optimizer steps of SFT and of SOAR."),
    images: int = Option(1, min=1, help="Images per prompt."),
    seed: int = Option(0, min=0, help="Training seed."),
) -> None:
    """Train SFT and SOAR on a CPU in minutes, evaluate and compare."""
    from soar_bench.core.progress import stages
    from soar_bench.quickstart import quickstart as run
    from soar_bench.quickstart import words

    typer.echo(
        f"Post-training the embedded base for {steps} steps with SFT and with SOAR, then judging "
        f"all three on the same prompts and noise.\n"
        "Interrupt at any time; the same command goes on.\n"
    )
    with stages() as show:
        result = run(output, steps, images, seed, show)
    typer.echo(
        "\nWhat was measured (value ± standard error; differences with their 95% interval, and p\n"
        "corrected for there being two metrics, which the verdict follows):\n"
    )
    typer.echo(words(result))
    typer.echo(
        f"\nThe board:      {result.leaderboard}\n"
        f"The pictures:   {result.picture}  (green frame: right, red: wrong)\n"
        f"A short training moves little and {result.comparisons[0].rows[0].value.scored} images "
        "cannot show small differences; the measured comparison over several seeds is in "
        "leaderboard.md."
    )

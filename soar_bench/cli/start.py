"""``soar-bench quickstart`` and ``soar-bench doctor``."""

from __future__ import annotations

from pathlib import Path

from typer import Argument, Option

from soar_bench.cli.common import AS_JSON, echo, fail, files_or_names


def quickstart(
    output: Path = Option(
        Path("outputs/quickstart"), metavar="FOLDER", help="Folder for everything that is made."
    ),
    steps: int = Option(100, min=1, help="Optimizer steps of SFT and of SOAR."),
    images: int = Option(1, min=1, help="Images per prompt."),
    seed: int = Option(0, min=0, help="Training seed."),
) -> None:
    """Train SFT and SOAR on a CPU in minutes, evaluate and compare."""
    from soar_bench.core.progress import stages
    from soar_bench.quickstart import quickstart as run
    from soar_bench.quickstart import words

    echo(
        f"Post-training the embedded base for {steps} steps with SFT and with SOAR, then judging "
        f"all three on the same prompts and noise.\n"
        "Interrupt at any time; the same command goes on.\n"
    )
    with stages() as show:
        result = run(output, steps, images, seed, show)
    scored = result.comparisons[0].rows[0].value.scored
    echo(
        f"\nWhat was measured on {scored} images (value ± standard error; differences with their "
        "95%\ninterval, and p corrected for there being two metrics, which the verdict follows):\n"
    )
    echo(words(result))
    echo(
        f"\nThe pictures:  {result.picture}  (green frame: right, red: wrong)\n"
        f"The board:     {result.leaderboard}\n"
        f"The report:    open {result.report} in a browser: plots, and every picture side by side\n"
        f"\n{steps} steps move little; the measured comparison, 1,000 steps over five seeds, is in "
        "leaderboard.md."
    )


def doctor(
    names: list[str] = Argument(
        None,
        metavar="EVALUATOR",
        help="Evaluators to look at, such as geneval-mmdet or fidelity.  [default: all]",
    ),
    device: str = Option("cpu", help="Device for the golden check: cpu, cuda or mps."),
    golden: bool = Option(
        True, "--golden/--no-golden", help="Score packaged images with tiny weights."
    ),
    verify: bool = Option(
        False, "--verify", help="Read weights again, every byte, whatever is known of them."
    ),
    as_json: bool = AS_JSON,
) -> None:
    """Check packages, weights and evaluators on this machine.

    A golden check scores packaged images and compares with recorded values.

    Exits with 1 if something that is here is broken; what is absent is no fault.
    """
    import json
    from contextlib import nullcontext
    from dataclasses import asdict

    from soar_bench.core.digests import reading_through
    from soar_bench.core.terminal import new_console
    from soar_bench.doctor import State, examine
    from soar_bench.output.tables import doctor_screen

    through = reading_through() if verify else nullcontext()
    with through, new_console(stderr=True).status("looking") as status:
        observe = lambda name: status.update(f"looking at {name}")  # noqa: E731
        findings = list(examine(device, golden, observe, files_or_names(names or [])))
    if as_json:
        echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        console = new_console(highlight=False)
        console.print(doctor_screen(findings, console.width), end="", soft_wrap=True)
    broken = [f"{f.section} {f.name}" for f in findings if f.state is State.broken]
    if broken:
        fail(f"broken here: {', '.join(broken)}")

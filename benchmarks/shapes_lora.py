"""How much of the auxiliary loss an adapter bears, on the embedded world.

    python benchmarks/shapes_lora.py run       # resumes; writes records
    python benchmarks/shapes_lora.py table     # the settings against the base

SOAR with an adapter, with other weights of the auxiliary loss, numbers of points and ends of their
levels; judged on ``shapes-dev`` without guidance, where blur shows first.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from soar_bench.boards import compare
from soar_bench.boards.words import format_difference, format_value
from soar_bench.checkpoints import resolve
from soar_bench.core.markdown import table as markdown_table
from soar_bench.core.progress import stages
from soar_bench.evaluation import Options, prepare, run
from soar_bench.records import read_runs
from soar_bench.suites import get_suite
from soar_bench.suites.protocols import SHAPES_PROTOCOL
from soar_bench.trainer.config import load_config
from soar_bench.trainer.run import train

app = typer.Typer(add_completion=False, no_args_is_help=True)
OUTPUT = Path("outputs/lora")
METRICS = ("shapes_geneval", "shapes_clipscore", "sharpness", "edge_density")
EVALUATORS = ("shapes-geneval", "shapes-clipscore", "picture-statistics")

#: name -> settings of SOAR; its weight 0 is SFT
SETTINGS: dict[str, dict[str, Any]] = {
    "lambda 0": {"weight": 0.0, "points": 4},
    "lambda 0.1": {"weight": 0.1, "points": 4},
    "lambda 0.3": {"weight": 0.3, "points": 4},
    "lambda 1": {"weight": 1.0, "points": 4},
    "lambda 0.3, K 1": {"weight": 0.3, "points": 1},
    "lambda 0.3, K 1, ratio 1.1": {"weight": 0.3, "points": 1, "upper_ratio": 1.1},
}


@app.command("run")
def run_all(steps: int = 200, batch_size: int = 16, images: int = 2, only: str = "") -> None:
    """Train and judge every setting whose name contains ``only``."""
    options = Options(OUTPUT / "results", OUTPUT / "cache", images_per_prompt=images)
    suite = replace(get_suite("shapes-dev"), evaluators=EVALUATORS)
    protocol = SHAPES_PROTOCOL.override(guidance=1.0)
    with stages() as show:
        run(prepare(resolve("shapes"), suite, protocol, options), options)
        for name, soar in SETTINGS.items():
            if only not in name:
                continue
            place = OUTPUT / "train" / name.replace(", ", "-").replace(" ", "")
            settings = {
                "method": "soar", "base": "shapes", "name": name, "output": place, "seed": 0,
                "steps": steps, "batch_size": batch_size, "soar": soar, "save_every": 10**6,
                "lora": {"rank": 16, "alpha": 32}, "optimizer": {"lr": 1e-3}, "trackers": [],
            }  # fmt: skip
            checkpoint = train(
                load_config(None, settings), progress=lambda s, *a, n=name: show(f"{n}: {s}", *a)
            )
            run(prepare(resolve(str(checkpoint)), suite, protocol, options), options)


@app.command()
def table() -> None:
    """All settings, each against the base, as Markdown."""
    rows = {}
    for metric in METRICS:
        for row in compare(read_runs(OUTPUT / "results")).only([metric]).rows:
            difference = format_difference(row.difference, row.interval)
            name = row.entrant.removesuffix("-seed0")
            rows.setdefault(name, []).append(f"{format_value(row.value)} ({difference})")
    order = [name for name in ("shapes", *SETTINGS) if name in rows]
    header = ["setting", *METRICS]
    typer.echo(markdown_table(header, [[name, *rows[name]] for name in order]))


if __name__ == "__main__":
    app()

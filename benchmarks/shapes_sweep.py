"""Which settings of post-training help in the embedded world?

    python benchmarks/shapes_sweep.py run --seeds 0,1      # hours; resumes; writes records
    python benchmarks/shapes_sweep.py table      # what docs/embedded-world.md shows

Every setting below is trained from the embedded base and judged on ``shapes-dev``, never on
``shapes``, at several numbers of sampling steps. The table has all that were run to their end,
whatever they gave.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from soar_bench.boards import compare
from soar_bench.boards.rows import Row
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
OUTPUT = Path("outputs/sweep")
SUITE, METRIC, IMAGES = "shapes-dev", "shapes_geneval", 2
SAMPLING_STEPS = (10, 20)

#: name -> what differs from the embedded recipe (soar_bench/shapes/recipe.py)
SETTINGS: dict[str, dict[str, Any]] = {
    "sft": {"method": "sft"},
    "soar": {"method": "soar"},
}


def vary(name: str, section: str, key: str, values: tuple[Any, ...], *methods: str) -> None:
    """One-at-a-time variations of the recipe."""
    for value in values:
        for method in methods:
            change = {section: {key: value}} if section else {key: value}
            SETTINGS[f"{method} {name} {value}"] = {"method": method, **change}


vary("lr", "optimizer", "lr", (5e-5, 4e-4), "sft", "soar")
vary("data", "", "data", ("shapes-clean:200",), "sft", "soar")
vary("guidance", "soar", "guidance", (1.0, 4.5), "soar")
vary("points", "soar", "points", (1,), "soar")
vary("rollout steps", "soar", "rollout_steps", (5,), "soar")


@app.command("run")
def run_all(seeds: str = "0", only: str = "", threads: int = 0) -> None:
    """Trains and judges every setting whose name contains ``only``."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    options = Options(OUTPUT / "results", OUTPUT / "cache", images_per_prompt=IMAGES)
    with stages() as show:
        _judge("shapes", options)
        for seed in (int(s) for s in seeds.split(",")):
            for name, changes in SETTINGS.items():
                if only not in name:
                    continue
                label = name.replace(" ", "-").replace(":", "")
                place = OUTPUT / "train" / f"{label}-seed{seed}"
                settings = {"base": "shapes", "name": name, "seed": seed, "output": place}
                config = load_config(None, {**settings, "save_every": 10**6, **changes})
                checkpoint = train(config, progress=lambda s, *a, n=name: show(f"{n}: {s}", *a))
                _judge(str(checkpoint), options)


def _judge(checkpoint: str, options: Options) -> None:
    suite = replace(get_suite(SUITE), evaluators=("shapes-geneval",))
    for steps in SAMPLING_STEPS:
        protocol = SHAPES_PROTOCOL.override(steps=steps)
        run(prepare(resolve(checkpoint), suite, protocol, options), options)


@app.command()
def table() -> None:
    """All settings, each against the base, as Markdown."""
    runs = read_runs(OUTPUT / "results")
    by_steps: dict[int, dict[str, Row]] = {}
    for steps in SAMPLING_STEPS:
        here = [r for r in runs if r.record.protocol.settings["steps"] == steps]
        rows_of_metric = compare(here).only([METRIC]).rows
        by_steps[steps] = {row.entrant: row for row in rows_of_metric}
    header = ["setting", "seeds"]
    for steps in SAMPLING_STEPS:
        header += [f"{steps} steps", "against the base"]
    rows = []
    for name in ["shapes", *SETTINGS]:
        if not all(name in by_steps[steps] for steps in SAMPLING_STEPS):
            continue  # not run, or not to its end
        row = [name, str(by_steps[SAMPLING_STEPS[0]][name].value.seeds)]
        for steps in SAMPLING_STEPS:
            compared = by_steps[steps][name]
            row.append(format_value(compared.value))
            row.append(format_difference(compared.difference, compared.interval))
        rows.append(row)
    typer.echo(markdown_table(header, rows))


if __name__ == "__main__":
    app()

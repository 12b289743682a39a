"""``soar-bench eval``."""

from __future__ import annotations

from pathlib import Path

import typer

from soar_bench.cli.common import (
    BASE,
    CACHE,
    DEVICE,
    DTYPE,
    EVALUATOR_DTYPE,
    RESULTS,
    Precision,
    carry_out,
    files_or_names,
    numbers,
    split,
    terminate_as_interrupt,
)


def evaluate(
    checkpoints: list[str] = typer.Argument(
        help="Checkpoints: `shapes`, a pipeline's folder, a transformer, a LoRA, a .safetensors "
        "file, what `soar-bench train` wrote, or ORG/NAME[@REVISION] of the hub."
    ),
    base: str | None = BASE,
    suite: list[str] = typer.Option(
        ["shapes"],
        help="Suites, separated by commas (see `soar-bench suites`); or a file of prompts: "
        ".txt, .csv, .jsonl.",
    ),
    protocol: str | None = typer.Option(
        None, help="Named settings of generation.  [default: the suite's]"
    ),
    steps: str = typer.Option(
        "", help="Sampler steps; several, as 20,50,100, are a sweep.  [default: the protocol's]"
    ),
    guidance: str = typer.Option(
        "",
        help="Guidance scale, 1 means none; several, as 1,4.5,7, are a sweep.  "
        "[default: the protocol's]",
    ),
    resolution: int | None = typer.Option(
        None, min=8, help="Side of the images in pixels.  [default: the protocol's]"
    ),
    max_sequence_length: int | None = typer.Option(
        None, min=1, help="Prompt tokens that the T5 encoder sees.  [default: the protocol's]"
    ),
    dtype: Precision | None = DTYPE,
    images: int | None = typer.Option(
        None, min=1, help="Images per prompt.  [default: the suite's]"
    ),
    seed: int | None = typer.Option(
        None, min=0, help="Seed of the initial noise.  [default: the suite's]"
    ),
    evaluator: list[str] = typer.Option(
        [],
        "--evaluator",
        "--evaluators",
        help="Evaluators, separated by commas.  [default: the suite's]",
    ),
    evaluator_dtype: Precision = EVALUATOR_DTYPE,
    batch_size: str = typer.Option(
        "auto", help="Images generated at once; does not change the numbers."
    ),
    device: str = DEVICE,
    results: Path = RESULTS,
    cache: Path = CACHE,
    force: bool = typer.Option(False, "--force", help="Generate and score again what exists."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Check everything and show the plan."),
    as_json: bool = typer.Option(False, "--json", help="Print the records, or the plan, as JSON."),
) -> None:
    """Generate and score images of checkpoints; record each run.

    What exists is not made again: interrupted or killed, the same command goes on. Under torchrun
    or `accelerate launch` the processes share the work.
    """
    from soar_bench.checkpoints import resolve
    from soar_bench.core.distributed import join
    from soar_bench.evaluation import Options, prepare
    from soar_bench.suites import get_suite
    from soar_bench.suites.protocols import default_protocol, get_protocol, sweep

    options = Options(
        results,
        cache,
        images,
        tuple(split(evaluator)) or None,
        batch_size=None if batch_size == "auto" else numbers("--batch-size", batch_size, int, 1)[0],
        device=device,
        evaluator_dtype=evaluator_dtype.value,
        force=force,
    )
    settings = {
        "resolution": resolution,
        "max_sequence_length": max_sequence_length,
        "dtype": dtype and dtype.value,
    }
    all_steps = numbers("--steps", steps, int, 1)
    all_guidance = numbers("--guidance", guidance, float, 0)
    terminate_as_interrupt()
    group = join()
    suites = [get_suite(name, seed=seed) for name in files_or_names(suite)]
    resolved = [resolve(name, base) for name in checkpoints]
    plans = [
        prepare(checkpoint, of_suite, setting, options)
        for of_suite in suites
        for setting in sweep(
            get_protocol(protocol) if protocol else default_protocol(of_suite),
            all_steps,
            all_guidance,
            **settings,
        )
        for checkpoint in resolved
    ]
    carry_out(plans, options, group, dry_run=dry_run, as_json=as_json)

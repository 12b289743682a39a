"""``soar-bench eval`` and ``soar-bench score``."""

from __future__ import annotations

from pathlib import Path

from typer import Argument, Option

from soar_bench.cli import common


def evaluate(
    checkpoints: list[str] = Argument(
        help="Checkpoints: `shapes`, a pipeline's folder, a transformer, a LoRA, a .safetensors "
        "file, what `soar-bench train` wrote, or ORG/NAME[@REVISION] of the hub."
    ),
    base: str | None = common.BASE,
    suite: list[str] = Option(
        ["shapes"],
        autocompletion=common.SUITES,
        help="Suites, separated by commas (see `soar-bench suites`), or a file of prompts: .txt, "
        ".csv, .jsonl; SUITE:EVALUATOR+EVALUATOR chooses evaluators for one suite.",
    ),
    protocol: str | None = Option(
        None,
        autocompletion=common.PROTOCOLS,
        help="Named settings of generation.  [default: the suite's]",
    ),
    steps: str = Option(
        "", help="Sampler steps; several, as 20,50,100, are a sweep.  [default: the protocol's]"
    ),
    guidance: str = Option(
        "",
        help="Guidance scale, 1 means none; several, as 1,4.5,7, are a sweep.  "
        "[default: the protocol's]",
    ),
    resolution: int | None = common.RESOLUTION,
    max_sequence_length: int | None = Option(
        None, min=1, help="Prompt tokens that the T5 encoder sees.  [default: the protocol's]"
    ),
    dtype: str | None = common.DTYPE,
    images: int | None = Option(None, min=1, help="Images per prompt.  [default: the suite's]"),
    limit: int | None = Option(
        None,
        min=1,
        help="Prompts of each suite, spread evenly over it, for a look before the whole; on boards "
        "of their own.  [default: all]",
    ),
    seed: int | None = Option(
        None, min=0, help="Seed of the initial noise.  [default: the suite's]"
    ),
    evaluator: list[str] = Option(
        [],
        "--evaluator",
        "--evaluators",
        autocompletion=common.EVALUATORS,
        help="Evaluators, separated by commas.  [default: the suite's]",
    ),
    label: list[str] = Option(
        [],
        metavar="NAME,...",
        help="Names of the checkpoints on every page, separated by commas.  [default: their own]",
    ),
    evaluator_dtype: str = common.EVALUATOR_DTYPE,
    batch_size: str = Option("auto", help="Images generated at once; does not change the numbers."),
    device: str = common.DEVICE,
    config: Path | None = common.CONFIG,
    results: Path = common.RESULTS,
    cache: Path = common.CACHE,
    tracker: list[str] = Option(
        [],
        help="Trackers that get the values, separated by commas: tensorboard, wandb.  "
        "[default: none]",
    ),
    force: bool = Option(False, "--force", help="Generate and score again what exists."),
    dry_run: bool = common.DRY_RUN,
    as_json: bool = Option(False, "--json", help="Print the records, or the plan, as JSON."),
) -> None:
    """Generate and score images of checkpoints; record each run.

    What exists is not made again: interrupted or killed, the same command goes on. Under torchrun
    or `accelerate launch` the processes share the work.
    """
    from dataclasses import replace
    from functools import partial
    from itertools import zip_longest

    from soar_bench.checkpoints import resolve
    from soar_bench.core.distributed import join
    from soar_bench.core.errors import Refusals, SoarBenchError
    from soar_bench.evaluation import Options, prepare
    from soar_bench.scoring.judges import resolve_judges
    from soar_bench.scoring.plan import problems_of
    from soar_bench.suites import LIMIT, evaluators_of, get_suite
    from soar_bench.suites.protocols import default_protocol, get_protocol, sweep

    size = None if batch_size == "auto" else common.numbers("--batch-size", batch_size, int, 1)[0]
    options = Options(
        results, cache, images, tuple(common.split(evaluator)) or None, size, device,
        evaluator_dtype, force,
    )  # fmt: skip
    all_steps = common.numbers("--steps", steps, int, 1)
    all_guidance = common.numbers("--guidance", guidance, float, 0)
    trackers = common.split(tracker)
    if trackers:
        from soar_bench.trainer.tracked import check

        check(trackers)
    group = join()
    labels = common.split(label)
    if labels and len(labels) != len(checkpoints):
        raise SoarBenchError(
            f"--label names {len(labels)} checkpoints of {len(checkpoints)}: give one name for each"
        )
    chosen, refusals = dict(map(_with_evaluators, common.files_or_names(suite))), Refusals()
    if limit is not None:
        chosen = {f"{name}{LIMIT}{limit}": judges for name, judges in chosen.items()}
    names = list(chosen)
    suites = refusals.each(partial(get_suite, seed=seed), names)
    resolved = refusals.each(partial(resolve, base=base), checkpoints)
    if refusals.sentences:  # what the evaluators lack is told with what the rest lacks
        by_name = [chosen[n] or options.evaluators or evaluators_of([n]) for n in names]
        evaluators = tuple(dict.fromkeys(judge for judges in by_name for judge in judges))
        for asked in refusals.each(resolve_judges, [evaluators]):
            refusals.sentences += problems_of(asked)
    refusals.tell()
    resolved = [checkpoint.named(name) for checkpoint, name in zip_longest(resolved, labels)]
    plans = []
    for of_suite, judges in zip(suites, chosen.values(), strict=True):
        of_plan = replace(options, evaluators=judges or options.evaluators)
        named = get_protocol(protocol) if protocol else default_protocol(of_suite)
        settings = sweep(
            named, all_steps, all_guidance,
            resolution=resolution, max_sequence_length=max_sequence_length, dtype=dtype,
        )  # fmt: skip
        plans += [prepare(c, of_suite, setting, of_plan) for setting in settings for c in resolved]
    common.carry_out(plans, options, group, dry_run=dry_run, as_json=as_json, trackers=trackers)


def _with_evaluators(suite: str) -> tuple[str, tuple[str, ...]]:
    """Return the suite of SUITE or SUITE:EVALUATOR+EVALUATOR, and its evaluators if named."""
    name, colon, evaluators = suite.partition(":")
    if not colon or Path(suite).exists():
        return suite, ()
    return name, tuple(part for part in evaluators.split("+") if part)


def score(
    folder: Path = Argument(
        help="Folder of images: GenEval's layout, or files with a list of prompts."
    ),
    evaluator: list[str] = Option(
        [],
        "--evaluator",
        "--evaluators",
        autocompletion=common.EVALUATORS,
        help="Evaluators, separated by commas.  [default: none, so name one]",
    ),
    prompts: Path | None = Option(
        None,
        metavar="FILE",
        help="CSV, TSV or JSONL with the columns file and prompt.  [default: the folder's own]",
    ),
    label: str | None = Option(
        None, help="Name of the images in tables.  [default: the folder's name]"
    ),
    suite: str | None = Option(
        None, metavar="NAME", help="Name of the prompts.  [default: after their content]"
    ),
    batch_size: int = Option(32, min=1, help="Images scored at once; does not change the numbers."),
    device: str = common.DEVICE,
    evaluator_dtype: str = common.EVALUATOR_DTYPE,
    config: Path | None = common.CONFIG,
    results: Path = common.RESULTS,
    cache: Path = common.CACHE,
    force: bool = Option(False, "--force", help="Score again what is there."),
    dry_run: bool = common.DRY_RUN,
    as_json: bool = Option(False, "--json", help="Print the record, or the plan, as JSON."),
) -> None:
    """Score images made anywhere; write a record of them.

    Scores that exist are not made again: interrupted, the same command goes on.
    """
    from soar_bench.core.distributed import join
    from soar_bench.core.progress import stages
    from soar_bench.evaluation import Options, prepare_images

    judges = tuple(common.split(evaluator))
    options = Options(results, cache, None, judges, batch_size, device, evaluator_dtype, force)
    group = join()
    with stages(quiet=not group.main) as show:
        plan = prepare_images(folder, options, prompts, label=label, suite=suite, observe=show)
    common.carry_out([plan], options, group, dry_run=dry_run, as_json=as_json)

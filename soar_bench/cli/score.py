"""``soar-bench score``."""

from __future__ import annotations

from pathlib import Path

from typer import Argument, Option

from soar_bench.cli import common


def score(
    folder: Path = Argument(
        help="Folder of images: GenEval's layout, or files with a list of prompts."
    ),
    evaluator: list[str] = Option(
        [],
        "--evaluator",
        "--evaluators",
        help="Evaluators, separated by commas.  [default: none, so name one]",
    ),
    prompts: Path | None = Option(
        None,
        help="CSV, TSV or JSONL with the columns file and prompt.  [default: the folder's own]",
    ),
    label: str | None = Option(
        None, help="Name of the images in tables.  [default: the folder's name]"
    ),
    suite: str | None = Option(None, help="Name of the prompts.  [default: after their content]"),
    batch_size: int = Option(32, min=1, help="Images scored at once; does not change the numbers."),
    device: str = common.DEVICE,
    evaluator_dtype: common.Precision = common.EVALUATOR_DTYPE,
    results: Path = common.RESULTS,
    cache: Path = common.CACHE,
    force: bool = Option(False, "--force", help="Score again what is there."),
    dry_run: bool = common.DRY_RUN,
    as_json: bool = Option(False, "--json", help="The record (or the plan) as JSON."),
) -> None:
    """Score images made anywhere; write a record of them.

    Scores that exist are not made again: interrupted, the same command goes on.
    """
    from soar_bench.core.distributed import join
    from soar_bench.core.progress import stages
    from soar_bench.evaluation import Options, prepare_images

    judges = tuple(common.split(evaluator))
    options = Options(results, cache, None, judges, batch_size, device, evaluator_dtype, force)
    common.terminate_as_interrupt()
    group = join()
    with stages(quiet=not group.main) as show:
        plan = prepare_images(folder, options, prompts, label=label, suite=suite, observe=show)
    common.carry_out([plan], options, group, dry_run=dry_run, as_json=as_json)

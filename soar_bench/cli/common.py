"""Options, lists in options and output that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import typer
from typer import Option

if TYPE_CHECKING:
    from soar_bench.core.distributed import Group
    from soar_bench.evaluation import Options, Plan


def _precision(name: str | None) -> str | None:
    """Return torch's name of a precision in an option."""
    from soar_bench.core.precision import PRECISIONS, full_name

    full = None if name is None else full_name(name)
    if full is not None and full not in PRECISIONS:
        raise typer.BadParameter(
            f"a precision is fp32, bf16 or fp16 ({', '.join(PRECISIONS)}), not {name!r}"
        )
    return full


def _read_config(context: typer.Context, file: Path | None) -> Path | None:
    """Let the settings of a YAML file stand for options and arguments that are not given."""
    if file is not None:
        from soar_bench.core.errors import unknown_name
        from soar_bench.trainer.config import read_settings

        parameters = {p.name or "": p for p in context.command.params}
        names = {
            option.strip("-").replace("-", "_"): name
            for name, parameter in parameters.items()
            for option in (name, *parameter.opts)
            if name not in ("config", "help")
        }
        values: dict[str, Any] = {}
        for key, value in read_settings(file).items():
            name = names.get(str(key).replace("-", "_"))
            if name is None:
                spelled = {option.strip("-") for p in parameters.values() for option in p.opts}
                choices = sorted(spelled - {"config", "help", "h"})
                raise unknown_name(f"option of this command ({file})", str(key), choices)
            items = [str(item) for item in (value if isinstance(value, list) else [value])]
            several = parameters[name].nargs == -1 or getattr(parameters[name], "multiple", False)
            flag = isinstance(value, bool) or value is None
            values[name] = value if flag else items if several else ",".join(items)
        context.default_map = {**(context.default_map or {}), **values}
    return file


def file_to_write(path: Path | None) -> Path | None:
    """Refuse a file that cannot be written, before anything is done for it."""
    from soar_bench.core.errors import SoarBenchError

    if path is not None and path.is_dir():
        raise SoarBenchError(f"{path} is a folder: name a file in it")
    if path is not None and path.is_file():  # it is replaced
        folder_to_write(path.resolve().parent)
        return path
    return folder_to_write(path)


def folder_to_write(path: Path | None) -> Path | None:
    """Refuse a folder that cannot be made or written to, before anything is done for it."""
    from soar_bench.core.files import check_writable

    if path is not None:
        check_writable(path)
    return path


def _completing(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Return what a shell asks for the words that a list with commas may go on with."""

    def complete(incomplete: str) -> list[str]:
        before, comma, begun = incomplete.rpartition(",")
        return [before + comma + name for name in names() if name.startswith(begun)]

    return complete


def _suites() -> list[str]:
    from soar_bench.suites import names

    return names()


def _evaluators() -> list[str]:
    from evaluators.registry import names

    return names()


def _protocols() -> list[str]:
    from soar_bench.suites.protocols import PROTOCOLS

    return list(PROTOCOLS)


SUITES, EVALUATORS, PROTOCOLS = map(_completing, (_suites, _evaluators, _protocols))

BASE = Option(
    None, help="Pipeline that a transformer or a LoRA stands on.  [default: the one it names]"
)
CONFIG = Option(
    None,
    "--config",
    is_eager=True,
    callback=_read_config,
    help="YAML file of `option: value` lines; options on the command line win.  [default: none]",
)
DTYPE = Option(None, callback=_precision, help="Precision of the model.  [default: the protocol's]")
RESOLUTION = Option(None, min=8, help="Side of the images in pixels.  [default: the protocol's]")
EVALUATOR_DTYPE = Option(
    "float32",
    callback=_precision,
    help="Precision of the learned evaluators; any but fp32 makes another board.",
)
DEVICE = Option("auto", help="Device to run on: auto, cpu, cuda or mps.")
RESULTS = Option(Path("results"), help="Folder of the records.")
CACHE = Option(Path("outputs/cache"), help="Folder of images and scores.")
BY = Option(
    "",
    help="Metadata column of the prompts, to break the metrics down by its values.  "
    "[default: none]",
)
DRY_RUN = Option(False, "--dry-run", help="Check everything and show the plan.")
AS_JSON = Option(False, "--json", help="Print JSON.")

Number = TypeVar("Number", int, float)


def split(values: Sequence[str]) -> list[str]:
    """Return the names in repeated values of an option, each a list with commas."""
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


def files_or_names(values: Sequence[str]) -> list[str]:
    """Split the values as :func:`split` does, but keep an existing path whole."""
    parts = ([value] if Path(value).exists() else split([value]) for value in values)
    return [name for names in parts for name in names]


def numbers(option: str, text: str, kind: type[Number], least: Number) -> list[Number]:
    """Return the numbers in a list with commas; BadParameter unless all are at least ``least``."""
    try:
        values = [kind(part) for part in split([text])]
    except ValueError:
        values = []
    if (text and not values) or any(not least <= number < float("inf") for number in values):
        noun = "whole numbers" if kind is int else "numbers"
        raise typer.BadParameter(f"{option} takes {noun} from {least}, not {text!r}")
    return values


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text; its control characters are escaped."""
    from soar_bench.core.text import printable_lines

    typer.echo(printable_lines(str(text)), err=err, nl=nl)


def echo_lines(lines: Iterable[object], err: bool = False) -> None:
    """Print lines as they come."""
    for line in lines:
        echo(line, err=err)


def echo_json(value: Any) -> None:
    """Print a value as the JSON that records are written in."""
    from soar_bench.core.text import json_text

    echo(json_text(value), nl=False)


def fail(message: str, code: int = 1) -> NoReturn:
    """End the command with a sentence on the error stream and an exit code."""
    from soar_bench.core.text import printable

    typer.echo(f"soar-bench: {printable(message)}", err=True)
    sys.exit(code)


def carry_out(
    plans: Sequence[Plan],
    options: Options,
    group: Group,
    *,
    dry_run: bool,
    as_json: bool,
    trackers: Sequence[str] = (),
) -> None:
    """Show the plans, run them and print their records, as far as ``dry_run`` allows.

    ``trackers`` get the values. SoarBenchError if an evaluator cannot run here. Exit code 1 if one
    failed on samples.
    """
    from itertools import islice

    from soar_bench.core.distributed import leave
    from soar_bench.core.progress import stages
    from soar_bench.core.terminal import new_console
    from soar_bench.evaluation import check_able, run
    from soar_bench.output.plan import plan_record, show_plans, titles
    from soar_bench.output.runs import unscored_reasons
    from soar_bench.output.tables import run_table
    from soar_bench.suites.leaks import sentence

    if group.main and dry_run and as_json:
        echo_json(plan_record(plans))
    elif group.main:
        show_plans(plans, new_console(stderr=True))
    check_able(plans)
    if dry_run:
        return
    runs = []
    for number, (plan, title) in enumerate(zip(plans, titles(plans), strict=True), start=1):
        place = f"{number} of {len(plans)}: " if len(plans) > 1 else ""
        with stages(title=place + title, quiet=not group.main) as show:
            runs.append(run(plan, options, show, show.note, group))
    leave(group)
    if not group.main:
        return
    if trackers:
        from soar_bench.trainer.tracked import track

        track(runs, trackers)
    if as_json:
        echo_json([{"folder": str(run.folder), **run.record.as_json()} for run in runs])
    else:
        new_console().print(run_table(runs))
        for finished in runs:  # images from elsewhere may lack what an evaluator needs
            by_metric = unscored_reasons(finished.scores()) if finished.imported else {}
            for metric, counts in by_metric.items():
                for reason, count in islice(counts.items(), 5):  # the most frequent first
                    typer.echo(f"{metric}: {count} unscored: {reason}", err=True)
        leaks = (
            sentence([run.label], run.record.suite.name, run.training) for run in runs
        )  # what its training data had of the prompts
        echo_lines((f"note: {text}" for text in dict.fromkeys(filter(None, leaks))), err=True)
        echo_lines(finished.folder for finished in runs)
    failed = {
        f"{name} failed on {count} of the samples of {finished.folder}"
        for finished in runs
        for name, count in finished.record.made.failed.items()
    }
    if failed:
        fail(
            f"{'; '.join(sorted(failed))}: they are unscored, the reason is in the record, and the "
            "same command tries them again"
        )

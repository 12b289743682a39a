"""Commands with one way of help: values named by words, groups of options, examples at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

#: Names of values in help, by parameter; a parameter that is not here is named after its type.
_VALUES = {
    "FOLDER": "results cache directory image_folder folder",
    "FILE": "config file",
    "FOLDER|FILE": "drift",
    "NAME": "protocol label name split tool",
    "NAME,...": "suite evaluator evaluators metric names against tracker",
    "PIPELINE": "base",
    "CHECKPOINT": "checkpoints",
    "ORG/NAME,...": "checkpoint",
    "RUN": "runs run",
    "COLUMN": "image caption by",
    "N,...": "seeds rolled steps",
    "X,...": "guidance",
    "N|auto": "batch_size",
    "auto|cpu|cuda|mps": "device",
    "fp32|bf16|fp16": "dtype evaluator_dtype",
    "DATA": "data",
    "TEXT": "title",
    "sample|set": "kind",
    "SIZE": "memory",
    "URL": "source_url",
}
_BY_NAME = {name: value for value, names in _VALUES.items() for name in names.split()}
_BY_TYPE = {int: "N", float: "X"}

#: Headings of options, in commands that have more than this many.
_MANY = 10
_PANELS = {
    "Settings": "protocol steps guidance resolution max_sequence_length dtype images limit seed "
    "rolled",
    "Execution": "batch_size device evaluator_dtype force dry_run as_json yes",
    "Files": "config results cache output output_file",
}
_PANEL_OF = {name: heading for heading, names in _PANELS.items() for name in names.split()}
_OPTIONS = "Options"
#: Stands for a hyphen while lines are broken, so that no name or option is.
_WHOLE = "\u2011"


class Command(TyperCommand):
    """A command of :class:`App`."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        for parameter in self.params:
            parameter.metavar = getattr(parameter, "metavar", None) or _value_name(parameter)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        arguments = [p for p in self.params if p.param_type_name == "argument"]
        names = [_argument_name(p) if p.required else f"[{_argument_name(p)}]" for p in arguments]
        return [self.options_metavar or "", *names]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        parameters = [p for p in self.get_params(ctx) if p.get_help_record(ctx) is not None]
        options = [p for p in parameters if p.param_type_name == "option"]
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], _OPTIONS: []}
        sections |= {heading: [] for heading in _PANELS}
        for parameter in parameters:
            name, text = parameter.get_help_record(ctx)  # type: ignore[misc]
            heading = _PANEL_OF.get(parameter.name or "", _OPTIONS)
            heading = heading if len(options) > _MANY else _OPTIONS
            if parameter.param_type_name == "argument":
                heading, name = "Arguments", _argument_name(parameter)
            sections[heading].append((name, text.replace("-", _WHOLE)))
        for heading, rows in sections.items():
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)

    def get_help(self, ctx: Any) -> str:
        return super().get_help(ctx).replace(_WHOLE, "-")

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        if self.epilog:
            with formatter.section("Examples"):
                indent = " " * formatter.current_indent
                formatter.write("".join(f"{indent}{line}\n" for line in self.epilog.splitlines()))


def _value_name(parameter: Any) -> str | None:
    """Return the word for a parameter's value, or its choices; None for a flag."""
    kind = parameter.type_descriptor
    if getattr(parameter, "is_flag", False):
        return None
    if kind.is_choice:
        return "|".join(map(str, kind.choices))
    return _BY_TYPE.get(kind.annotation) or _BY_NAME.get(parameter.name)


def _argument_name(parameter: Any) -> str:
    return parameter.display_name_raw + ("" if parameter.nargs == 1 else "...")


class Groups(TyperGroup):
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


class ListGroups(Groups):
    """A group that lists where no verb is given, and shows what a word that is no verb names."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        first = args[0] if args else ""
        if ctx.resilient_parsing and not args:  # the shell completes a verb
            return super().parse_args(ctx, args)
        if first not in ("-h", "--help", *self.commands):
            args = ["show" if first and not first.startswith("-") else "list", *args]
        return super().parse_args(ctx, args)


class App(typer.Typer):
    """A group of commands, each with an example."""

    def __init__(self, help: str, cls: type[TyperGroup] = Groups, **settings: Any) -> None:
        super().__init__(
            help=help,
            cls=cls,
            context_settings={"help_option_names": ["-h", "--help"]},
            no_args_is_help=cls is Groups,
            pretty_exceptions_enable=False,
            rich_markup_mode=None,
            **settings,
        )

    def add(self, name: str, example: str, **settings: Any) -> Callable[[Any], Any]:
        """Register a command under a name; ``example`` has a command per line."""
        return super().command(name, cls=Command, epilog=example, **settings)

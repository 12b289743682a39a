"""The settings of a training, read off the fields of its models: name, type, default, purpose."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_WIDTH = 96


@dataclass(frozen=True)
class Setting:
    """One setting, as a person reads it."""

    #: dotted, as ``soar.guidance``
    name: str
    #: type with its bounds, or the choices
    kind: str
    #: as YAML has it; empty where it must be set
    default: str
    #: the field's docstring
    about: str


def settings_of(model: type[BaseModel], prefix: str = "") -> Iterator[Setting]:
    """Yield every setting of a model, sections after the plain ones of their level."""
    sections = {}
    for name, field in model.model_fields.items():
        section = _section(field)
        if section is not None:
            sections[f"{prefix}{name}."] = section
        else:
            default = "" if field.is_required() else _yaml(field.get_default())
            yield Setting(prefix + name, _kind(field), default, field.description or "")
    for inner, section in sections.items():
        yield from settings_of(section, inner)


def help_lines(model: type[BaseModel], embedded: Mapping[str, Any]) -> Iterator[str]:
    """Yield the settings for a person, by section, with the defaults of the ``embedded`` recipe."""
    yield "Set in a YAML file (--config), or as --set NAME=VALUE. Defaults in brackets:"
    yield ""
    section = ""
    for setting in settings_of(model):
        outer, _, name = setting.name.rpartition(".")
        if outer != section:
            section = outer
            cls = _section(model.model_fields[section])
            yield from ("", *_wrapped(f"{section}: {inspect.cleandoc(cls.__doc__ or '')}", ""))
        recipe = embedded.get(section, {}) if section else embedded
        facts = [setting.kind]
        if setting.default:
            facts.append(f"default {setting.default}")
        if name in recipe:
            facts.append(f"{_yaml(recipe[name])} for the base shapes")
        if len(facts) == 1:
            facts.append("must be set")
        yield from _wrapped(f"{setting.name} ({'; '.join(facts)})", "  ")
        yield from _wrapped(setting.about, "      ")


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _section(field: FieldInfo) -> type[BaseModel] | None:
    cls = field.annotation
    return cls if isinstance(cls, type) and issubclass(cls, BaseModel) else None


def _kind(field: FieldInfo) -> str:
    words = _type(field.annotation)
    bounds = [
        f"{sign} {getattr(constraint, name):g}"
        for constraint in field.metadata
        for name, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))
        if getattr(constraint, name, None) is not None
    ]
    return " ".join([words, " and ".join(bounds)]).strip()


def _type(annotation: Any) -> str:
    """The type's name for a person; a literal's choices."""
    arguments = get_args(annotation)
    if get_origin(annotation) is Literal:
        return " | ".join(str(choice) for choice in arguments)
    if get_origin(annotation) is tuple:
        return f"list of {_type(arguments[0])}"
    if type(None) in arguments:
        return " | ".join([*(_type(a) for a in arguments if a is not type(None)), "null"])
    names = {"str": "text", "int": "whole number", "float": "number", "bool": "true | false"}
    name = getattr(annotation, "__name__", str(annotation))
    return names.get(name, name.lower())


def _yaml(value: Any) -> str:
    """A default as YAML has it, on one line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple):
        return "[" + ", ".join(_yaml(item) for item in value) + "]"
    if value == "":
        return "empty"
    return f"{value:g}" if isinstance(value, float) else str(value)

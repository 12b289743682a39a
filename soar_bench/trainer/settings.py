"""The settings of a training, read off their models: name, type, default and purpose."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

_WIDTH = 96
_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


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


def settings_of(model: type[BaseModel]) -> list[Setting]:
    """Return every setting of a model, plain ones before those of its sections."""
    schema = model.model_json_schema()
    parts = [("", schema), *((f"{name}.", section) for name, section in _sections(schema))]
    return [setting for prefix, part in parts for setting in _settings(part, prefix)]


def _sections(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    references = ((name, p["$ref"]) for name, p in schema["properties"].items() if "$ref" in p)
    return [(name, schema["$defs"][ref.rpartition("/")[2]]) for name, ref in references]


def _settings(schema: dict[str, Any], prefix: str) -> list[Setting]:
    return [
        Setting(
            prefix + name,
            _kind(field),
            "" if name in schema.get("required", ()) else _yaml(field["default"]),
            " ".join(field.get("description", "").split()),
        )
        for name, field in schema["properties"].items()
        if "$ref" not in field
    ]


def help_lines(model: type[BaseModel], embedded: Mapping[str, Any]) -> Iterator[str]:
    """Yield the settings for a person, by section, with the defaults of the ``embedded`` recipe."""
    yield "Set them in a YAML file (--config), or as --set NAME=VALUE.\n"
    about_sections = {n: s["description"] for n, s in _sections(model.model_json_schema())}
    section = ""
    for setting in settings_of(model):
        outer, _, name = setting.name.rpartition(".")
        if outer != section:
            section = outer
            yield from ("", *_wrapped(f"{section}: {about_sections[section]}", ""))
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
    lines = textwrap.wrap(text, _WIDTH - len(indent), break_on_hyphens=False)
    return [indent + line for line in lines]


def _kind(field: dict[str, Any]) -> str:
    """The type with its bounds, or the choices, of a field of a JSON schema."""
    if "enum" in field:
        return " | ".join(field["enum"])
    if "const" in field:
        return str(field["const"])
    if "anyOf" in field:
        return " | ".join(map(_kind, field["anyOf"]))
    if field["type"] == "array":
        return f"list of {_kind(field['items'])}"
    names = {"string": "text", "integer": "whole number", "boolean": "true | false"}
    name = field.get("format") or names.get(field["type"], field["type"])
    bounds = [f"{sign} {field[bound]:g}" for bound, sign in _BOUNDS.items() if bound in field]
    return f"{name} {' and '.join(bounds)}".strip()


def _yaml(value: Any) -> str:
    """A default as YAML has it, on one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    words = {"": "empty", "None": "null", "True": "true", "False": "false"}
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return words.get(text, text)

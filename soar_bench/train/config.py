"""A training run's settings from a YAML file and the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from soar_bench.checkpoints import EMBEDDED
from soar_bench.core.errors import SoarBenchError, nearest
from soar_bench.shapes.recipe import RECIPE
from training.types import Config


def load_config(
    file: Path | None, options: Mapping[str, Any], assignments: Iterable[str] = ()
) -> Config:
    """The run's settings; the later of these wins.

    Defaults (the published recipe), the embedded world's recipe where the base is the embedded one,
    the file, named options, and assignments such as ``soar.guidance=3``. ``{seed}`` in the output
    stands for the seed; an output that nobody names is ``outputs/train/NAME-seed{seed}``.
    SoarBenchError names the field that is wrong.
    """
    given = read_settings(file) if file is not None else {}
    named = {key: value for key, value in options.items() if value is not None}
    if given.get("method") not in (None, named.get("method", given.get("method"))):
        raise SoarBenchError(f"{file} is a recipe for {given['method']}, not for {named['method']}")
    _merge(given, named)
    for assignment in assignments:
        _merge(given, _parse(assignment))
    settings: dict[str, Any] = {}
    if isinstance(given.get("base"), str) and given["base"] in EMBEDDED:
        _merge(settings, RECIPE)
    _merge(settings, given)
    if "output" not in settings:
        name = settings.get("name") or settings.get("method", Config.model_fields["method"].default)
        settings["output"] = f"outputs/train/{name}-seed{{seed}}"
    seed = settings.get("seed", Config.model_fields["seed"].default)
    if isinstance(settings["output"], str | Path):
        settings["output"] = str(settings["output"]).replace("{seed}", str(seed))
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        source = str(file) if file is not None else "the command line"
        raise SoarBenchError(f"{source}: {_explain(error)}") from None


def read_settings(file: Path) -> dict[str, Any]:
    """The settings a YAML file holds, unchecked; SoarBenchError if it holds none."""
    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except FileNotFoundError:
        raise SoarBenchError(f"there is no config file {file}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SoarBenchError(f"the config file {file} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise SoarBenchError(f"{file} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise SoarBenchError(f"{file} must hold settings, one `name: value` a line")
    return content


def _parse(assignment: str) -> dict[str, Any]:
    name, equals, value = assignment.partition("=")
    if not equals or not name.strip():
        raise SoarBenchError(
            f"--set wants NAME=VALUE (for example soar.guidance=3), not {assignment!r}"
        )
    try:
        parsed: Any = yaml.safe_load(value)
    except yaml.YAMLError:
        raise SoarBenchError(f"--set {assignment!r}: the value is not YAML") from None
    for key in reversed(name.strip().split(".")):
        parsed = {key: parsed}
    assert isinstance(parsed, dict)
    return parsed


def _merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, dict) else value


def _explain(error: ValidationError) -> str:
    """The first fault in one sentence, with the nearest name for a typo."""
    fault = error.errors()[0]
    place = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        settings = _names(Config)
        elsewhere = [n for n in settings if n.rpartition(".")[2] == place.rpartition(".")[2]]
        choice = nearest(place, settings) or next(iter(elsewhere), "")
        hint = f"; did you mean {choice}?" if choice else ""
        return f"there is no setting {place!r}{hint}"
    if fault["type"] == "missing":
        return f"the setting {place!r} is missing"
    if fault["type"] == "value_error" and isinstance(fault["input"], dict):
        # Of settings that do not fit together: the words name them.
        return str(fault["ctx"]["error"])
    return f"the setting {place!r} is {fault['input']!r}: {fault['msg'].lower()}"


def _names(model: type[BaseModel]) -> list[str]:
    names = []
    for name, info in model.model_fields.items():
        kind = info.annotation
        inner = [
            k for k in (kind, *get_args(kind)) if isinstance(k, type) and issubclass(k, BaseModel)
        ]
        names += [f"{name}.{n}" for n in _names(inner[0])] if inner else [name]
    return names

"""Settings of a training run: from keywords, a YAML file and the command line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError, model_validator

import training.types
from soar_bench.checkpoints import root_of
from soar_bench.core.errors import SoarBenchError, nearest
from soar_bench.pipelines import EMBEDDED
from soar_bench.shapes.recipe import RECIPE
from soar_bench.trainer.settings import Setting, settings_of
from training.types import with_seed

#: Settings that are a map of names of their own: given whole they take the place of what was there.
_MAPS = ("rewards", "reward_scaling")


class Config(training.types.Config):
    """Settings of one training run, with the defaults that the command has.

    Where the base is the embedded one, or a checkpoint that stands on it, the embedded world's
    recipe stands under what is set.

    >>> config = Config(method="soar", base="shapes", seed=0, steps=20)
    """

    output: Path = Path("outputs/train/{name}-seed{seed}")
    """Folder of the run: checkpoints, metrics, and the state to resume from. {name} and {seed}
    stand for the run's name and seed."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, own: Any) -> Any:
        if not isinstance(own, Mapping):
            return own
        defaults = {name: cls.model_fields[name].default for name in ("method", "seed", "output")}
        settings: dict[str, Any] = {}
        base, seed = own.get("base"), own.get("seed", defaults["seed"])
        if isinstance(base, str) and root_of(with_seed(base, seed)) in EMBEDDED:
            _merge(settings, RECIPE)
        _merge(settings, own)
        values = {**defaults, **settings}
        if isinstance(values["output"], str | Path):
            output = with_seed(str(values["output"]), seed)
            name = str(values.get("name") or values["method"])
            settings["output"] = output.replace("{name}", name)
        return settings


def load_config(
    file: Path | None, options: Mapping[str, Any], assignments: Iterable[str] = ()
) -> Config:
    """Return the settings of a run; the later of these wins.

    The defaults of :class:`Config`, the file, named options (None: not given), and assignments such
    as ``soar.guidance=3``. SoarBenchError names the setting that is wrong.
    """
    settings = read_settings(file) if file is not None else {}
    named = {key: value for key, value in options.items() if value is not None}
    method = settings.get("method")
    if method not in (None, named.get("method", method)):
        raise SoarBenchError(f"{file} is a recipe for {method}, not for {named['method']}")
    _merge(settings, named)
    for assignment in assignments:
        keys, value = _parse(assignment)
        if keys[0] in _MAPS and len(keys) > 1:
            before = settings.get(keys[0])
            added = {".".join(keys[1:]): value}
            settings[keys[0]] = {**before, **added} if isinstance(before, dict) else added
            continue
        for key in reversed(keys):
            value = {key: value}
        _merge(settings, value)
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


def _parse(assignment: str) -> tuple[list[str], Any]:
    """Return the parts of the setting's name, and its value."""
    name, equals, value = assignment.partition("=")
    if not equals or not name.strip():
        raise SoarBenchError(
            f"--set wants NAME=VALUE (for example soar.guidance=3), not {assignment!r}"
        )
    try:
        return name.strip().split("."), yaml.safe_load(value)
    except yaml.YAMLError:
        raise SoarBenchError(f"--set {assignment!r}: the value is not YAML") from None


def _merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict) and key not in _MAPS:
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, dict) else value


def _explain(error: ValidationError) -> str:
    """The first fault in one sentence, with the nearest name for a typo."""
    fault = error.errors()[0]
    name = ".".join(str(part) for part in fault["loc"])
    settings = {setting.name: setting for setting in settings_of(Config)}
    if fault["type"] == "extra_forbidden":
        elsewhere = [n for n in settings if n.rpartition(".")[2] == name.rpartition(".")[2]]
        choice = nearest(name, list(settings)) or next(iter(elsewhere), "")
        hint = f"; did you mean {choice}?" if choice else ""
        return f"there is no setting {name!r}{hint}"
    if fault["type"] == "missing":
        return f"the setting {name!r} is missing" + _about(settings.get(name))
    reason = fault["msg"].lower().replace(" for <class 'pathlib.path'>", "")
    if fault["type"] == "value_error":
        reason = str(fault["ctx"]["error"])
        if isinstance(fault["input"], dict):
            return reason  # of settings that do not fit together: the words name them
    message = f"the setting {name!r} is {fault['input']!r}: {reason}"
    return message + _about(settings.get(name))


def _about(setting: Setting | None) -> str:
    """The setting's first sentence and default, between brackets."""
    if setting is None:
        return ""
    sentence = re.split(r"[.;](?:\s|$)", setting.about)[0]
    return f" ({sentence}; default {setting.default})" if setting.default else f" ({sentence})"

"""Settings say what they are, where a person looks for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from soar_bench.core.errors import SoarBenchError
from soar_bench.shapes.recipe import RECIPE
from soar_bench.trainer.config import Config, load_config
from soar_bench.trainer.settings import help_lines, settings_of
from training import types


def fields(model, prefix=""):
    """Dotted name and field of every setting, read off pydantic's schema."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def command(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "soar_bench", "train", *arguments],
        capture_output=True, text=True, timeout=120, env={"COLUMNS": "200", "PATH": "/bin"},
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_setting_has_a_docstring_and_stands_in_the_help():
    text = command("--help-settings")
    for name, field in fields(types.Config):
        assert field.description, f"{name} has no docstring"
        assert f"  {name} (" in text
    assert text == "".join(f"{line}\n" for line in help_lines(Config, RECIPE))
    assert max(map(len, text.splitlines())) <= 100


def test_types_choices_and_defaults_are_the_fields_own():
    settings = {setting.name: setting for setting in settings_of(Config)}
    assert settings["steps"].kind == "whole number >= 1"
    assert settings["steps"].default == "5000"
    assert settings["optimizer.lr"].kind == "number > 0"
    assert settings["optimizer.lr"].default == "2e-05"
    assert settings["soar.update"].kind == "flow_sde | cps | sde | simple"
    assert settings["trackers"].default == "[tensorboard]"
    assert settings["base"].default == ""
    text = "\n".join(help_lines(Config, RECIPE))
    assert "steps (whole number >= 1; default 5000; 1000 for the base shapes)" in text
    assert "base (text; must be set)" in text


def test_the_defaults_in_the_commands_help_are_those_of_the_settings():
    text = " ".join(command("--help").split())
    for option, name, about in (
        ("--steps", "steps", "Optimizer steps."),
        ("--batch-size", "batch_size", "Samples per micro-batch and process."),
    ):
        default = Config.model_fields[name].default
        line = f"{option} N {about} [default: {default}; {RECIPE[name]} for `shapes`]"
        assert line in text
    assert f"[default: {Config.model_fields['seed'].default}]" in text
    assert f"[default: {RECIPE['data']} for `shapes`]" in text


def test_an_error_says_what_the_setting_is():
    with pytest.raises(SoarBenchError, match=r"\(Optimizer steps; default 5000\)"):
        load_config(None, {"base": "shapes", "steps": 0})
    with pytest.raises(SoarBenchError, match=r"'base' is missing \(Pipeline to start from: a fol"):
        load_config(None, {"method": "sft"})


def test_keywords_have_the_defaults_of_the_command(tmp_path):
    by_keyword = Config(method="soar", base="shapes", data="shapes-clean", seed=0, steps=20)
    assert by_keyword == load_config(
        None, {"method": "soar", "base": "shapes", "seed": 0}, ["steps=20"]
    )
    assert by_keyword.batch_size == RECIPE["batch_size"]
    assert by_keyword.soar.points == RECIPE["soar"]["points"]
    assert by_keyword.output == Path("outputs/train/soar-seed0")
    own = Config(base="b", data="d", name="mine", seed=3, output=tmp_path / "{name}-{seed}")
    assert own.output == tmp_path / "mine-3"
    assert own.batch_size == 4

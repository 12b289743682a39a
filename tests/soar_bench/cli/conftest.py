"""Fixtures: ``soar-bench`` as a function, and plug-ins."""

from __future__ import annotations

import sys

import cli_plug_ins
import pytest

from evaluators import registry
from evaluators.registry import Entry
from soar_bench.core.files import HOME_VARIABLE


@pytest.fixture()
def soar_bench(monkeypatch, capsys):
    """soar_bench(*arguments) -> (exit code, output, errors), in this process."""

    def go(*arguments):
        from soar_bench.cli import main

        monkeypatch.setattr(sys, "argv", ["soar-bench", *map(str, arguments)])
        monkeypatch.setattr(sys, "path", list(sys.path))  # a local file adds its folder
        with pytest.raises(SystemExit) as end:
            main()
        done = capsys.readouterr()
        return end.value.code or 0, done.out, done.err

    return go


@pytest.fixture()
def plug_ins(monkeypatch, tmp_path):
    """Three plug-ins, one of them broken, instead of the built-in evaluators with weights."""
    module = cli_plug_ins.__name__
    points = {"headed": "Headed", "headed-too": "HeadedToo", "off-key": "fails"}
    monkeypatch.setattr(registry, "BUILT_IN", {
        "shapes-geneval": registry.BUILT_IN["shapes-geneval"]})  # fmt: skip
    monkeypatch.setattr(
        registry, "_plugged_in",
        lambda: [Entry(name, f"{module}:{cls}", "package band") for name, cls in points.items()],
    )  # fmt: skip
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    return tmp_path / "weights" / "head"

"""Fixtures: ``soar-bench score``, and an evaluator of brightness."""

from __future__ import annotations

from pathlib import Path

import pytest
from scored_by_hand import Counting
from typer.testing import CliRunner

from evaluators import registry
from soar_bench.cli import app
from soar_bench.records import read_run


class Printed(str):
    """What a command printed on both streams, and the run it named last."""

    @property
    def run(self):
        return read_run(Path(self.strip().splitlines()[-1]))


@pytest.fixture()
def score(tmp_path, monkeypatch):
    """score(folder, options...) -> what was printed; errors are raised as the command does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def go(folder, *options, evaluators="shapes-geneval"):
        arguments = ["score", str(folder), *map(str, options)]
        if evaluators:
            arguments += ["--evaluators", evaluators]
        result = CliRunner().invoke(app, arguments)
        if result.exception is not None:
            raise result.exception
        return Printed(result.output)

    return go


@pytest.fixture()
def brightness(monkeypatch):
    monkeypatch.setattr(Counting, "judged", 0)
    monkeypatch.setattr(Counting, "fails_after", 1_000_000)
    known = {**registry.BUILT_IN, "brightness": "scored_by_hand:Counting"}
    monkeypatch.setattr(registry, "BUILT_IN", known)
    return Counting

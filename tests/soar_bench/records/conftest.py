"""Fixtures: a whole record with its images, and the commands of ``soar-bench runs`` on it."""

from __future__ import annotations

import pytest
from records_by_hand import whole_run
from typer.testing import CliRunner


@pytest.fixture()
def places(tmp_path):
    return tmp_path / "results", tmp_path / "cache"


@pytest.fixture()
def run(places):
    return whole_run(*places)


@pytest.fixture()
def command(places):
    """command(words...) -> (exit code, output), with these results and this cache."""
    from soar_bench.cli.runs import app

    def go(*words, typed=None):
        options = ["--results", str(places[0])]
        if words[0] in ("delete", "verify"):
            options += ["--cache", str(places[1])]
        done = CliRunner().invoke(app, [*map(str, words), *options], input=typed)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout

    return go

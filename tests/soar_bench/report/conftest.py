"""Fixtures: a report written to a folder, and none of its plots."""

from __future__ import annotations

import pytest
from markupsafe import Markup

from soar_bench.report import svg
from soar_bench.report.page import Options, write_report


@pytest.fixture()
def write(tmp_path):
    """write(runs, **options) -> the folder of a report, written anew every time."""

    def go(runs, **options):
        given = {"cache": tmp_path / "cache", **options}
        write_report(runs, Options(tmp_path / "page", **given))
        return tmp_path / "page"

    return go


@pytest.fixture()
def no_plots(monkeypatch):
    """For pages of which only the rest is looked at: plots take most of the time."""
    monkeypatch.setattr(svg, "to_svg", lambda *given: Markup('<svg class="plot"></svg>'))

"""Fixtures: a report written to a folder, none of its plots, and a browser that opens it."""

from __future__ import annotations

import pytest
from markupsafe import Markup
from report_reader import CHROMIUM, Reader

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


@pytest.fixture(scope="module")
def browser():
    reason = "playwright is not installed"
    playwright = pytest.importorskip("playwright.sync_api", reason=reason)
    with playwright.sync_playwright() as engine:
        started = engine.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield started
        started.close()


@pytest.fixture()
def open_report(browser):
    """open_report(folder, fragment, **context) -> a Reader; nothing may have gone wrong on it."""
    readers = []

    def go(folder, fragment="", **context):
        readers.append(Reader(browser, folder, fragment, **context))
        return readers[-1]

    yield go
    for reader in readers:
        reader.context.close()
        assert reader.errors == []
        assert all(url.startswith("file://") for url in reader.requests)

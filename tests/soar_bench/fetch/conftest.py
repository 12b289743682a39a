"""Fixtures: a server, an empty home, a catalogue of the test's own, and the command."""

from __future__ import annotations

import sys

import pytest
from file_server import Server, sha256, some_bytes

from evaluators import catalogue, registry
from evaluators.weights import WeightFile, Weights
from soar_bench import cli
from soar_bench.fetch import download


@pytest.fixture()
def server():
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture()
def home(tmp_path, monkeypatch):
    for name in ("HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(download, "WAIT", 0.01)
    monkeypatch.setattr(registry, "BUILT_IN", {})
    return tmp_path / "home"


@pytest.fixture()
def catalogued(server, home, monkeypatch):
    """catalogued(name, {path: content}, **pins) -> the set, served and alone in the catalogue."""
    made: list[Weights] = []

    def add(name="set", files=None, *, known=True, sized=True, address=None, **pins):
        files = {"a.bin": some_bytes(300_000)} if files is None else files
        listed = []
        for path, content in files.items():
            server.files[f"/{name}/{path}"] = content
            pin = {"sha256": sha256(content)} if known else {}
            size = len(content) if sized else None
            url = f"{address or server.address}/{name}/{path}"
            listed.append(WeightFile(path, url, **{**pin, "size": size, **pins}))
        made.append(Weights(name, tuple(listed), licence="MIT", source="here"))
        monkeypatch.setattr(catalogue, "ALL", tuple(made))
        return made[-1]

    return add


@pytest.fixture()
def run(home, monkeypatch, capsys):
    """run(*arguments) -> (exit code, what was said on either stream)."""

    def go(*arguments):
        monkeypatch.setattr(sys, "argv", ["soar-bench", "fetch", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out + printed.err

    return go

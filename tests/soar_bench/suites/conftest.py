"""Fixtures: a file of prompts, written and read."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture()
def write(tmp_path, monkeypatch):
    """write(name, content) -> the file's name, in the current folder."""
    monkeypatch.chdir(tmp_path)

    def put(name: str, content: str | bytes) -> str:
        data = content.encode() if isinstance(content, str) else content
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(data)
        return name

    return put

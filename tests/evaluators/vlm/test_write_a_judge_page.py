"""The page's judges are complete and keep the contract: its own files, as a reader saves them."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path

from evaluators import registry

PAGE = Path(__file__).parents[3] / "docs" / "write-a-judge.md"


def test_the_pages_files_do_as_it_says(tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    names = ("tidiness", "test_tidiness", "tidiness25")
    for name, code in zip(names, blocks, strict=False):
        (tmp_path / f"{name}.py").write_text(code, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        (tmp_path / "model").mkdir()
        import_module("test_tidiness").test_it_keeps_the_contract(tmp_path / "model")
        assert registry.create("tidiness.py").name == "tidiness"
        other = registry.create("tidiness25.py")
    finally:
        for name in names:
            sys.modules.pop(name, None)
    assert other.name == "tidiness-25" and other.weights[0].to_fetch == "tidiness25.py"
    assert len(other.weights[0].files) == 8

"""Every snippet of docs/python.md runs, in order, as a reader would run them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import forks

import soar_bench as sb

PAGE = Path(__file__).parents[1] / "docs" / "python.md"


def test_the_snippets_of_the_python_page_run(tmp_path):
    snippets = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.S | re.M)
    assert len(snippets) >= 7
    script = tmp_path / "page.py"
    script.write_text("\n".join(snippets), "utf-8")
    done = forks.run([script], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert r"| shapes\_clipscore ↑ | weaker |" in done.stdout


def test_importing_the_packages_imports_nothing_heavy():
    code = (
        "import sys, soar_bench, evaluators; dir(soar_bench); "
        "print([m for m in ('torch', 'pandas', 'diffusers', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there():
    for name in sb.__all__:
        assert getattr(sb, name) is not None
    assert not [name for name in sb.__all__ if name not in dir(sb)]

"""A folder with packages of our names: ours are imported, or a sentence says why not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from soar_bench.core import packages

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path):
    """A user's folder with a package ``training`` and a module ``evaluators`` of its own."""
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "__init__.py").write_text("raise RuntimeError('the user's own')\n")
    (tmp_path / "evaluators.py").write_text("raise RuntimeError('the user\\'s own')\n")
    return tmp_path


def python(*arguments, cwd, path=(ROOT,)):
    """Run Python as where soar-bench is installed and not the current folder."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


def test_the_module_runs_whatever_the_current_folder_holds(folder):
    done = python("-m", "soar_bench", "evaluators", "list", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "shapes-geneval" in done.stdout
    done = python("-m", "soar_bench", "train", "sft", "--help-settings", cwd=folder)
    assert done.returncode == 0 and "optimizer.lr" in done.stdout, done.stderr


def test_torchrun_runs_it_too(folder):
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1")
    done = python(*launch, "-m", "soar_bench", "evaluators", "show", "ocr", cwd=folder)
    assert done.returncode == 0, done.stderr


def test_what_hides_a_package_of_ours_is_named_in_one_sentence(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    done = python("-m", "soar_bench", "suites", cwd=elsewhere, path=(folder, ROOT))
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert str(folder / "evaluators.py") in done.stderr and "rename it" in done.stderr
    code = "import soar_bench as sb\ntry:\n    sb.list_suites()\nexcept ImportError:\n    raise\n"
    done = python("-c", code, cwd=folder)
    assert "hides soar-bench's own package evaluators" in done.stderr.strip().splitlines()[-1]


def test_in_the_clone_itself_nothing_is_moved():
    done = python("-m", "soar_bench", "suites", cwd=ROOT, path=())
    assert done.returncode == 0, done.stderr


def test_a_process_for_a_question_finds_what_this_one_finds(folder):
    """``python -c`` by itself would import the current folder's."""
    command = packages.python("import evaluators; print(evaluators.__file__)")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(ROOT / "evaluators" / "__init__.py"), done.stderr


def test_a_deleted_current_folder_hides_nothing(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    packages.put_current_folder_last()
    assert sys.path[0] == ""

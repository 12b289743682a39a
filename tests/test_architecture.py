"""The arrows of docs/architecture.md, read off the imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("soar_bench", "evaluators", "training")
MODULES = [f for package in PACKAGES for f in sorted((ROOT / package).rglob("*.py"))]


def imported(file: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(file.read_text("utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("package", ["evaluators", "training"])
def test_arrows_run_one_way(package):
    others = set(PACKAGES) - {package}
    for file in sorted((ROOT / package).rglob("*.py")):
        wrong = {name for name in imported(file) if name.split(".")[0] in others}
        assert not wrong, f"{file} imports {wrong}"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_vocabulary_imports_no_torch(package):
    heavy = {"torch", "diffusers", "transformers", "pandas", "accelerate"}
    names = imported(ROOT / package / "types.py")
    assert not {name for name in names if name.split(".")[0] in heavy}


def test_modules_of_the_command_line_import_nothing_heavy_at_the_top():
    allowed = {
        "typer",
        "click",
        "collections.abc",
        "soar_bench.cli",
        "__future__",
        "errno",
        "sys",
        "enum",
        "pathlib",
        "signal",
        "types",
        "typing",
    }
    for file in sorted((ROOT / "soar_bench" / "cli").glob("*.py")):
        names = imported(file, top_level_only=True)
        names = {name for name in names if not name.startswith("soar_bench.cli.")}
        assert names <= allowed, file


def test_weights_are_never_unpickled():
    for file in MODULES:
        text = file.read_text("utf-8")
        for name in ("pickle.load", "Unpickler", "cloudpickle", "joblib", "weights_only=False"):
            assert name not in text, file
        assert text.count("torch.load(") == text.count("weights_only=True"), file

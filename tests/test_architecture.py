"""The arrows of docs/architecture.md, read off the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("soar_bench", "evaluators", "training")
FILES = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]

#: The rooms of soar_bench, lowest first: a room imports rooms before it and never one after it.
#: ``soar_bench`` is the package's own ``__init__``, the public API.
ROOMS = (
    "core", "stats", "pipelines", "shapes", "fetch", "suites", "checkpoints", "cache", "sampling",
    "scoring", "records", "evaluation", "rerun", "boards", "drift", "trainer", "doctor",
    "output", "report", "quickstart", "soar_bench", "cli", "__main__",
)  # fmt: skip


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(file: Path, top_level_only: bool = False) -> set[str]:
    """The modules that a file imports; of ``from a import b`` it is a.b where that is one."""
    tree = ast.parse(file.read_text("utf-8"))
    names: set[str] = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{file}: imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                names.add(inner if inner in MODULES else node.module)
    return names


MODULES = {module_of(file): file for file in FILES}


@cache
def arrows() -> dict[str, set[str]]:
    """Each module with the modules of ours that it imports, inside functions as well."""
    return {name: imported(file) & MODULES.keys() for name, file in MODULES.items()}


def room_of(module: str) -> str:
    """The room of a module of soar_bench, or the package of any other."""
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] if package == "soar_bench" and rest else package


def is_below(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


@pytest.mark.parametrize("package", ["evaluators", "training"])
def test_evaluators_and_training_import_the_ground_floor_and_nothing_else_of_ours(package):
    wrong = {
        (name, other)
        for name, others in arrows().items()
        for other in others
        if is_below(name, package)
        and not is_below(other, package)
        and not is_below(other, "soar_bench.core")
    }
    assert not wrong


def test_the_ground_floor_imports_nothing_of_ours():
    wrong = {
        (name, other)
        for name, others in arrows().items()
        for other in others
        if is_below(name, "soar_bench.core") and not is_below(other, "soar_bench.core")
    }
    assert not wrong


def test_every_module_of_the_harness_is_in_a_room():
    rooms = {room_of(name) for name in MODULES if is_below(name, "soar_bench")}
    assert rooms <= set(ROOMS)


def test_rooms_import_rooms_below_them():
    upward = {
        (name, other)
        for name, others in arrows().items()
        for other in others
        if is_below(name, "soar_bench")
        and is_below(other, "soar_bench")
        and ROOMS.index(room_of(other)) > ROOMS.index(room_of(name))
    }
    assert not upward


def test_no_modules_import_each_other_in_a_circle():
    assert circles(arrows()) == []


def circles(graph: dict[str, set[str]]) -> list[tuple[str, ...]]:
    """Sets of modules that reach each other, each sorted by name."""
    reach = {name: set(others) for name, others in graph.items()}
    grown = True
    while grown:
        grown = False
        for others in reach.values():
            more = set().union(*(reach[other] for other in others)) - others
            others |= more
            grown = grown or bool(more)
    inside = {name for name in reach if name in reach[name]}
    return sorted({tuple(sorted(n for n in inside & reach[m] if m in reach[n])) for m in inside})


def test_circles_are_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"e"}}
    assert circles(graph) == [("b", "c"), ("e",)]


def test_the_ground_floor_and_the_vocabularies_import_nothing_heavy():
    names = [name for name in MODULES if is_below(name, "soar_bench.core")]
    names += ["soar_bench.suites.types", "evaluators.types", "training.types"]
    heavy = "{'torch', 'diffusers', 'transformers', 'pandas', 'accelerate'}"
    code = f"import sys, {', '.join(names)}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stdout + done.stderr


def test_a_run_with_nothing_left_to_do_imports_nothing_heavy():
    names = "soar_bench.evaluation, soar_bench.output.tables, soar_bench.output.plan"
    heavy = "{'torch', 'diffusers', 'transformers', 'accelerate', 'scipy.stats'}"
    code = f"import sys, {names}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stdout + done.stderr


def test_modules_of_the_command_line_import_nothing_heavy_at_the_top():
    allowed = {
        "typer",
        "typer.core",
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
    for file in FILES:
        text = file.read_text("utf-8")
        for name in ("pickle.load", "Unpickler", "cloudpickle", "joblib", "weights_only=False"):
            assert name not in text, file
        assert text.count("torch.load(") == text.count("weights_only=True"), file


def test_a_protocol_is_one_of_generation_and_a_structural_type_is_typings():
    for file in FILES:
        for line in file.read_text("utf-8").splitlines():
            assert not (line.startswith("from typing import") and "Protocol" in line), file

"""Installed packages, and the project's own, which a folder of a user's may hold too by name."""

from __future__ import annotations

import platform
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from soar_bench.core.errors import SoarBenchError

#: Packages that are installed beside this one.
_BESIDE = ("evaluators", "training")
_ROOT = Path(__file__).resolve().parents[2]


def install(extra: str) -> str:
    """Return the command that installs an extra, which is on no index: from the clone."""
    if (_ROOT / "pyproject.toml").is_file():
        return f"pip install -c {_ROOT / 'constraints.txt'} -e '{_ROOT}[{extra}]'"
    return f"pip install -c constraints.txt '.[{extra}]' in a clone of soar-bench"


def installed(package: str) -> str | None:
    """Return the version of a package, or of ``python``; None if it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return platform.python_version() if package == "python" else version(package)
    except PackageNotFoundError:
        return None


def put_current_folder_last() -> None:
    """Let the current folder hide no package, after ``python -m`` has put it first in the path.

    Processes that this one starts inherit the path.
    """
    with suppress(FileNotFoundError):  # the current folder may be deleted
        first = Path(sys.path[0]).resolve()
        if first == Path.cwd() and first != _ROOT:
            sys.path.append(sys.path.pop(0))


def python(code: str) -> list[str]:
    """Return the command that runs code in a process that finds the packages that this one does.

    By itself, ``python -c`` looks for them in the current folder first.
    """
    return [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"]


def check_packages() -> None:
    """Raise SoarBenchError if a package of ours is hidden by another of its name."""
    for name in _BESIDE:
        module = sys.modules.get(name)
        spec = find_spec(name) if module is None else module.__spec__
        place = spec.origin if spec is not None else None
        if spec is not None and place is None:  # a folder without __init__.py
            place = next(iter(spec.submodule_search_locations or ()), None)
        if place is not None and Path(place).resolve().is_relative_to(_ROOT / name):
            continue
        if place is None:
            raise SoarBenchError(f"{_ROOT} lacks the package {name}: install soar-bench again")
        raise SoarBenchError(
            f"{place} hides soar-bench's own package {name}: rename it, or run from another folder "
            "and take its folder out of PYTHONPATH"
        )

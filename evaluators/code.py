"""Digests of a plug-in's code and settings, which are part of its identity.

Who edits a formula may forget to raise its version. The code is that of the class, its bases and
the function that makes it: their whole files, and the files beside them that they import.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evaluators.types import Evaluator, EvaluatorError

_OURS = re.compile(r"(builtins|abc|typing|evaluators|soar_bench|training)(\.|$)")
_INSTALLED = ("site-packages", "dist-packages")
#: Attributes of every evaluator, which its record names besides.
_DECLARED = ("name", "metrics", "weights", "dtypes", "shares", "inputs")

#: SHA-256 of the files that this process has imported, as they were when it first looked.
_imported: dict[Path, str] = {}


def digest_code(sources: Mapping[Path, bytes], reloaded: bool = False) -> str:
    """Return the SHA-256 of these files and of all beside them that they import.

    Of a file alone it is that of its bytes. EvaluatorError if a file was edited after this process
    imported it; with ``reloaded``, ``sources`` are imported anew.
    """
    contents = dict(sources)
    waiting = list(contents)
    while waiting:
        for file in _imports(waiting.pop(), contents):
            if file not in contents:
                contents[file] = file.read_bytes()
                waiting.append(file)
    digests = {file: hashlib.sha256(content).hexdigest() for file, content in contents.items()}
    for file, digest in digests.items():
        if not (reloaded and file in sources) and _imported.setdefault(file, digest) != digest:
            raise EvaluatorError(
                f"{file} was edited after it was imported: start Python anew, so that scores are "
                "those of the new code"
            )
    if len(digests) == 1:
        return next(iter(digests.values()))
    named = sorted(f"{file.name} {digest}" for file, digest in digests.items())
    return hashlib.sha256("\n".join(named).encode()).hexdigest()


def digest_class(kind: type, factory: Any = None) -> str:
    """Return :func:`digest_code` of the files of a class, its bases and the function that makes it.

    Of a class without a file, as in a notebook, its source; empty where there is none, as in a
    console. This project's files are left out.
    """
    parts = [p for p in (*kind.__mro__, factory) if inspect.isclass(p) or inspect.isfunction(p)]
    own = [part for part in parts if not _OURS.match(part.__module__)]
    names: list[Any] = [getattr(sys.modules.get(part.__module__), "__file__", None) for part in own]
    try:
        if own and all(names):
            return digest_code({Path(name).resolve(): Path(name).read_bytes() for name in names})
        sources = [inspect.getsource(part) for part in own]
    except (OSError, TypeError):
        return ""
    return hashlib.sha256("\n".join(sources).encode()).hexdigest() if sources else ""


def digest_settings(evaluator: Evaluator) -> str:
    """Return a digest of an object's own numbers, texts and tuples; empty where it has none."""
    plain = {
        name: repr(value)
        for name, value in vars(evaluator).items()
        if name not in _DECLARED and _is_plain(value)
    }
    text = json.dumps(plain, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest() if plain else ""


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, str | int | float | bool | Path)


def _imports(file: Path, contents: Mapping[Path, bytes]) -> Iterator[Path]:
    """Yield the files beside a file, or in its package, that it imports anywhere."""
    try:
        nodes = list(ast.walk(ast.parse(contents[file])))
    except (SyntaxError, ValueError, RecursionError):  # no Python: whoever imports it is told
        return
    root = file.parent
    while (root / "__init__.py").is_file():
        root = root.parent
    own = file.relative_to(root).parts[0].removesuffix(".py")
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [(root, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = min(node.level, len(file.parents)) - 1
            place = file.parents[above] if node.level else root
            start = f"{node.module}." if node.module else ""
            names = [(place, start + alias.name) for alias in node.names]
        else:
            continue
        for place, name in names:
            first = name.partition(".")[0]
            foreign = root.name in _INSTALLED and first != own
            if place != root or not (foreign or _OURS.match(first)):
                yield from _files(place, name.split("."))


def _files(place: Path, parts: list[str]) -> Iterator[Path]:
    """Yield the files of a module, of the packages that it is in, and of what they hold."""
    for number in range(1, len(parts) + 1):
        path = place.joinpath(*parts[:number])
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                yield file.resolve()

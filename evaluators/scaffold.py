"""Write a working plug-in to start from: a package with an evaluator, its test and its README."""

from __future__ import annotations

import keyword
import re
import tempfile
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template

from evaluators import registry
from evaluators.types import EvaluatorError

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
#: Class names that the module imports.
_USED = {"Evaluator", "Metric", "Sample", "Score", "Sequence", "SetEvaluator"}
_PACKAGE = {"pyproject.toml": "pyproject.toml.txt", "README.md": "README.md.txt"}
#: Template of each file, by kind of evaluator: of samples, or of sets of images.
_FILES = {
    "sample": _PACKAGE
    | {"${module}.py": "module.py.txt", "tests/test_${module}.py": "test.py.txt"},
    "set": _PACKAGE
    | {"${module}.py": "module_set.py.txt", "tests/test_${module}.py": "test_set.py.txt"},
}
#: What a generated evaluator measures until it is changed.
_MEASURES = {"sample": "colourfulness", "set": "how far apart a prompt's images lie in colour"}


def write_plug_in(name: str, directory: Path, kind: str = "sample") -> tuple[Path, Path]:
    """Write ``directory/NAME/`` and return it and the path of its module.

    ``kind`` is ``sample`` or ``set``: an evaluator of images alone, or of a prompt's together.
    EvaluatorError if the name is unfit or taken, or the folder exists.
    """
    rendered = render(name, kind)
    if name in registry.names():
        raise EvaluatorError(f"there is an evaluator {name} already: choose another name")
    module = _words(name)["module"]
    folder = directory / name
    if folder.exists():
        raise EvaluatorError(f"{folder} exists already: choose another name or --directory")
    spec = find_spec(module)
    if spec is not None and spec.origin is not None:
        raise EvaluatorError(
            f"there is a Python module {module} already ({spec.origin}): choose another name"
        )
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=f".{name}-") as aside:
        whole = Path(aside) / name
        for path, text in rendered.items():
            file = whole / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
        whole.rename(folder)
    return folder, folder / f"{module}.py"


def render(name: str, kind: str = "sample") -> dict[str, str]:
    """Return the plug-in's files by path. EvaluatorError if the name or kind is unfit."""
    if kind not in _FILES:
        raise EvaluatorError(f"a plug-in's kind is {' or '.join(_FILES)}, not {kind!r}")
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise EvaluatorError(
            f"{name!r} cannot be a plug-in's name: use lower-case letters, digits and single "
            "hyphens, starting with a letter, for example my-metric"
        )
    words = _words(name)
    if words["class_name"] in _USED or keyword.iskeyword(words["class_name"]):
        raise EvaluatorError(f"{name!r} has a meaning in Python already: choose another name")
    folder = files("evaluators") / "templates"
    words["measures"] = _MEASURES[kind]
    texts = {path: (folder / source).read_text("utf-8") for path, source in _FILES[kind].items()}
    return {
        Template(path).substitute(words): Template(text).substitute(words)
        for path, text in texts.items()
    }


def _words(name: str) -> dict[str, str]:
    module = name.replace("-", "_")
    class_name = "".join(map(str.capitalize, name.split("-")))
    return {"name": name, "module": module, "metric": module, "class_name": class_name}

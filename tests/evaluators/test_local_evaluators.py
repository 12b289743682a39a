"""Evaluators of a user's own file or module."""

from __future__ import annotations

import sys
import textwrap

import pytest
from plug_ins import CONSTANT, half

from evaluators import code, registry
from evaluators.types import EvaluatorError


@pytest.fixture()
def local(tmp_path, monkeypatch):
    """local(source, name) -> a file in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write(source, name="mine.py"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(textwrap.dedent(source))
        return file

    yield write
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


TWO = (
    CONSTANT
    + """
    class Second(Constant):
        name = "second"
"""
)


def test_a_file_with_one_evaluator_is_enough_of_a_name(local):
    file = local(CONSTANT)
    for name in (str(file), "mine.py", "./mine.py", "mine.py:Constant"):
        assert registry.create(name).score(half())[0]["c"].value == 0.5


WITH_WEIGHTS = """
    from evaluators.weights import WeightFile, Weights
    FILES = (WeightFile("a.bin", "http://127.0.0.1:9/a.bin"),)
""" + CONSTANT.replace(
    'name = "constant"', 'name, weights = "constant", (Weights("own", FILES, "MIT", "here"),)'
)


def test_weights_of_a_file_are_fetched_by_its_name(local, monkeypatch, tmp_path):
    """Their own name is known to nobody but the file."""
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path / "home"))
    local(WITH_WEIGHTS)
    evaluator = registry.create("mine.py")
    with pytest.raises(EvaluatorError, match=r"run `soar-bench fetch mine\.py`"):
        evaluator.check()
    assert evaluator.weights[0].name == "own" and evaluator.weights[0].to_fetch == "mine.py"


def test_of_several_evaluators_in_a_file_one_must_be_chosen(local):
    local(TWO)
    with pytest.raises(EvaluatorError, match=r"defines 2 .*mine.py:Constant or mine.py:Second"):
        registry.create("mine.py")
    assert registry.create("mine.py:Second").name == "second"


def test_an_evaluator_that_a_file_imports_is_not_its_own(local):
    local(CONSTANT, "helper.py")
    local(
        """
        from helper import Constant

        class Mine(Constant):
            name = "mine"
        """
    )
    assert registry.create("mine.py").name == "mine"


def test_a_class_of_a_module_in_the_current_folder_is_found(local):
    local("", "package/__init__.py")
    local(CONSTANT, "package/module.py")
    assert registry.create("package.module:Constant").name == "constant"
    assert registry.create("evaluators.geneval.shapes:ShapesGenEval").name == "shapes-geneval"


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        ("", "absent.py", "there is no file absent.py"),
        ("", ".py", "there is no file .py"),
        ("x = 1", "mine.py", "mine.py defines no subclass of evaluators.types.Evaluator"),
        ("x = 1", "mine.py:Mine", "'mine.py:Mine' has no Mine"),
        ("import absent_module", "mine.py", r"'mine.py' does not import.*absent_module"),
        ("raise SystemExit(1)", "mine.py", r"'mine.py' does not import: SystemExit: 1 \(mine.py"),
        ("\0", "mine.py", "'mine.py' does not import"),
        (CONSTANT, "mine:Constant ", "write FILE.py:CLASS or MODULE:CLASS"),
        (CONSTANT, "folder/mine:Constant", "write FILE.py:CLASS or MODULE:CLASS"),
        (CONSTANT.replace('"constant"', '"ocr"'), "mine.py", "name of the built-in evaluator ocr"),
        (CONSTANT.replace("(0, 1)", "(1, 0)"), "mine.py", "'mine.py' must give the range"),
    ],
)
def test_a_local_mistake_is_one_sentence(local, source, name, message):
    local(source)
    with pytest.raises(EvaluatorError, match=message):
        registry.create(name)


def test_two_files_of_one_name_do_not_mix(local):
    local(CONSTANT, "a/mine.py")
    local(CONSTANT.replace("0.5", "0.25"), "b/mine.py")
    values = [registry.create(f"{x}/mine.py").score(half())[0]["c"].value for x in "aba"]
    assert values == [0.5, 0.25, 0.5]


def test_an_edited_file_is_another_evaluator_at_once(local):
    """Same size, same second: nothing may be taken from a cache; its scores are not reused."""
    local(CONSTANT)
    first = registry.create("mine.py")
    assert registry.create("mine.py").identity() == first.identity()
    local(CONSTANT.replace("0.5", "0.7"))
    second = registry.create("mine.py")
    assert second.score(half())[0]["c"].value == 0.7
    assert second.identity() != first.identity()


@pytest.mark.parametrize("how", ["import half", "from half import HALF", "from . import half"])
def test_an_edited_helper_is_another_evaluator(local, how, monkeypatch):
    """A file beside it that it imports, also inside a function; in one process it is refused."""
    monkeypatch.setattr(code, "_imported", {})
    local(f"{textwrap.dedent(CONSTANT)}\ndef later():\n    {how}\n")
    alone = registry.create("mine.py").identity()
    local("import quarter\nHALF = 0.5", "half.py")
    first = registry.create("mine.py").identity()
    local("QUARTER = 0.25", "quarter.py")
    second = registry.create("mine.py").identity()
    local("QUARTER = 0.3", "quarter.py")
    with pytest.raises(EvaluatorError, match=r"quarter\.py was edited after it was imp"):
        registry.create("mine.py")
    monkeypatch.setattr(code, "_imported", {})
    third = registry.create("mine.py").identity()
    assert len({str(identity) for identity in (alone, first, second, third)}) == 4


def test_an_edited_function_beside_a_class_is_another_evaluator(local, monkeypatch):
    """Of an installed plug-in too, whose package may be there in a version that does not move."""
    identities = []
    for value in ("0.5", "0.7"):
        monkeypatch.setattr(code, "_imported", {})
        sys.modules.pop("mine", None)
        local(textwrap.dedent(CONSTANT) + f"\ndef half():\n    return {value}\n")
        plugged_in = registry.Entry("constant", "mine:Constant", "package mine")
        identities += [registry.create("mine:Constant").identity()["source"]]
        assert registry.make(plugged_in).identity()["source"] == identities[-1]
    assert identities[0] != identities[1]


def test_an_object_with_other_settings_is_another_evaluator(local):
    kind = type(registry.create(str(local(CONSTANT))))
    identities = []
    for threshold in (0.5, 0.7):
        evaluator = kind()
        evaluator.threshold, evaluator.seen = threshold, []
        identities.append(registry.source(evaluator)[1]().identity())
    assert identities[0] != identities[1]


def test_dataclasses_work_in_a_local_file(local):
    setting = """
    from dataclasses import dataclass

    @dataclass
    class Setting:
        half: "float" = 0.5
    """
    local("from __future__ import annotations\n" + textwrap.dedent(CONSTANT + setting))
    assert registry.create("mine.py").name == "constant"

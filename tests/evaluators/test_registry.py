"""Evaluators by name: built in and installed; what a broken plug-in costs."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest
from plug_ins import CONSTANT, half

from evaluators import registry
from evaluators.declaration import fault
from evaluators.types import Evaluator, EvaluatorError, Metric, Score
from evaluators.weights import Weights


@pytest.fixture()
def install(tmp_path, monkeypatch):
    """install(package, {name: target}, source) -> as pip would: a module and its metadata."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    before = set(sys.modules)

    def go(package, points, source=CONSTANT, text=None):
        module = package.replace("-", "_")
        (site / f"{module}.py").write_text(textwrap.dedent(source))
        info = site / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = "".join(f"{name} = {target}\n" for name, target in points.items())
        (info / "entry_points.txt").write_text(text or f"[{registry.GROUP}]\n{lines}")

    yield go
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(site) in sys.modules[name].__file__:
            del sys.modules[name]


def entry_of(name):
    return [entry for entry in registry.entries() if entry.name == name]


def test_every_built_in_name_is_listed_first():
    assert registry.names()[: len(registry.BUILT_IN)] == list(registry.BUILT_IN)


@pytest.mark.parametrize("name", ["shapes-geneval", "shapes-clipscore", "ocr"])
def test_a_built_in_evaluator_is_made_by_its_name(name):
    assert registry.create(name).name == name


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(EvaluatorError, match=r"no evaluator is named 'orc'.*did you mean ocr"):
        registry.create("orc")


def test_an_installed_plug_in_is_found_by_name(install):
    install("my-package", {"constant": "my_package:Constant"})
    assert registry.names()[-1] == "constant"
    assert registry.find("constant").origin == "package my-package"
    assert registry.create("constant").score(half())[0]["c"].value == 0.5


def test_a_function_or_a_nested_class_may_make_the_evaluator(install):
    source = (
        CONSTANT
        + """
    def other():
        made = Constant()
        made.name = "other"
        return made

    class Home:
        class Nested(Constant):
            name = "nested"
    """
    )
    points = {"other": "my_package:other", "nested": "my_package:Home.Nested [extra]"}
    install("my-package", points, source)
    assert registry.create("other").name == "other"
    assert registry.create("nested").name == "nested"


@pytest.mark.parametrize(
    ("target", "source", "message"),
    [
        ("absent_module:X", "", r"does not import: ModuleNotFoundError: .*absent_module"),
        ("bad:Absent", "", "has no Absent: AttributeError"),
        ("bad:X", "def X(:", "does not import: SyntaxError"),
        ("bad:X", "\n1 / 0", r"does not import: ZeroDivisionError.* \(bad.py, line 2\)"),
        ("bad:X", "import sys; sys.exit(3)", r"does not import: SystemExit: 3 \(bad.py, line 1\)"),
        ("bad:X", "raise SystemExit", r"does not import: SystemExit \(bad.py"),
        ("bad:X", "X = dict", r"is no evaluators\.types\.Evaluator subclass"),
        ("bad:X", "X = 3", r"is no evaluators\.types\.Evaluator subclass"),
        ("bad:X", "X = lambda: 3", r"is no evaluators\.types\.Evaluator but of the type int"),
        ("bad:X", "def X(folder): pass", "cannot be made: TypeError.*'folder'"),
        ("bad:X", "def X(): exit()", "cannot be made: SystemExit"),
        ("bad:X", "from evaluators.types import Evaluator as X", "cannot be made: .*abstract"),
        ("bad:Constant", CONSTANT, "calls itself 'constant': its name must be that of its entry"),
        ("bad:Constant", CONSTANT.replace('"constant"', "3"), "must have a name of letters"),
        ("bad:Constant", CONSTANT.replace('"c"', '"broken/c"'), "must name its metrics with"),
        ("bad", "", "must be of the form module:attribute"),
        ("bad: no such thing!", "", "must be of the form module:attribute"),
        ("bad:", "", "must be of the form module:attribute"),
    ],
)
def test_a_broken_plug_in_is_reported_by_name_and_stops_nothing_else(
    install, target, source, message
):
    install("good-package", {"constant": "good_package:Constant"})
    install("bad", {"broken": target}, source)
    assert {"broken", "constant", "ocr"} <= set(registry.names())
    with pytest.raises(EvaluatorError, match=rf"'broken' \(package bad, .*{message}"):
        registry.create("broken")
    assert registry.create("constant").name == "constant"
    assert registry.create("ocr").name == "ocr"


def test_a_plug_in_that_says_itself_what_is_wrong_is_quoted(install):
    source = (
        CONSTANT
        + """
    def needs():
        raise EvaluatorError("set MY_KEY first")
    """
    )
    install("my-package", {"needs": "my_package:needs"}, source)
    with pytest.raises(EvaluatorError, match=r"'needs' \(package my-pack.*: set MY_KEY"):
        registry.create("needs")


def test_an_interruption_is_not_taken_for_a_broken_plug_in(install):
    install("my-package", {"x": "my_package:x"}, "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        registry.create("x")


def test_a_plug_in_cannot_take_the_name_of_a_built_in_one(install):
    install("my-package", {"ocr": "my_package:Constant"})
    assert type(registry.create("ocr")).__module__ == "evaluators.ocr.evaluator"
    built_in, taken = entry_of("ocr")
    assert not built_in.problem
    with pytest.raises(EvaluatorError, match=r"'ocr' \(package my-package.*name of a built-in"):
        registry.make(taken)


def test_two_packages_with_one_name_are_both_refused(install):
    install("package-a", {"constant": "package_a:Constant"})
    install("package-b", {"constant": "package_b:Constant"})
    assert registry.names().count("constant") == 1
    with pytest.raises(EvaluatorError, match=r"by package-a and package-b.*uninstall all but one"):
        registry.create("constant")


@pytest.mark.parametrize("name", ["a name", "a/b", "mine.py", "ä"])
def test_a_name_that_cannot_be_typed_is_refused(install, name):
    install("my-package", {name: "my_package:Constant"})
    (entry,) = entry_of(name)
    assert "must have a name of letters" in entry.problem


def test_a_damaged_list_of_entry_points_hides_no_other_package(install):
    install("good-package", {"constant": "good_package:Constant"})
    install("bad-package", {}, text=f"[{registry.GROUP}]\nno equals sign\n")
    install("other-package", {}, text="[console_scripts]\nneither here\n")
    assert registry.create("constant").name == "constant"
    (entry,) = entry_of("bad-package")
    assert "entry_points.txt is damaged" in entry.problem


def declared(**changes):
    metric = Metric("c", "none", (0, 1), True, "1", "here", "always a half")
    fields = {k: changes.pop(k) for k in list(changes) if k in Metric.__dataclass_fields__}
    body = {"name": "x", "metrics": (replace(metric, **fields),), "score": lambda self, s: []}
    return type("X", (Evaluator,), {**body, **changes})()


def test_a_whole_declaration_has_no_fault():
    assert fault(declared()) == ""
    assert fault(declared(range=(float("-inf"), float("inf")))) == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ()}, "one or more Metrics"),
        ({"metrics": [Metric("c", "u", (0, 1), True, "1", "s", "d")]}, "tuple of one or more"),
        ({"metrics": ("c",)}, "one or more Metrics"),
        ({"metrics": (Metric("c", "u", (0, 1), True, "1", "s", "d"),) * 2}, "metric c twice"),
        ({"range": (1, 0)}, r"range of its metric c as \(smallest, largest\), not \(1, 0\)"),
        ({"range": (1, 1)}, "range of its metric c"),
        ({"range": (0, float("nan"))}, "range of its metric c"),
        ({"range": (0,)}, "range of its metric c"),
        ({"range": ("0", "1")}, "range of its metric c"),
        ({"unit": ""}, "must state the unit of its metric c"),
        ({"version": " "}, "must state the version of its metric c"),
        ({"version": 1}, "must state the version of its metric c"),
        ({"source": ""}, "must state the source of its metric c"),
        ({"description": ""}, "must state the description of its metric c"),
        ({"higher_is_better": "yes"}, "True or False for higher_is_better"),
        ({"aggregate": "median"}, "aggregate of its metric c as one of mean, task_mean"),
        ({"dtypes": ()}, "must declare dtypes"),
        ({"dtypes": "float32"}, "must declare dtypes"),
        ({"weights": ["w"]}, "must declare weights as a tuple of Weights"),
        ({"weights": Weights("w", (), "", "")}, "must declare weights as a tuple of Weights"),
        ({"shares": None}, "must declare shares as a word"),
    ],
)
def test_a_faulty_declaration_is_said(changes, message):
    import re

    assert re.search(message, fault(declared(**changes)))


def test_why_an_evaluator_cannot_run_is_told_whatever_it_raises():
    class Checked(Evaluator):
        name = "x"
        metrics = ()

        def __init__(self, error):
            self.error = error

        def check(self):
            if self.error:
                raise self.error

        def score(self, samples):
            return []

    assert registry.cannot_run(Checked(None)) == ""
    assert registry.cannot_run(Checked(EvaluatorError("install x"))) == "install x"
    assert "its check() fails: OSError: no" in registry.cannot_run(Checked(OSError("no")))
    assert "its check() fails: SystemExit" in registry.cannot_run(Checked(SystemExit()))


def test_listing_and_making_evaluators_imports_no_torch():
    code = (
        "import sys\nfrom evaluators import registry\n"
        "for name in ('ocr', 'shapes-geneval', 'shapes-clipscore'):\n"
        "    registry.cannot_run(registry.create(name))\n"
        "registry.entries()\n"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_score_is_a_value_or_a_reason():
    with pytest.raises(ValueError, match="either a value or a reason"):
        Score(None)
    with pytest.raises(ValueError, match="either a value or a reason"):
        Score(1.0, unscored="but why")
    with pytest.raises(ValueError, match="finite"):
        Score(float("nan"))

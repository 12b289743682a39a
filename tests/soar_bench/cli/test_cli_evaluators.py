"""``soar-bench evaluators``: the list, one evaluator, and a plug-in of one's own."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from evaluators import registry
from evaluators.registry import Entry
from evaluators.types import Evaluator, EvaluatorError, Metric, Sample, Score
from evaluators.weights import WeightFile, Weights
from soar_bench.core import digests
from soar_bench.core.files import HOME_VARIABLE

ROOT = Path(__file__).parents[3]


@pytest.fixture()
def soar_bench(monkeypatch, capsys):
    """soar_bench(*arguments) -> (exit code, output, errors), in this process."""

    def go(*arguments):
        from soar_bench.cli import main

        monkeypatch.setattr(sys, "argv", ["soar-bench", *map(str, arguments)])
        monkeypatch.setattr(sys, "path", list(sys.path))  # a local file adds its folder
        with pytest.raises(SystemExit) as end:
            main()
        done = capsys.readouterr()
        return end.value.code or 0, done.out, done.err

    return go


HEAD = Weights(
    "head",
    (WeightFile("a.bin", "https://here.example/a.bin", size=3_000_000),
     WeightFile("b.bin", "https://here.example/b.bin", size=500)),
    "MIT",
    "here",
)  # fmt: skip


class Headed(Evaluator):
    name = "headed"
    metrics = (
        Metric("one", "points; about 3", (0, float("inf")), False, "7", "a paper", "All of it.",
               licence="CC0"),
        Metric("two", "points", (float("-inf"), float("inf")), True, "8", "a paper", "The rest."),
    )  # fmt: skip
    weights = (HEAD,)

    def score(self, samples):
        return []


class HeadedToo(Headed):
    name = "headed-too"


def fails():
    raise SystemExit("out of tune")


def talks():
    print("hello from a plug-in")
    return Headed()


@pytest.fixture()
def plug_ins(monkeypatch, tmp_path):
    """Three plug-ins, one of them broken, instead of the built-in evaluators with weights."""
    module = __name__
    points = {"headed": "Headed", "headed-too": "HeadedToo", "off-key": "fails"}
    monkeypatch.setattr(registry, "BUILT_IN", {
        "shapes-geneval": registry.BUILT_IN["shapes-geneval"]})  # fmt: skip
    monkeypatch.setattr(
        registry, "_plugged_in",
        lambda: [Entry(name, f"{module}:{cls}", "package band") for name, cls in points.items()],
    )  # fmt: skip
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    return tmp_path / "weights" / "head"


def test_a_pipe_gets_a_line_a_metric_with_tabs(soar_bench, plug_ins):
    code, out, _ = soar_bench("evaluators")
    assert code == 0
    rows = [line.split("\t") for line in out.splitlines()]
    assert rows[0] == ["evaluator", "metric", "unit", "range", "better", "version", "licence",
                       "weights", "runs here"]  # fmt: skip
    assert {len(row) for row in rows} == {9}
    by_name = {(row[0], row[1]): row[2:] for row in rows[1:]}
    assert by_name["shapes-geneval", "shapes_geneval"][:3] == [
        "share of images that are right", "0 to 1", "higher"]  # fmt: skip
    assert by_name["shapes-geneval", "shapes_geneval"][-1] == "yes"
    one = by_name["headed", "one"]
    assert one[:6] == ["points; about 3", "at least 0", "lower", "7", "CC0", "head 3 MB (missing)"]
    assert one[6].startswith("no: the weights head are not here")
    assert "run `soar-bench fetch head`" in one[6]
    assert by_name["headed", "two"][1] == "any number"
    assert "broken: the evaluator 'off-key'" in by_name["off-key", ""][-1]
    assert "SystemExit: out of tune" in by_name["off-key", ""][-1]


def test_a_program_gets_json(soar_bench, plug_ins):
    def strictly(constant):
        raise AssertionError(f"{constant} is no JSON")

    _, out, _ = soar_bench("evaluators", "--json")
    said = {entry["name"]: entry for entry in json.loads(out, parse_constant=strictly)}
    assert [said[n]["state"] for n in ("shapes-geneval", "headed", "off-key")] == [
        "yes", "no", "broken"]  # fmt: skip
    assert said["headed"]["metrics"][0]["range"] == [0, None]
    assert said["headed"]["metrics"][0]["licence"] == "CC0"
    assert said["headed"]["origin"] == "package band"
    files = said["headed"]["weights"][0]["files"]
    assert [(f["path"], f["size"], f["here"]) for f in files] == [
        ("a.bin", 3_000_000, False), ("b.bin", 500, False)]  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("width", [80, 140])
def test_a_terminal_gets_a_table_of_its_width(soar_bench, plug_ins, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    soar_bench("evaluators")
    lines = terminal.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    assert len(lines) == 2 + 4 + 3  # head, a line per evaluator, an empty one, and what to do next
    for words in (
        "shapes-geneval shapes_geneval ↑ yes",
        "headed one ↓, two ↑ no: fetch 3 MB",
        "off-key broken: cannot be made: ",
        "Missing weights (3 MB): soar-bench fetch head",  # for all that only lack weights
        "More of one, and what it lacks: soar-bench evaluators show NAME",
    ):
        assert words in text


@pytest.mark.parametrize("width", [80, 120])
def test_all_built_in_evaluators_fit_on_a_screen(soar_bench, monkeypatch, tmp_path, width):
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    soar_bench("evaluators")
    lines = terminal.getvalue().splitlines()
    assert len(lines) <= len(registry.names()) + 5
    for name in registry.BUILT_IN:
        assert sum(line.startswith(f"{name} ") for line in lines) == 1


def test_weights_that_are_here_are_read_once_for_all_evaluators(
    soar_bench, plug_ins, tmp_path, monkeypatch
):
    plug_ins.mkdir(parents=True)
    (plug_ins / "a.bin").write_bytes(b"a" * 1000)
    (plug_ins / "b.bin").write_bytes(b"b" * 234)
    reads = []
    digest_file = digests.digest_file
    monkeypatch.setattr(
        digests, "digest_file", lambda file: reads.append(file.name) or digest_file(file)
    )
    _, out, _ = soar_bench("evaluators")
    assert sorted(reads) == ["a.bin", "b.bin"]
    assert out.count("head 1.23 kB\tyes") == 4


def test_what_a_plug_in_prints_does_not_spoil_the_output(soar_bench, plug_ins, monkeypatch):
    monkeypatch.setattr(
        registry, "_plugged_in", lambda: [Entry("headed", f"{__name__}:talks", "package band")]
    )
    for arguments in (["--json"], ["show", "headed", "--json"]):
        _, out, err = soar_bench("evaluators", *arguments)
        json.loads(out)
        assert "hello from a plug-in" in err


def test_every_built_in_evaluator_is_listed_without_torch():
    code = (
        "import sys\nfrom soar_bench.cli import app\nsys.argv = ['soar-bench', 'evaluators']\n"
        "try:\n    app()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'pandas'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    listed = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert set(registry.BUILT_IN) <= set(listed)


def test_one_evaluator_is_shown_with_all_it_declares(soar_bench, plug_ins):
    code, out, _ = soar_bench("evaluators", "show", "headed")
    assert code == 0
    for words in (
        "headed (package band,", "runs here: no: the weights head are not here", "All of it.",
        "metric one: at least 0, lower is better", "points; about 3", "a paper", "CC0",
        "metric two: any number, higher is better", "not stated",
        "missing:  a.bin", "https://here.example/b.bin", str(plug_ins),
    ):  # fmt: skip
        assert words in out
    assert json.loads(soar_bench("evaluators", "show", "headed", "--json")[1])["state"] == "no"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("haeded", "did you mean headed?"),
        ("off-key", "SystemExit: out of tune"),
        ("nowhere.py", "there is no file nowhere.py"),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(soar_bench, plug_ins, name, words):
    code, out, err = soar_bench("evaluators", "show", name)
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.strip().splitlines()) == 1


@pytest.fixture()
def plug_in(soar_bench, tmp_path):  # soar_bench keeps sys.path as it was
    """A plug-in as `new` writes it."""
    code, out, err = soar_bench("evaluators", "new", "my-colour", "--directory", tmp_path / "sub")
    assert code == 0, err
    folder = tmp_path / "sub" / "my-colour"
    assert out.split() == [str(folder)]
    return folder


def run(*command, **environment):
    return subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip


def test_a_new_plug_in_passes_its_own_tests_without_being_installed(plug_in):
    done = run("-m", "pytest", "-p", "no:cacheprovider", plug_in)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def colourfulness(image):
    """Hasler and Suesstrunk's formula by another road: explicit sums over pixels."""
    pixels = [tuple(float(v) for v in pixel) for row in image for pixel in row]
    rg = [r - g for r, g, _ in pixels]
    yb = [0.5 * (r + g) - b for r, g, b in pixels]
    n = len(pixels)
    means = [sum(v) / n for v in (rg, yb)]
    variances = [sum((x - m) ** 2 for x in v) / n for v, m in zip((rg, yb), means, strict=True)]
    return sum(variances) ** 0.5 + 0.3 * (means[0] ** 2 + means[1] ** 2) ** 0.5


def test_a_new_plug_in_scores_by_its_path(plug_in):
    evaluator = registry.create(f"{plug_in / 'my_colour.py'}:MyColour")
    assert registry.create(str(plug_in / "my_colour.py")).name == "my-colour"
    image = np.random.default_rng(1).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    scored, unscored = evaluator.score([Sample(image, ""), Sample(image, "a Black and White cat")])
    assert scored["my_colour"].value == pytest.approx(colourfulness(image.tolist()))
    assert "without colour" in unscored["my_colour"].unscored


def test_the_declared_range_of_a_new_plug_in_is_reached_and_not_passed(plug_in):
    """sqrt(S) + 0.3 m with S + m^2 = 255^2 + 127.5^2 is largest at m^2 / S = 0.09."""
    evaluator = registry.create(str(plug_in / "my_colour.py"))
    largest = evaluator.metrics[0].range[1]
    red = round(10000 * (1 + 0.3 / 1.09**0.5) / 2)
    image = np.zeros((100, 100, 3), np.uint8)
    image.reshape(-1, 3)[:red] = (255, 0, 0)
    image.reshape(-1, 3)[red:] = (0, 255, 255)
    (scores,) = evaluator.score([Sample(image, "")])
    assert 0 <= largest - scores["my_colour"].value < 1e-4


def test_a_new_plug_in_judges_a_run_like_any_other(plug_in, evaluate, tiny_pipeline):
    done = evaluate(tiny_pipeline, evaluators=(str(plug_in / "my_colour.py"),))
    scores = done.scores()
    assert set(scores["metric"]) == {"my_colour"}
    assert scores["value"].between(0, 298).all()


def test_an_installed_plug_in_is_found_by_its_entry_point(plug_in, tmp_path):
    if importlib.util.find_spec("pip") is None or importlib.util.find_spec("setuptools") is None:
        pytest.skip("building a package needs pip and setuptools")
    site = tmp_path / "site"
    done = run("-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
               "--disable-pip-version-check", "--target", site, plug_in)  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = run("-m", "soar_bench", "evaluators", "show", "my-colour",
               PYTHONPATH=f"{site}{os.pathsep}{ROOT}")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "my-colour (package soar-bench-my-colour, my_colour:MyColour)" in done.stdout
    assert "runs here: yes" in done.stdout


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ocr", "there is an evaluator ocr already"),
        ("headed", "there is an evaluator headed already"),
        ("My-Metric", "cannot be a plug-in's name: use lower-case letters"),
        ("my_metric", "cannot be a plug-in's name"),
        ("my--metric", "cannot be a plug-in's name"),
        ("-x", "No such option"),
        ("../x", "cannot be a plug-in's name"),
        ("3d", "cannot be a plug-in's name"),
        ("", "cannot be a plug-in's name"),
        ("class", "cannot be a plug-in's name"),
        ("none", "has a meaning in Python already"),
        ("score", "has a meaning in Python already"),
        ("numpy", "there is a Python module numpy already"),
        ("json", "there is a Python module json already"),
        ("here", "exists already: choose another name or --directory"),
    ],
)
def test_a_new_plug_in_is_refused_with_a_reason(
    soar_bench, plug_ins, monkeypatch, tmp_path, name, words
):
    monkeypatch.setitem(registry.BUILT_IN, "ocr", "evaluators.ocr.evaluator:OcrAccuracy")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mine.py").write_text("mine")
    code, _, err = soar_bench("evaluators", "new", name, "--directory", tmp_path)
    assert code == 2
    assert words in " ".join(err.split())
    assert [p.name for p in tmp_path.rglob("*")] == ["here", "mine.py"]


def test_a_plug_in_that_cannot_be_written_leaves_nothing_behind(soar_bench, monkeypatch, tmp_path):
    from evaluators import scaffold

    def full(self, *_):
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(scaffold.Path, "write_text", full)
    code, _, err = soar_bench("evaluators", "new", "my-colour", "--directory", tmp_path)
    assert code == 1
    assert "no space left" in err
    assert list(tmp_path.iterdir()) == []


def blocks(language):
    text = (ROOT / "docs" / "write-an-evaluator.md").read_text("utf-8")
    return [part.split("\n```", 1)[0] + "\n" for part in text.split(f"```{language}\n")[1:]]


def test_the_example_in_the_docs_is_what_new_writes_and_runs(tmp_path):
    from evaluators.scaffold import render

    written = render("colourfulness")
    _, example, _, _, weights_example, test = blocks("python")
    assert example == written["colourfulness.py"]
    assert test == written["tests/test_colourfulness.py"]
    (tmp_path / "colourfulness.py").write_text(example)
    evaluator = registry.create(str(tmp_path / "colourfulness.py"))
    image = np.random.default_rng(2).integers(0, 256, (5, 8, 3), dtype=np.uint8)
    (scores,) = evaluator.score([Sample(image, "a cat")])
    assert scores["colourfulness"].value == pytest.approx(colourfulness(image.tolist()))
    declared = {}
    exec(weights_example, declared)
    assert declared["MyMetric"].weights[0].name == "my-head"


def test_the_docs_score_images_in_python(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    images = [np.full((64, 64, 3), value, np.uint8) for value in (40, 200)]
    for name, image in zip(("first", "second"), images, strict=True):
        Image.fromarray(image).save(f"{name}.png")
    scoring, example, using, *_ = blocks("python")
    names = {}
    exec(scoring, names)
    samples = [Sample(i, p) for i, p in zip(images, ("a red circle", "a blue star"), strict=True)]
    loaded = registry.create("shapes-clipscore")
    loaded.load()
    expected = [scores["shapes_clipscore"].value for scores in loaded.score(samples)]
    assert names["values"].tolist() == pytest.approx(expected, abs=1e-6)
    (tmp_path / "colourfulness.py").write_text(example)
    names["prompts"] = ["a cat", "a black and white cat"]
    exec(using, names)
    assert names["values"][0] == 0 and np.isnan(names["values"][1])


def test_the_entry_point_in_the_docs_is_what_new_writes():
    import tomllib

    from evaluators.scaffold import render

    (example,) = blocks("toml")
    written = tomllib.loads(render("my-metric")["pyproject.toml"])
    assert tomllib.loads(example)["project"]["entry-points"] == written["project"]["entry-points"]


def test_the_docs_name_every_field_of_a_metric_and_every_step_of_an_evaluator():
    text = (ROOT / "docs" / "write-an-evaluator.md").read_text("utf-8")
    for field in Metric.__dataclass_fields__:
        assert f"| `{field}` |" in text
    for step in (
        "check(self)",
        "bring(self)",
        "identity(self)",
        "load(self, device, dtype)",
        "score(self, samp",
    ):
        assert f"`{step}" in text
    with pytest.raises(EvaluatorError):  # what the page promises of names that do not exist
        registry.create("colourfulness")
    assert Score(None, unscored="the prompt quotes no text").value is None

"""``soar-bench evaluators --new``: a plug-in of one's own, and the page about it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from evaluators import registry
from evaluators.types import EvaluatorError, Metric, Sample, Score

ROOT = Path(__file__).parents[3]


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

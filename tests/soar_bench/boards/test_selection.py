"""Which boards and which reference `compare` takes, and its table for a paper."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from records_by_hand import contents, declared, score_row, write_run
from typer.testing import CliRunner

from soar_bench.boards import group_seeds
from soar_bench.checkpoints import resolve
from soar_bench.cli import app
from soar_bench.core import latex
from soar_bench.core.errors import SoarBenchError
from soar_bench.records import read_runs
from soar_bench.records.folders import find


def record(label, metrics, suite="one", base=None, **checkpoint):
    return contents(
        label, metrics, suite={"name": suite, "digest": suite},
        **{
            "digest": f"weights of {label}",
            "form": "lora" if base else "pipeline",
            "base": {"name": base, "digest": f"weights of {base}"} if base else None,
            **checkpoint,
        },
    )  # fmt: skip


@pytest.fixture()
def place(tmp_path):
    """place(label, {metric: values}, ...) writes a record."""

    def write(label, scores, higher=True, **more):
        rows = [
            score_row(f"p{i:03d}", 0, float(value), f"prompt {i}", metric=metric)
            for metric, values in scores.items()
            for i, value in enumerate(values)
        ]
        metrics = dict.fromkeys(scores, declared(unit="u", higher_is_better=higher))
        return write_run(tmp_path / "r", record(label, metrics, **more), pd.DataFrame(rows))

    write.results = tmp_path / "r"
    return write


def invoked(*arguments):
    result = CliRunner().invoke(app, ["compare", *map(str, arguments)], env={"COLUMNS": "100"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def lines(*arguments):
    return list(csv.DictReader(io.StringIO(invoked(*arguments, "--format", "csv").stdout)))


def test_the_base_is_the_reference_of_loras_from_other_trainers(place):
    """By folder the LoRA comes first, and neither says that it was trained."""
    place("a-lora", {"m": [1, 2, 3]}, base="z-base")
    place("b-other", {"m": [1, 2, 3]})
    place("z-base", {"m": [1, 2, 4]})
    assert [e.name for e in group_seeds(read_runs(place.results))] == [
        "z-base",
        "b-other",
        "a-lora",
    ]
    assert lines(place.results)[0]["checkpoint"] == "z-base"


def test_a_folder_without_the_base_says_which_checkpoint_is_the_reference(place):
    for label in ("style-a", "style-b"):
        place(label, {"m": np.arange(9.0)}, base="org/base")
    note = "has no run of the base org/base: style-a is the reference"
    assert note in invoked(place.results).stderr
    assert note not in invoked(place.results, "--reference", "style-b").stderr
    assert note not in invoked("style-a", "style-b", "--results", place.results).stderr
    place("org/base", {"m": np.arange(9.0)})
    assert note not in invoked(place.results).stderr


def test_checkpoints_of_one_training_are_in_the_order_of_their_steps(place):
    """In the folder they lie by digest."""
    place("base", {"m": [1, 2, 3]})
    for step in range(2, 12, 2):
        story = {"name": "sft", "method": "sft", "seed": 0, "step": step, "config": {}}
        story |= {part: {"name": part, "digest": part} for part in ("base", "data")}
        place("sft", {"m": [1, 2, step]}, base="base", digest=f"weights {step}", story=story)
    names = ["base", *(f"sft, step {step}" for step in range(2, 12, 2))]
    assert [row["checkpoint"] for row in lines(place.results)] == names


def test_a_reference_is_chosen_by_any_name(place):
    base = place("base", {"m": [1, 2, 3]})
    place("lora", {"m": [1, 2, 4]}, base="base")
    place("pipeline", {"m": [2, 2, 4]}, name="models/pipeline")
    for name in ("lora", "pipeline", "models/pipeline"):
        rows = lines(place.results, "--reference", name, "--results", place.results)
        assert rows[0]["checkpoint"] == name.rpartition("/")[2]
        assert rows[0]["difference"] == ""
        assert len(rows) == 3
    joined = lines("lora", "--reference", base.folder, "--results", place.results)
    assert [row["checkpoint"] for row in joined] == ["base", "lora"]
    with pytest.raises(SoarBenchError, match="is named 'nobody'"):
        invoked(place.results, "--reference", "nobody", "--results", place.results)


def test_boards_of_a_folder_are_shown_one_by_one(place):
    for suite, gain in (("one", 0.5), ("two", 1.0)):
        place("base", {"m": [1, 2, 3]}, suite=suite)
        place("lora", {"m": np.array([1, 2, 3]) + gain}, suite=suite, base="base")
    place("base", {"m": [1, 2, 3]}, suite="three")
    result = invoked(place.results)
    text = result.stdout
    assert text.index("one under p") < text.index("+0.500") < text.index("two under p")
    assert text.index("two under p") < text.index("+1.000")
    assert "three under p has one checkpoint, base: left out" in result.stderr
    rows = lines(place.results)
    assert [(row["suite"], row["checkpoint"]) for row in rows] == [
        ("one", "base"), ("one", "lora"), ("two", "base"), ("two", "lora")
    ]  # fmt: skip
    boards = json.loads(invoked(place.results, "--format", "json").stdout)
    assert [board["suite"] for board in boards] == ["one", "two"]
    assert "## one under p" in invoked(place.results, "--format", "markdown").stdout
    by_name = lines("base", "lora", "--results", place.results)
    assert [row["suite"] for row in by_name] == ["one", "one", "two", "two"]


def test_two_named_runs_of_two_boards_are_still_refused(place):
    a, b = (place("base", {"m": [1, 2, 3]}, suite=suite) for suite in ("one", "two"))
    with pytest.raises(SoarBenchError, match="not measured alike"):
        invoked(a.folder, b.folder)


def test_a_checkpoint_is_found_by_every_name_that_eval_takes(place, tmp_path, monkeypatch):
    """By its name there, by another path, and by another copy of the same weights."""
    digest = resolve("shapes").digest
    run = place("copy", {"m": [1, 2, 3]}, name="models/copy", digest=digest)
    for name in ("models/copy", "shapes"):
        assert [r.folder for r in find(name, place.results)] == [run.folder]
    monkeypatch.chdir(tmp_path)
    shutil.copytree(resolve("shapes").pipeline, tmp_path / "elsewhere")
    assert [r.folder for r in find("./elsewhere", place.results)] == [run.folder]
    (tmp_path / "empty").mkdir()
    with pytest.raises(SoarBenchError, match="there is no run in empty"):
        find("empty", place.results)


# LaTeX


@pytest.fixture()
def paper(place):
    rng = np.random.default_rng(0)
    hard = rng.normal(size=40)
    for i, name in enumerate(("base", "sft_1", "soar")):
        gain = 0.4 * i + 0.05 * rng.normal(size=40)
        place(name, {"pick": hard + gain, "flat": hard}, base="base" if i else None)
    return place.results


def test_latex_has_a_row_per_checkpoint_and_a_column_per_metric(paper):
    text = invoked(paper, "--format", "latex").stdout
    code = [line for line in text.splitlines() if not line.startswith("%")]
    assert code[0] == r"\begin{table}[t]"
    assert code[-1] == r"\end{table}"
    assert r"\begin{tabular}{lrr}" in code
    assert any(line.startswith(r"\caption{one under p") for line in code)
    assert r"\label{tab:one-p}" in code
    header, *rows = [line for line in code if line.endswith(r"\\")]
    assert header == r"checkpoint & flat $\uparrow$ & pick $\uparrow$ \\"
    assert [row.split(" & ")[0] for row in rows] == ["base", r"sft\_1", "soar"]
    picks = [row.split(" & ")[2] for row in rows]
    assert [r"\textbf" in cell for cell in picks] == [False, False, True]
    assert ["^{*}" in cell for cell in picks] == [False, True, True]
    assert all(r"\textbf" in row.split(" & ")[1] for row in rows), "equal ones are all best"
    assert r"$^{*}$ significantly better than base (5\%, corrected for" in text
    assert text.isascii()


def test_latex_of_a_metric_whose_less_is_better(place):
    place("base", {"m": [5.0, 6.0, 7.1, 6.0, 5.0, 6.0]}, higher=False)
    place("low", {"m": [1.0, 2.0, 3.0, 2.0, 1.1, 2.0]}, higher=False, base="base")
    rows = [
        r for r in invoked(place.results, "--format", "latex").stdout.splitlines() if " & " in r
    ]
    assert r"$\downarrow$" in rows[0]
    assert r"\textbf" not in rows[1]
    assert re.search(r"\\textbf\{1\.850\}\$\^\{\*\}\$", rows[2])


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs a TeX")
def test_latex_compiles(paper, tmp_path):
    tables = [invoked(paper, "--format", form).stdout for form in ("latex", "latex-long")]
    names = ("a \"b\" 'c' `d`", "--- ?`", r"$x_1^2$ {b} \c ~ % # &", "[a]|<b>", "café łé")
    tables.append(latex.table(["name"], [[latex.escape(name)] for name in names], "l"))
    page = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n"
    (tmp_path / "t.tex").write_text(page + "\n".join(tables) + "\\end{document}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "Overfull" not in done.stdout

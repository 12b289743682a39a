"""The table over training seeds, on records made by hand."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from records_by_hand import score_row, seed_record, write_run
from scipy import stats as scipy_stats

from soar_bench.core.errors import SoarBenchError
from soar_bench.records import read_runs

ROOT = Path(__file__).parents[3]
FILE = ROOT / "benchmarks" / "seeds_table.py"

#: name -> seed -> how many of the four prompts are right; which ones: the first so many
RIGHT = {
    "shapes": {None: 1},
    "sft": {0: 1, 1: 2, 2: 3},
    "soar": {0: 2, 1: 2, 2: 4},
    "soar, step 200": {0: 3, 1: 3, 2: 3},
}


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("seeds_table", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["seeds_table"] = module
    spec.loader.exec_module(module)
    return module


def write(folder, name, seed, right, steps=10, images=1):
    """A run of four prompts, two a task; only the first images of the first ``right`` are right."""
    name, _, step = name.partition(", step ")
    contents = seed_record(name, seed, int(step or 1000))
    contents["protocol"]["settings"]["steps"] = steps
    contents["suite"]["images_per_prompt"] = images
    rows = [
        score_row(
            f"p{prompt}", index, float(prompt < right and index == 0), f"prompt {prompt}",
            task="ab"[prompt // 2],
        )
        for prompt in range(4) for index in range(images)
    ]  # fmt: skip
    return write_run(folder, contents, pd.DataFrame(rows))


@pytest.fixture
def results(tmp_path):
    for name, seeds in RIGHT.items():
        for seed, right in seeds.items():
            write(tmp_path, name, seed, right)
            write(tmp_path, name, seed, right, steps=20, images=2)
    return tmp_path


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_has_the_mean_and_standard_deviation_over_seeds(script, results):
    """SFT: 1/4, 2/4, 3/4 right: mean 1/2, deviation sqrt((1/16 + 0 + 1/16) / 2) = 1/4. SOAR: 1/2,
    1/2, 1: mean 2/3, deviation sqrt((1/36 + 1/36 + 4/36) / 2) = sqrt(1/12). A second image of each
    prompt that is wrong halves all of it.
    """
    page = script.page(results, "shapes-signs", "quality")
    lines = page.splitlines()
    assert cells(next(line for line in lines if line.startswith("| checkpoint"))) == [
        "checkpoint", "training seeds", "10 steps, 1 image", "20 steps, 2 images",
    ]  # fmt: skip
    rows = {cells(line)[0]: cells(line)[1:] for line in lines if line.startswith("| S")}
    assert rows["SFT"] == ["3", "0.500 ± 0.250", "0.250 ± 0.125"]
    assert math.sqrt(1 / 12) == pytest.approx(0.2887, abs=1e-4)
    assert rows["SOAR"] == ["3", "0.667 ± 0.289", "0.333 ± 0.144"]
    assert rows["SOAR, equal compute"] == ["3", "0.750 ± 0.000", "0.375 ± 0.000"]
    assert "| base | 1 | 0.250 | 0.125 |" in lines, "one set of weights has no deviation"


def test_first_images_alone_make_the_columns_comparable(script, results):
    page = script.page(results, "shapes-signs", "quality", script.Part(images=1))
    (line,) = (line for line in page.splitlines() if line.startswith("| SOAR |"))
    assert cells(line) == ["SOAR", "3", "0.667 ± 0.289", "0.667 ± 0.289"]
    assert "20 steps, 1 image |" in page


def test_one_task_alone(script, results):
    """Of the first two prompts SOAR has both right with every seed, SFT one, two and two."""
    page = script.page(results, "shapes-signs", "quality", script.Part(task="a"))
    rows = {cells(line)[0]: cells(line)[2] for line in page.splitlines() if line.startswith("| S")}
    assert rows["SOAR"] == "1.000 ± 0.000"
    assert rows["SFT"] == f"0.833 ± {math.sqrt(1 / 12):.3f}"
    with pytest.raises(SoarBenchError, match="no task 'c'"):
        script.page(results, "shapes-signs", "quality", script.Part(task="c"))


def test_differences_hold_prompts_and_seeds_as_two_levels(script, results):
    """SOAR - SFT by prompt, each a mean over three seeds: 0, 1/3, 0, 1/3. Their variance over four
    prompts is 1/27 / 4, that of the seeds (1/12 + 1/16) / 3.
    """
    page = script.page(results, "shapes-signs", "quality")
    lines = [cells(line) for line in page.splitlines() if line.startswith("| SOAR - SFT |")]
    prompts, seeds = (1 / 27 / 4, 3), [(1 / 12 / 3, 2), (1 / 16 / 3, 2)]
    variance = prompts[0] + sum(v for v, _ in seeds)
    freedom = variance**2 / sum(v**2 / f for v, f in [prompts, *seeds])
    t = scipy_stats.t(freedom)
    half = t.ppf(0.975) * math.sqrt(variance)
    value = 1 / 6
    assert lines[0][1:4] == [
        "10", f"{value:+.3f} [{value - half:+.3f}, {value + half:+.3f}]",
        f"{2 * t.sf(value / math.sqrt(variance)):.3f}",
    ]  # fmt: skip
    assert [line[1] for line in lines] == ["10", "20"]
    assert "corrected over these rows by Holm's method" in page


def test_every_two_are_tested_and_corrected_within_their_board_and_over_all(script, results):
    table = script.pairs(results)
    rows = [cells(line) for line in table.splitlines()[2:]]
    assert len(rows) == 2 * 6, "six pairs of four at two numbers of steps"
    assert "Holm over all 12" in table
    assert all(float(line[5]) <= float(line[6]) <= float(line[7]) for line in rows)
    named = {line[3] for line in rows}
    assert "SOAR - base" in named and "SOAR, equal compute - SFT" in named


def test_what_cannot_be_told_is_refused(script, results):
    with pytest.raises(SoarBenchError, match="no record of beauty on shapes-signs"):
        script.page(results, "shapes-signs", "beauty")
    with pytest.raises(SoarBenchError, match="--images 2 is more"):
        script.page(results, "shapes-signs", "quality", script.Part(images=2))
    with pytest.raises(SoarBenchError, match="no record of the suite 'x'"):
        script.pairs(results, "x")
    runs = [run for run in read_runs(results) if run.label != "shapes"]
    with pytest.raises(SoarBenchError, match="no record of shapes at 10"):
        script.boards(runs, "shapes-signs", "quality")
    write(results, "soar", 3, 2, images=3)
    with pytest.raises(SoarBenchError, match="differ in other settings"):
        script.page(results, "shapes-signs", "quality")


def test_the_committed_records_make_the_tables_of_the_page():
    """The page of the embedded world has, line by line, what the script prints."""
    page = (ROOT / "docs" / "embedded-world.md").read_text("utf-8").splitlines()
    for suite, metric in (
        ("shapes", "shapes_geneval"),
        ("shapes", "shapes_clipscore"),
        ("shapes-signs", "ocr_accuracy"),
    ):
        made = subprocess.run(
            [sys.executable, FILE, "--suite", suite, "--metric", metric],
            cwd=ROOT, check=True, capture_output=True, text=True, encoding="utf-8",
        ).stdout  # fmt: skip
        lines = [line for line in made.splitlines() if line.startswith("| ")]
        assert len(lines) > 6
        assert [line for line in lines if line not in page] == [], metric

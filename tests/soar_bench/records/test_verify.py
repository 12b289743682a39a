"""Records verified: each check finds what is not as it should be, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from records_by_hand import SETTINGS, SUITE, id_of, record, score_row, whole_run, write_run

from soar_bench.cache.images import ImageStore
from soar_bench.records import RUN_FILE
from soar_bench.records.folders import survey
from soar_bench.suites.types import plan


def states(command, run):
    code, out = command("verify", id_of(run), "--json")
    checks = {check["check"]: (check["state"], check["text"]) for check in json.loads(out)}
    wrong = {name for name, (state, _) in checks.items() if state == "wrong"}
    assert code == (1 if wrong else 0)
    return checks, wrong


def test_a_record_in_which_everything_is_right_passes_every_check(command, places):
    for unscored in (0, 3):
        run = whole_run(*places, unscored=unscored, digest=f"w{unscored}")
        checks, _ = states(command, run)
        assert {state for state, _ in checks.values()} == {"ok"}, checks
    assert command("verify")[0] == 0


def rewrite(run, change):
    """The record with other scores, and the digest that belongs to them."""
    scores = run.scores()
    changed = change(scores)
    write_run(run.folder.parents[2], run.record.as_json(), scores if changed is None else changed)


def set_value(column, value, at=3):
    def change(scores):
        scores.loc[at, column] = value

    return change


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lambda scores: scores.drop(index=5), "samples"),
        (lambda scores: pd.concat([scores, scores.tail(1)]), "samples"),
        (set_value("index", 7), "samples"),
        (set_value("metric", "other"), "samples"),
        (set_value("image", "beef"), "samples"),
        (set_value("value", -0.5), "values"),
        (set_value("value", None), "values"),
        (set_value("unscored", "no reason at all"), "values"),
        (set_value("value", 0.9), "metrics"),
        (set_value("noise", "0" * 32), "noise"),
        (set_value("prompt", "another text"), "suite"),
        (set_value("task", "another task"), "suite"),
        (set_value("image", "0" * 64), "images"),
    ],
)
def test_verify_finds_scores_that_are_not_as_they_should_be(command, run, change, check):
    rewrite(run, change)
    checks, wrong = states(command, run)
    assert check in wrong, checks


@pytest.mark.parametrize(
    ("path", "value", "check"),
    [
        (("metrics", "quality", "value"), 0.5, "metrics"),
        (("metrics", "quality", "standard_error"), None, "metrics"),
        (("metrics", "quality", "unscored"), 1, "metrics"),
        (("metrics", "quality", "tasks"), {}, "metrics"),
        (("metrics",), {}, "metrics"),
        (("suite", "prompts"), 31, "samples"),
        (("suite", "images_per_prompt"), 2, "samples"),
        (("suite", "seed"), 5, "noise"),
        (("suite", "digest"), "0" * 64, "suite"),
        (("scores", "sha256"), "0" * 64, "scores"),
        (("scores", "rows"), 7, "scores"),
        (("schema",), 9, "record"),
    ],
)
def test_verify_finds_a_run_json_that_does_not_fit(command, run, path, value, check):
    file = run.folder / RUN_FILE
    contents = json.loads(file.read_text())
    part = contents
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    file.write_text(json.dumps(contents))
    checks, wrong = states(command, run)
    assert check in wrong, checks


def test_verify_decodes_the_images_that_are_there(command, places, run):
    store = ImageStore.of(places[1], "weights", SETTINGS, SUITE.seed)
    first, second, *_ = plan(SUITE, 1)
    store.file(first).unlink()
    checks, _ = states(command, run)
    assert checks["images"][0] == "not checked"
    assert "1 of 30 images are not in" in checks["images"][1]
    store.add(second, np.full((8, 8, 3), 200, np.uint8))
    checks, wrong = states(command, run)
    assert wrong == {"images"}
    assert second.prompt.id in checks["images"][1]
    Image.new("RGB", (8, 8)).save(store.file(second))
    assert "damaged" in states(command, run)[0]["images"][1]


def test_verify_says_what_it_could_not_check(command, places):
    contents = record(digest="no images anywhere")
    contents["suite"]["name"] = "my-own"
    run = write_run(places[0], contents, pd.DataFrame([score_row("p", 0, 0.5, image="0" * 64)]))
    checks, _ = states(command, run)
    assert checks["suite"][0] == checks["images"][0] == "not checked"
    assert "my-own" in checks["suite"][1]
    assert "not checked: suite" in command("verify", id_of(run))[1]


def test_the_committed_records_are_right(tmp_path):

    from soar_bench.records.verify import verify

    entries = survey(Path(__file__).parents[3] / "results")
    findings = [finding for entry in entries for finding in verify(entry, tmp_path)]
    assert {(f.check, f.state) for f in findings if f.state != "ok"} <= {("images", "not checked")}

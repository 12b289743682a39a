"""Training data by reward: scored once, selected by a rule, with its provenance."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from soar_bench.core.errors import SoarBenchError
from soar_bench.output.data import score_lines
from soar_bench.trainer.scored_data import (
    Scored,
    check_output,
    chosen,
    evaluator_of,
    score_data,
)
from training.types import Images

PLUGIN = """
from evaluators.types import Evaluator, Metric, Score

class Red(Evaluator):
    name = "red"
    metrics = (Metric("red", "share", (0.0, 1.0), True, "1", "here", "how red"),)

    def score(self, samples):
        open("CALLS_FILE", "a").write(f"{len(samples)}\\n")
        return [
            {"red": Score(None, "it is black") if not s.image.any()
             else Score(float(s.image[..., 0].mean() / 255))}
            for s in samples
        ]
"""


def scored(values):
    return Scored("data", None, {"m": np.array(values)}, {"m": {}})


def test_the_rules_by_hand():
    s = scored([0.1, np.nan, 0.9, 0.5, 0.5])
    assert chosen(s, "m", at_least=0.5).tolist() == [2, 3, 4]
    assert chosen(s, "m", top=2).tolist() == [2, 3], "of equal ones the earlier"
    assert chosen(s, "m", top_share=0.5).tolist() == [2, 3]
    assert chosen(s, "m", top_share=1.0).tolist() == [0, 2, 3, 4], "never one without a score"
    with pytest.raises(SoarBenchError, match=r"the best m is 0\.9 of 5 records"):
        chosen(s, "m", at_least=0.95)
    with pytest.raises(SoarBenchError, match="more than the 4 records"):
        chosen(s, "m", top=5)
    with pytest.raises(SoarBenchError, match=r"none of the 4 .*make --top-share larger"):
        chosen(s, "m", top_share=0.1)
    dark = replace(scored([np.nan, np.nan]), reasons={"m": "it is dark"})
    with pytest.raises(SoarBenchError, match=r"m scored none of the 2 records \(it is dark\), so"):
        chosen(dark, "m", at_least=0.0)
    (line,) = score_lines({"metrics": dark.summary()})
    assert line == "m: 2 images; 2 unscored (it is dark)"
    with pytest.raises(SoarBenchError, match="metric"):
        chosen(s, "other", top=1)
    for rule in ({}, {"top": 1, "at_least": 0.5}, {"at_least": np.nan}, {"top_share": np.nan}):
        with pytest.raises(SoarBenchError, match="give one rule"):
            check_output(None, rule)


def test_the_best_of_a_metric_of_errors_are_the_lowest():
    s = replace(scored([0.1, np.nan, 0.9, 0.5]), lower_is_better=["m"])
    assert chosen(s, "m", top=2).tolist() == [0, 3]
    assert chosen(s, "m", top_share=0.34).tolist() == [0]
    with pytest.raises(SoarBenchError, match="--at-least would keep the worst"):
        chosen(s, "m", at_least=0.5)


def test_a_metric_is_known_without_its_evaluators_name():
    assert evaluator_of("shapes_clipscore") == "shapes-clipscore"
    assert evaluator_of("geneval_soft") == "geneval"
    assert evaluator_of("sharpness") == "picture-statistics"
    with pytest.raises(SoarBenchError, match="did you mean sharpness"):
        evaluator_of("sharpnes")


def test_what_judges_the_images_of_a_prompt_together_has_no_say(tmp_path):
    with pytest.raises(SoarBenchError, match="a record has one picture"):
        score_data("shapes-clean:2", Images(), ["near-duplicates"], tmp_path, "cpu")


def test_a_folder_that_cannot_be_made_is_told_before_anything_is_scored():
    with pytest.raises(SoarBenchError, match="nothing can be written to /proc/x"):
        check_output(Path("/proc/x"), {"top": 1})


@pytest.fixture()
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    lines = []
    for i, red in enumerate((40, 0, 250, 160)):
        Image.new("RGB", (16, 16), (red, 0, 0)).save(folder / f"{i}.png")
        lines.append(json.dumps({"file_name": f"{i}.png", "text": f"red {red}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    plugin = tmp_path / "red.py"
    plugin.write_text(PLUGIN.replace("CALLS_FILE", str(tmp_path / "calls")))
    return folder, str(plugin)


def test_scores_are_made_once_and_the_selection_trains_with_its_story(
    photos, tmp_path, tiny_config, tiny_train
):
    from typer.testing import CliRunner

    from soar_bench.cli import app

    def main(arguments):
        return CliRunner().invoke(app, arguments).exit_code

    folder, plugin = photos
    cache = ["--cache", str(tmp_path / "cache"), "--device", "cpu"]
    assert main(["data", "score", str(folder), "--evaluators", plugin, *cache]) == 0
    calls = (tmp_path / "calls").read_text()
    select = ["data", "select", str(folder), "--metric", "red", "--evaluator", plugin, *cache]
    output = tmp_path / "best"
    assert main([*select, "--top", "2", "--output", str(output)]) == 0
    assert (tmp_path / "calls").read_text() == calls, "the cache had them"
    records = [json.loads(x) for x in (output / "metadata.jsonl").read_text().splitlines()]
    assert [record["text"] for record in records] == ["red 250", "red 160"]
    for record, source in zip(records, ("2.png", "3.png"), strict=True):
        assert (output / record["file_name"]).read_bytes() == (folder / source).read_bytes()
    assert main([*select, "--top", "1", "--output", str(output)]) != 0, "it is there already"
    checkpoint = tiny_train(tiny_config(data=str(output), steps=1, batch_size=2))
    story = json.loads((checkpoint / "checkpoint.json").read_text())["data"]
    assert story["size"] == 2
    selection = story["selection"]
    assert selection["data"] == str(folder)
    assert selection["rule"] == {"top": 2}
    assert (selection["kept"], selection["of"], selection["unscored"]) == (2, 4, 1)
    assert selection["metric"] == "red"


def test_the_embedded_worlds_data_is_scored_and_written_as_pictures(tmp_path):
    from soar_bench.trainer.scored_data import write_selection
    from training.data import open_listing

    judges = ["shapes-clipscore", "shapes-geneval"]
    result = score_data("shapes-clean:6", Images(), judges, tmp_path / "c", "cpu")
    signs = ["sign" in result.source.caption(i) for i in range(6)]
    # The rules read what a caption says; every clean picture shows it. They know no signs.
    assert np.array_equal(np.isnan(result.values["shapes_geneval"]), signs)
    assert np.nanmin(result.values["shapes_geneval"]) == 1
    kept = chosen(result, "shapes_clipscore", top=3)
    write_selection(result, "shapes_clipscore", kept, {"top": 3}, tmp_path / "best")
    best = open_listing(str(tmp_path / "best"))
    for i, index in enumerate(kept):
        assert np.array_equal(best[i][0], result.source[index][0])
        assert best[i][1] == result.source[index][1]

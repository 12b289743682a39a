"""Export: model cards as the hub's own library reads them, and tables as pandas does."""

from __future__ import annotations

import hashlib
import math
import statistics

import pandas as pd
import pytest
import typer
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from typer.testing import CliRunner

from soar_bench.cli import export as commands
from soar_bench.core.errors import SoarBenchError
from soar_bench.records import COLUMNS, SCORES_FILE
from soar_bench.records.export import card, results, samples
from tests.soar_bench.records_by_hand import few_scores, record, score_row, write_run

VALUES = [0.1, 0.2, 0.6, 0.7]


@pytest.fixture()
def run(tmp_path):
    return write_run(tmp_path / "results", record(), few_scores(*VALUES))


def call(*arguments, catch=True):
    app = typer.Typer()
    app.add_typer(commands.app, name="export")
    return CliRunner().invoke(app, ["export", *map(str, arguments)], catch_exceptions=catch)


def parsed(text):
    """The results that the hub's own parser finds in a card."""
    index = ModelCard(text).data.to_dict()["model-index"]
    return model_index_to_eval_results(index)


def test_the_hubs_parser_finds_every_number_where_it_belongs(run):
    name, entries = parsed(card([run], source="https://example.org/records"))
    assert name == "base"
    (entry,) = entries
    assert (entry.task_type, entry.dataset_type) == ("text-to-image", "shapes-signs")
    assert entry.dataset_config == "shapes, 1 images a prompt"
    assert entry.dataset_revision == run.record.suite.digest
    assert entry.dataset_args["settings"]["steps"] == 20
    assert entry.metric_type == "quality"
    assert entry.metric_value == pytest.approx(statistics.fmean(VALUES))
    assert entry.metric_args["standard_error"] == pytest.approx(
        statistics.stdev(VALUES) / math.sqrt(len(VALUES))
    )
    assert entry.metric_args["unit"] == "share" and "share" in entry.metric_name
    assert (entry.metric_args["scored"], entry.metric_args["unscored"]) == (4, 0)
    assert entry.metric_args["record"] == run.folder.name
    content = (run.folder / SCORES_FILE).read_bytes()
    assert entry.metric_args["scores_sha256"] == hashlib.sha256(content).hexdigest()
    assert entry.source_url == "https://example.org/records"


CARD = """---
# what the hub shows
language: no
license: other   # see below
tags: [a,   b]
model-index:
- name: mine
  results:
  - task: {type: text-to-image}
    dataset: {type: coco, name: COCO}
    metrics:
    - {type: fid, value: 12.5}
widget:
- text: "a cat: 1"
---
# My model

---
Text with model-index: and --- in it.
"""


def test_text_and_other_metadata_stay_to_the_letter(run):
    text = card([run], CARD)
    before, after = CARD.split("model-index:\n")[0], CARD.split("widget:")[1].split("---\n", 1)
    assert text.startswith(before)
    assert 'widget:\n- text: "a cat: 1"\n' in text
    assert text.endswith("---\n" + after[1])
    data = yaml.safe_load(text.split("---\n")[1])
    old = yaml.safe_load(CARD.split("---\n")[1])
    assert {k: v for k, v in data.items() if k != "model-index"} == {
        k: v for k, v in old.items() if k != "model-index"
    }
    name, entries = parsed(text)
    assert name == "mine"
    assert {entry.metric_type: entry.metric_value for entry in entries} == {
        "fid": 12.5,
        "quality": pytest.approx(0.4),
    }


def test_a_second_export_replaces_the_values_and_nothing_else(run, tmp_path):
    once = card([run], CARD)
    assert card([run], once) == once
    again = write_run(tmp_path / "results", record(), few_scores(0.9, 0.9, 0.9, 0.8))
    _, entries = parsed(card([again], once))
    assert sorted(entry.metric_type for entry in entries) == ["fid", "quality"]
    assert {entry.metric_type: entry.metric_value for entry in entries}["quality"] == pytest.approx(
        0.875
    )


def test_windows_line_ends_stay(run):
    text = card([run], CARD.replace("\n", "\r\n"))
    assert "\n" not in text.replace("\r\n", "")
    assert len(parsed(text)[1]) == 2


def test_results_of_other_models_stay(run):
    other = CARD.replace("- name: mine", "- name: theirs\n  results: []\n- name: mine")
    data = yaml.safe_load(card([run], other, name="new").split("---\n")[1])
    assert [model["name"] for model in data["model-index"]] == ["theirs", "mine", "new"]


def test_a_card_without_metadata_gets_some_and_keeps_its_text(run):
    text = card([run], "# Title\n\ntext\n")
    assert text.endswith("\n# Title\n\ntext\n")
    assert len(parsed(text)[1]) == 1
    new = card([run])
    assert ModelCard(new).data.pipeline_tag == "text-to-image"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("---\na: [\n---\n", "is not YAML"),
        ("---\n- a\n---\n", "no list of keys"),
        ("---\nmodel-index:\n- name: x\n  results:\n  - task: 1\n---\n", "cannot be read"),
        ("---\n{model-index: [{name: x, results: []}]}\n---\n", "remove it first"),
    ],
)
def test_a_card_that_cannot_be_merged_is_left_alone(run, tmp_path, text, words):
    file = tmp_path / "README.md"
    file.write_text(text)
    done = call("card", run.folder, "--output", file)
    assert isinstance(done.exception, SoarBenchError)
    assert words in str(done.exception) and str(file) in str(done.exception)
    assert file.read_text() == text


def test_a_card_is_of_one_checkpoint_and_of_something(tmp_path):
    a = write_run(tmp_path, record(), few_scores(0.5, 0.6))
    b = write_run(tmp_path, record(label="other", digest="other"), few_scores(0.5, 0.6))
    with pytest.raises(SoarBenchError, match=r"of one checkpoint.*base, other"):
        results([a, b])
    other = record()
    other["evaluators"]["judge"]["identity"] = {"weights": "others"}
    with pytest.raises(SoarBenchError, match="quality on shapes-signs under one name"):
        results([a, write_run(tmp_path, other, few_scores(0.5, 0.6))])
    nothing = few_scores(0.1)
    nothing["value"], nothing["unscored"] = math.nan, "too dark"
    with pytest.raises(SoarBenchError, match="none of the runs has a scored sample"):
        results([write_run(tmp_path, record(digest="dark"), nothing)])


def test_one_value_has_no_standard_error_and_the_card_says_none(tmp_path):
    (entry,) = results([write_run(tmp_path, record(), few_scores(0.5))])
    assert not {"standard_error", "interval_95"} & set(entry.metric_args)
    assert ".nan" not in card([write_run(tmp_path, record(), few_scores(0.5))])


def test_the_card_command_writes_and_updates(run, tmp_path):
    file = tmp_path / "card" / "README.md"
    for _ in range(2):
        done = call("card", run.folder.name, "--results", tmp_path / "results", "--output", file)
        assert done.exit_code == 0, done.exception
    assert len(parsed(file.read_text("utf-8"))[1]) == 1


@pytest.mark.parametrize(
    ("form", "read"), [("csv", pd.read_csv), ("parquet", pd.read_parquet)]
)  # fmt: skip
def test_the_table_of_several_runs_comes_back_from_its_file(tmp_path, form, read):
    hostile = 'a "quoted", text;\nwith a line\rand <b>ä</b>'
    story = {
        "name": "soar", "method": "soar", "step": 4, "seed": 7, "base": {"digest": "b"},
        "data": {"digest": "d"}, "config": {"seed": 7},
    }  # fmt: skip
    base = {"name": "b", "digest": "b"}
    trained = record(
        label="soar-seed7", name="out/soar", digest="t", form="transformer", story=story, base=base
    )
    rows = [
        score_row("p0", 0, 0.25, hostile, task="t"),
        score_row("p1", 0, None, "x", task="t", unscored="too dark"),
    ]
    write_run(tmp_path / "results", record(), few_scores(*VALUES))
    write_run(tmp_path / "results", trained, pd.DataFrame(rows))
    file = tmp_path / f"table.{form}"
    arguments = (form, "base", "soar-seed7", "--results", tmp_path / "results", "--output", file)
    assert call(*arguments).exit_code == 0
    table = read(file)
    assert list(table.columns)[6:] == list(COLUMNS)
    assert len(table) == 6
    assert table["seed"].isna().sum() == 4 and set(table["seed"].dropna()) == {7}
    assert table.groupby("checkpoint")["value"].mean().to_dict() == pytest.approx(
        {"base": 0.4, "soar-seed7": 0.25}
    )
    assert set(table["suite"]) == {"shapes-signs"} and set(table["protocol"]) == {"shapes"}
    assert hostile in set(table["prompt"])
    assert table["value"].isna().sum() == 1


def test_a_file_is_not_replaced_unasked(run, tmp_path):
    file = tmp_path / "table.csv"
    file.write_text("mine")
    refused = call("csv", run.folder, "--output", file)
    assert "say --force" in str(refused.exception)
    assert file.read_text() == "mine"
    assert call("csv", run.folder, "--output", file, "--force").exit_code == 0
    assert len(pd.read_csv(file)) == 4


def test_a_broken_run_is_named(run, tmp_path):
    (run.folder / SCORES_FILE).write_bytes(b"PAR1")
    done = call("csv", run.folder, "--output", tmp_path / "t.csv")
    assert str(run.folder / SCORES_FILE) in str(done.exception)
    assert not (tmp_path / "t.csv").exists()


def test_the_table_says_which_run_a_sample_is_of(run):
    assert set(samples([run])["run"]) == {run.folder.name}

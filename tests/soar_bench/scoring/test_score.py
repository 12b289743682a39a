"""``soar-bench score`` as a user runs it: images from anywhere into the records."""

from __future__ import annotations

import csv
import json
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scored_by_hand import RECORDS, by_sample, picture, shown, write_geneval
from typer.testing import CliRunner

import soar_bench as sb
from soar_bench.cli import app
from soar_bench.core.errors import SoarBenchError
from soar_bench.records import read_runs


def write_flat(folder, suffix=".png", **options):
    folder.mkdir(parents=True)
    lines = []
    for prompt, record in enumerate(RECORDS):
        for index in range(2):
            name = f"{prompt}-{index}{suffix}"
            Image.fromarray(shown(prompt, index)).save(folder / name, **options)
            lines.append(json.dumps({"file_name": name, **record, "id": f"{prompt:05d}"}) + "\n")
    (folder / "metadata.jsonl").write_text("".join(lines))
    return folder


BOTH = ("shapes-geneval", "shapes-clipscore")


@pytest.fixture(scope="module")
def generated(tmp_path_factory, tiny_pipeline, small_suite, quick):
    """A run that ``eval`` made, and the file of each of its samples by prompt id and index."""
    from soar_bench.checkpoints import resolve
    from soar_bench.evaluation import Options, prepare, run

    place = tmp_path_factory.mktemp("made")
    options = Options(place / "results", place / "cache", evaluators=BOTH)
    work = prepare(resolve(str(tiny_pipeline)), small_suite, quick, options)
    finished = run(work, options)
    return finished, [(sample, work.source.store.file(sample)) for sample in work.samples]


# What is recorded


def test_right_pictures_are_right_and_wrong_ones_wrong_and_the_record_says_whose(score, tmp_path):
    write_geneval(tmp_path / "model-a")
    run = score("model-a").run
    scores = run.scores()
    assert scores["value"].tolist() == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    assert scores["index"].tolist() == [0, 0, 0, 1, 1, 1]
    assert scores["prompt_id"].tolist() == ["00000", "00001", "00002"] * 2
    assert scores["task"].tolist() == ["single_object", "colors", "counting"] * 2
    assert scores["prompt"].tolist() == [record["prompt"] for record in RECORDS] * 2
    assert (scores["noise"] == "").all()
    record = run.record.as_json()
    assert record["checkpoint"]["label"] == "model-a"
    assert record["checkpoint"]["story"]["imported"] == {
        "layout": "GenEval's layout", "formats": {"PNG": 6}, "sizes": {"64x64": 6},
    }  # fmt: skip
    assert record["suite"]["prompts"] == 3
    assert record["suite"]["images_per_prompt"] == 2
    assert record["protocol"]["name"] == "images"
    assert record["protocol"]["settings"]["images"] == "scored, not made here"
    assert record["metrics"]["shapes_geneval"]["value"] == 0.5
    assert record["metrics"]["shapes_geneval"]["tasks"]["colors"] == 0.5
    assert record["made"]["device"] == "cpu"


def test_a_file_beside_the_record_says_which_image_got_which_score(score, tmp_path):
    import hashlib

    write_flat(tmp_path / "a")
    run = score("a").run
    with (run.folder / "files.csv").open(newline="") as stream:
        rows = {(row["prompt_id"], int(row["index"])): row for row in csv.DictReader(stream)}
    assert len(rows) == 6
    digests = by_sample(run, "image")["image"].droplevel("metric")
    for (prompt, index), row in rows.items():
        assert row["file"] == f"{int(prompt)}-{index}.png"
        pixels = shown(int(prompt), index)
        digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
        assert row["image"] == digest == digests[prompt, index]


def test_both_layouts_give_the_same_pictures_the_same_scores(score, tmp_path):
    write_geneval(tmp_path / "layout")
    write_flat(tmp_path / "flat")
    # The prompt's text is no metadata of its own in either, so even the boards are one.
    runs = [
        score(folder, evaluators="shapes-geneval,shapes-clipscore").run
        for folder in ("layout", "flat")
    ]
    columns = ("task", "prompt", "image", "value", "unscored", "details")
    pd.testing.assert_frame_equal(*(by_sample(run, *columns) for run in runs))
    assert runs[0].board == runs[1].board
    digests = {run.record.checkpoint.digest for run in runs}
    assert len(digests) == 1, "the same images in the same order are the same images"


def test_scores_and_record_equal_those_of_eval_on_its_own_images(score, tmp_path, generated):
    theirs, files = generated
    (tmp_path / "copied").mkdir()
    lines = []
    for number, (sample, file) in enumerate(files):
        shutil.copy(file, tmp_path / "copied" / f"{number}.png")
        row = {"file": f"{number}.png", "prompt": sample.prompt.text, **sample.prompt.metadata}
        lines.append(json.dumps({**row, "id": sample.prompt.id, "index": sample.index}) + "\n")
    random.Random(0).shuffle(lines)
    (tmp_path / "prompts.jsonl").write_text("".join(lines))
    ours = score("copied", "--prompts", "prompts.jsonl", evaluators=",".join(BOTH)).run
    columns = ["task", "prompt", "image", "unscored", "details"]
    pd.testing.assert_frame_equal(by_sample(ours, *columns), by_sample(theirs, *columns))
    np.testing.assert_allclose(
        by_sample(ours, "value"), by_sample(theirs, "value"), rtol=0, atol=1e-5
    )
    assert ours.scores().dtypes.to_dict() == theirs.scores().dtypes.to_dict()
    for part in ("checkpoint", "suite", "protocol", "evaluators", "metrics"):
        assert ours.record.as_json()[part].keys() == theirs.record.as_json()[part].keys()
    assert ours.record.schema_ == theirs.record.schema_
    assert ours.record.evaluators == theirs.record.evaluators
    assert ours.board != theirs.board, "it is not known how the images were made"


def test_a_jpeg_is_scored_as_its_decoder_gives_it(score, tmp_path, brightness):
    write_flat(tmp_path / "a", ".jpg", quality=60)
    run = score("a", evaluators="brightness").run
    for (_, prompt, index), value in by_sample(run, "value")["value"].items():
        with Image.open(tmp_path / "a" / f"{int(prompt)}-{index}.jpg") as image:
            assert value == np.asarray(image).mean()
    assert run.record.checkpoint.story["imported"]["formats"] == {"JPEG": 6}


def test_names_of_label_and_suite_are_taken(score, tmp_path):
    write_geneval(tmp_path / "a")
    run = score("a", "--label", "SD3.5-M, 40 steps", "--suite", "mine/1").run
    assert run.label == "SD3.5-M, 40 steps"
    assert run.record.suite.name == "mine/1"
    assert run.folder.is_relative_to(Path("results/mine_1/images"))


def test_unequal_numbers_of_images_are_noted_and_their_mean_recorded(score, tmp_path):
    write_geneval(tmp_path / "a")
    (tmp_path / "a" / "00001" / "samples" / "0001.png").unlink()
    printed = score("a")
    assert "prompts have 1 to 2 images" in printed
    assert printed.run.record.suite.images_per_prompt == pytest.approx(5 / 3, abs=1e-4)


def test_the_plan_and_the_result_are_printed(score, tmp_path):
    write_geneval(tmp_path / "a")
    shutil.copy(tmp_path / "a/00000/samples/0000.png", tmp_path / "a/00000/samples/0001.png")
    printed = score("a", evaluators="shapes-geneval,ocr")
    for words in (
        "a on prompts-",
        "6 images (PNG, 64x64) of 3 prompts (GenEval's layout)",
        "note: 1 images have the same pixels as another",
        "shapes-geneval: 6 of 6 images to score",
        "ocr: 6 of 6 images to score",
        "0.667",
        "ocr_accuracy: 6 unscored: ",
    ):
        assert words in printed, printed
    again = score("a", evaluators="shapes-geneval")
    assert "shapes-geneval: 0 of 6 images to score" in again


def test_an_evaluator_in_a_file_of_ones_own_judges_them_too(score, tmp_path):
    write_geneval(tmp_path / "a")
    (tmp_path / "mine.py").write_text(
        "from evaluators.types import Evaluator, Metric, Score\n"
        "class Height(Evaluator):\n"
        "    name = 'height'\n"
        "    metrics = (Metric('height', 'pixels', (0.0, 9999.0), True, '1', 'here', 'rows'),)\n"
        "    def score(self, samples):\n"
        "        return [{'height': Score(float(s.image.shape[0]))} for s in samples]\n"
    )
    run = score("a", evaluators="shapes-geneval,./mine.py").run
    assert set(run.record.evaluators) == {"shapes-geneval", "height"}
    assert run.record.metrics["height"].value == 64


# Beside other runs


def test_two_folders_of_one_suite_are_compared_pair_by_pair(score, tmp_path):
    write_geneval(tmp_path / "half")
    for prompt in range(3):
        place = tmp_path / "whole" / f"{prompt:05d}"
        shutil.copytree(tmp_path / "half" / f"{prompt:05d}", place)
        right = Image.fromarray(picture(RECORDS[prompt], seed=50 + prompt))
        right.save(place / "samples" / "0001.png")
    folders = [score(name).run.folder for name in ("half", "whole")]
    printed = CliRunner().invoke(app, ["compare", *map(str, folders), "--format", "csv"]).output
    assert "half (images)" in printed
    assert "whole (images)" in printed
    (row,) = [r for r in csv.DictReader(printed.splitlines()) if r["checkpoint"][:5] == "whole"]
    assert float(row["value"]) == 1.0
    assert float(row["difference"]) == 0.5


def test_on_the_leaderboard_they_have_a_board_of_their_own_that_says_what_they_are(
    score, tmp_path, generated
):
    from soar_bench.output.leaderboard import leaderboard

    shutil.copytree(generated[0].folder.parents[2], tmp_path / "results")
    write_geneval(tmp_path / "a")
    for folder in ("a", "b"):
        if folder == "b":
            shutil.copytree(tmp_path / "a", tmp_path / "b")
            Image.fromarray(picture(RECORDS[0])).save(tmp_path / "b/00000/samples/0001.png")
        options = ("--suite", "small", "--label", "same name")
        scored = score(folder, *options, evaluators=",".join(BOTH)).run
    page = leaderboard(read_runs(tmp_path / "results"), tmp_path / "results", tmp_path / "l.md")
    boards = [b for b in page.split("## ")[1:] if " under " in b.split("\n", 1)[0]]
    assert len(boards) == 2
    (board,) = [b for b in boards if b.startswith("small under images")]
    assert "3 prompts, 2 images each; images scored, not made here" in board
    assert "difference" not in board, "no base is known for images from elsewhere"
    names = set(re.findall(r"\| (same name[^|]*) \|", board))
    assert len(names) == 2, "two sets of images of one name are told apart"
    assert all(name.startswith("same name (images) (") for name in names)
    assert "step" not in board
    result = CliRunner().invoke(app, ["compare", str(generated[0].folder), str(scored.folder)])
    assert isinstance(result.exception, SoarBenchError)
    message = str(result.exception)
    for words in ("not measured alike", "protocol.images: None and scored, not made here"):
        assert words in message


QUESTIONS = {"id": 1, "question": "Is there a cat?"}


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ([{}, {}], "dpg can judge no image of .*: name another evaluator"),
        # the second prompt's twin ids are told before a judge of 17 GB is loaded
        ([{"questions": [QUESTIONS]}, {"questions": [QUESTIONS, QUESTIONS]}], "two of questions"),
    ],
)
def test_pictures_that_no_evaluator_can_judge_are_refused_before_work(
    metadata, words, tmp_path, monkeypatch
):
    from evaluators.dpg import DpgBench

    monkeypatch.setattr(DpgBench, "check", lambda self: None)
    monkeypatch.setattr(DpgBench, "identity", lambda self: {})
    monkeypatch.setattr(DpgBench, "load", lambda *_, **__: pytest.fail("work began"))
    pictures, prompts = [picture(RECORDS[0])] * 2, ["one", "two"]
    with pytest.raises(SoarBenchError, match=words):
        sb.score(pictures, prompts, metadata=metadata, evaluators=DpgBench(), results=tmp_path)

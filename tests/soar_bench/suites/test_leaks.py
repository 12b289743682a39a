"""Captions that are or hold a suite's prompts: found, counted, kept and told."""

from __future__ import annotations

import json

import numpy as np
import pytest
from forks import serve
from PIL import Image
from records_by_hand import record
from typer.testing import CliRunner

from soar_bench.boards.words import leak_notes
from soar_bench.cli import app
from soar_bench.core.errors import SoarBenchError
from soar_bench.suites import get_suite
from soar_bench.suites.leaks import counts, find, fold, of_named_suites, sentence
from soar_bench.suites.types import Prompt

PROMPTS = (Prompt("p0", "A photo of a bench."), Prompt("p1", "Café — 'TAP'"), Prompt("p2", "a dog"))


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("  A  photo,of\ta BENCH! ", "a photo of a bench"),
        ("Cafe\u0301 \u2014 \u2018tap\u2019", "café tap"),
        ("snake_case and co-op", "snake case and co op"),
        ("\uff26\uff55\uff4c\uff4c width, stra\u00dfe", "full width strasse"),
        ("...", ""),
    ],
)
def test_texts_are_folded(text, folded):
    assert fold(text) == folded


def test_captions_are_or_hold_prompts():
    captions = [
        "a photo of a bench",  # is
        "In winter: A Photo of a Bench, in snow",  # holds
        "a photo of a benchmark",  # another word
        "a photo of the bench",
        "A DOG!",  # is; too short to be held
        "a dog on a photo of a bench and a photo of a bench",  # holds p0, once
        "",
    ]
    leaks = [(leak.caption, leak.prompt.id, leak.equal) for leak in find(captions, PROMPTS)]
    assert leaks == [(0, "p0", True), (1, "p0", False), (4, "p2", True), (5, "p0", False)]
    assert counts(find(captions, PROMPTS)) == {"captions": 4, "equal": 2, "prompts": 2}


def test_a_short_prompt_at_a_captions_end_is_not_held():
    """Its first word also begins a longer prompt, for which the caption has too few words."""
    prompts = [Prompt("p0", "a cat"), Prompt("p1", "a cat sleeps")]
    assert list(find(["once I saw a cat"], prompts)) == []


def test_all_suites_that_are_here_are_counted(monkeypatch, tmp_path):
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path))  # nothing is fetched
    signs = get_suite("shapes-signs").prompts
    by_suite = of_named_suites([signs[0].text.upper(), "nothing of the kind"])
    assert set(by_suite) == {"shapes", "shapes-dev", "shapes-signs"}
    alike = [prompt for prompt in signs if fold(prompt.text) == fold(signs[0].text)]
    assert by_suite["shapes-signs"] == {"captions": 1, "equal": 1, "prompts": len(alike)}


@pytest.fixture
def data(tmp_path):
    """Captioned images, of which the second has a prompt of ``shapes-signs``."""
    prompt = get_suite("shapes-signs").prompts[3].text
    rows = []
    for number, caption in enumerate(["nothing", f"Look: {prompt.upper()}!"] * 4):
        image = np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        rows.append(json.dumps({"file_name": f"{number}.png", "text": caption}))
    (tmp_path / "metadata.jsonl").write_text("\n".join(rows))
    return tmp_path, prompt


def test_data_check_names_them(data):
    folder, prompt = data
    done = CliRunner().invoke(
        app, ["data", "check", str(folder), "--against", "shapes-signs,shapes"]
    )
    assert done.exit_code == 0, done.output
    text = " ".join(done.stdout.split())
    assert f"record 2, 'Look: {prompt.upper()}!', holds {prompt!r} of shapes-signs" in text
    assert "shapes-signs: 4 captions are or hold 1 of its" in text
    assert "shapes: 0 captions are or hold 0 of its 218 prompts" in text
    own = folder / "own.txt"
    own.write_text("Nothing!\n")
    arguments = ["data", "check", str(folder), "--against", str(own), "--json"]
    report = json.loads(CliRunner().invoke(app, arguments).stdout)
    assert report["leaks"]["own"]["captions"] == report["leaks"]["own"]["equal"] == 4
    assert [row["record"] for row in report["leaks"]["own"]["found"]] == [1, 3, 5, 7]


def test_a_checkpoint_carries_the_count_and_eval_and_compare_tell_it(
    data, tiny_pipeline, tmp_path_factory
):
    folder, _ = data
    place = tmp_path_factory.mktemp("leaks")
    with serve(place) as server:
        trained = place / "trained"
        train = (
            "train", "sft", "--base", tiny_pipeline, "--data", folder, "--steps", 1, "--output",
            trained, "--batch-size", 2, "--name", "knows", "--seed", 0,
            "--set", "resolution=64", "--set", "max_sequence_length=14", "--set", "precision=fp32",
        )  # fmt: skip
        assert server.run(*train) == 0, server.printed
        story = json.loads((trained / "checkpoint-000001" / "checkpoint.json").read_text())
        assert story["leaks"]["shapes-signs"] == {"captions": 4, "equal": 0, "prompts": 1}
        files = ("--results", place / "results", "--cache", place / "cache", "--device", "cpu")
        judge = ("eval", tiny_pipeline, trained, "--suite", "shapes-signs", "--steps", 1)
        judge += ("--evaluators", "shapes-clipscore", "--images", 1, *files)
        assert server.run(*judge) == 0, server.printed
        sentence = "knows-seed0 was trained on 4 captions that are or hold 1 of the prompts of"
        assert f"note: {sentence} shapes-signs" in " ".join(server.printed.split())
        assert server.run("compare", place / "results", "--format", "markdown") == 0, server.printed
        assert "was trained on 4 captions" in server.printed
        assert server.run("report", place / "results", "--output", place / "page") == 0
        assert sentence in (place / "page" / "index.html").read_text()


def test_suites_whose_prompts_are_not_here_are_named_at_once(data, monkeypatch, tmp_path):
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path / "home"))
    with pytest.raises(SoarBenchError, match=r"prompts of geneval .*; the prompts of ocr "):
        CliRunner().invoke(
            app, ["data", "check", str(data[0]), "--against", "geneval,ocr"], catch_exceptions=False
        )


def test_checkpoints_of_one_story_are_told_of_in_one_sentence():
    story = {"leaks": {"own": {"captions": 4, "equal": 0, "prompts": 1}}}
    assert sentence(["a, step 1", "a, step 2"], "own", story) == (
        "a, step 1; a, step 2 were trained on 4 captions that are or hold 1 of the prompts of own: "
        "their values there may be memory"
    )


def test_only_what_is_known_is_told():
    assert sentence(["x"], "s", {}) == ""
    assert sentence(["x"], "s", {"leaks": {"other": {"captions": 3, "prompts": 1}}}) == ""
    assert sentence(["x"], "s", {"leaks": {"s": {"captions": 0, "prompts": 0}}}) == ""
    assert "3 captions" in sentence(["x"], "s", {"leaks": {"s": {"captions": 3, "prompts": 1}}})
    before = {"base": {"story": {"leaks": {"s": {"captions": 3, "prompts": 1}}}}}
    assert "3 captions" in sentence(["x"], "s", before | {"leaks": {"s": {"captions": 0}}})
    assert leak_notes([]) == [] and record()["checkpoint"]["story"] == {}

"""What goes wrong while an evaluation runs, and that nothing is lost or wrongly scored."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from soar_bench.cache.images import ImageStore
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.files import home
from soar_bench.suites.types import PlannedSample, Prompt


def images_of(tmp_path):
    files = (tmp_path / "cache" / "images").rglob("*.png")
    return sorted(f for f in files if not f.name.startswith("."))


def flip_a_pixel(file: Path) -> None:
    """Other pixels under the same statements, as a damaged disk or a hand would leave."""
    from PIL import PngImagePlugin

    with Image.open(file) as image:
        words, pixels = dict(image.info), np.array(image)
    pixels[3, 2] ^= 255
    info = PngImagePlugin.PngInfo()
    for key, value in words.items():
        info.add_text(key, value)
    Image.fromarray(pixels).save(file, pnginfo=info)


@pytest.mark.parametrize("harm", ["delete", "cut", "flip", "folder"])
def test_an_image_harmed_between_generation_and_scoring_is_made_again(
    harm, evaluate, tiny_pipeline, tmp_path
):
    whole = evaluate(tiny_pipeline, results=tmp_path / "whole", cache=tmp_path / "untouched")
    harmed = []

    def observe(stage, done, total):
        if stage == "generate" and done == total and not harmed:
            victim = images_of(tmp_path)[4]
            harmed.append(victim)
            if harm == "cut":
                victim.write_bytes(victim.read_bytes()[:-200])
            elif harm == "flip":
                flip_a_pixel(victim)
            elif harm == "delete":
                victim.unlink()
            else:
                for file in images_of(tmp_path):
                    file.unlink()

    run = evaluate(tiny_pipeline, observe=observe)
    assert harmed
    pd.testing.assert_frame_equal(run.scores(), whole.scores())


def test_images_that_keep_vanishing_are_an_error_and_no_endless_loop(
    evaluate, tiny_pipeline, tmp_path
):
    def observe(stage, done, total):
        if stage == "generate" and done == total:
            images_of(tmp_path)[0].unlink()

    with pytest.raises(SoarBenchError, match="images keep vanishing"):
        evaluate(tiny_pipeline, observe=observe)


def test_a_clock_that_jumps_changes_nothing(evaluate, tiny_pipeline, tmp_path):
    whole = evaluate(tiny_pipeline)
    for number, file in enumerate(sorted((tmp_path / "cache").rglob("*"))):
        moment = 2_000_000_000 * (number % 2)  # some in 1970, some in 2033
        os.utime(file, (moment, moment))
    again = evaluate(tiny_pipeline)
    assert evaluate.generated == 0
    assert again.record == whole.record


STRANGE = [
    ("../../../etc/passwd", "a red star and ../../secret"),
    ("/absolute/path", "a path /tmp/x"),
    ("name with spaces ", "  spaces  around "),
    ("ünïcødé-星", "ein roter Stern ★ 红色的星星 🌟"),
    ("<script>alert(1)</script>", 'a "quoted" <b>star</b> & more'),
    ("new\nline\ttab", "two\nlines\tand a tab"),
    ("con", "percent %s {braces} $HOME `id`"),
    ("x" * 200, "a " * 500),
]


def test_strange_names_and_prompts_stay_inside_their_folder_and_survive_the_record(
    evaluate, tiny_pipeline, small_suite, tmp_path
):
    import dataclasses

    metadata = small_suite.prompts[0].metadata
    prompts = tuple(Prompt(name, text, metadata) for name, text in STRANGE)
    suite = dataclasses.replace(small_suite, name="../odd name 星", prompts=prompts)
    inside = {tmp_path, home() / "locks", home() / "checkpoints"}  # named by digests

    def outside():
        files = tmp_path.parent.rglob("*")
        return {p for p in files if not inside & {p, *p.parents}}

    before = outside()
    run = evaluate(tiny_pipeline, suite=suite, images_per_prompt=1)
    assert outside() == before
    assert run.folder.resolve().is_relative_to((tmp_path / "results").resolve())
    scores = pd.read_parquet(run.folder / "scores.parquet")
    assert list(zip(scores["prompt_id"], scores["prompt"], strict=True)) == STRANGE
    assert len(images_of(tmp_path)) == len(STRANGE)
    assert scores["image"].nunique() == len(STRANGE)


def test_an_unreadable_image_folder_is_named(evaluate, tiny_pipeline, tmp_path):
    evaluate(tiny_pipeline)
    folder = images_of(tmp_path)[0].parent
    for file in images_of(tmp_path):
        file.unlink()
    folder.rmdir()
    folder.write_text("in the way")
    with pytest.raises((SoarBenchError, OSError), match=str(folder)):
        evaluate(tiny_pipeline)


def test_a_truncated_record_is_written_again_without_work(evaluate, tiny_pipeline):
    whole = evaluate(tiny_pipeline)
    before = whole.scores()
    for name in ("scores.parquet", "run.json"):
        file = whole.folder / name
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        with pytest.raises(SoarBenchError, match=r"run that eval again|run the eval again"):
            from soar_bench.records import read_run

            read_run(whole.folder).scores()
        again = evaluate(tiny_pipeline)
        assert evaluate.generated == 0
        pd.testing.assert_frame_equal(again.scores(), before)


def test_an_image_is_only_taken_for_the_sample_that_it_states(tmp_path):
    store = ImageStore(tmp_path)
    one, two = (PlannedSample(Prompt("p", "a star"), i) for i in range(2))
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    store.add(one, image)
    assert np.array_equal(store.read(one), image)
    assert np.array_equal(np.asarray(Image.open(store.file(one))), image)
    store.file(two).write_bytes(store.file(one).read_bytes())
    assert store.digest(two) is None
    assert store.read(two) is None
    assert store.missing([one, two]) == [two]
    flip_a_pixel(store.file(one))
    assert store.read(one) is None


PLUG_IN = """
from evaluators.types import Evaluator, Metric, Score

class Picky(Evaluator):
    name = "picky"
    metrics = (Metric("picky", "share", (0.0, 1.0), True, "1", "this test", "brightness"),)

    def score(self, samples):
        for sample in samples:
            if sample.image[0, 0].sum() == 0 or "position" in str(sample.metadata.get("tag")):
                raise ValueError("cannot look at this one")
        return [{"picky": Score(float(s.image.mean() / 255))} for s in samples]
"""


def test_a_plug_in_that_fails_on_samples_is_seen_in_record_and_exit_code(
    tiny_pipeline, small_suite, tmp_path
):
    from typer.testing import CliRunner

    from soar_bench.cli import app

    (tmp_path / "picky.py").write_text(PLUG_IN)
    suite = tmp_path / "small.jsonl"
    lines = [{"id": p.id, "prompt": p.text, **p.metadata} for p in small_suite.prompts]
    suite.write_text("\n".join(json.dumps(line) for line in lines))
    arguments = [
        "eval", str(tiny_pipeline), "--suite", str(suite), "--protocol", "shapes", "--steps", "3",
        "--images", "1", "--evaluators", f"{tmp_path / 'picky.py'},shapes-geneval", "--device",
        "cpu", "--results", str(tmp_path / "results"), "--cache", str(tmp_path / "cache"),
    ]  # fmt: skip
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert "picky failed on 2 of the samples" in done.stderr
    (file,) = (tmp_path / "results").rglob("scores.parquet")
    scores = pd.read_parquet(file)
    picky = scores[scores["metric"] == "picky"].set_index("prompt_id")
    failed = picky.index.str.startswith("position")
    assert picky["value"].isna().tolist() == failed.tolist()
    reasons = set(picky["unscored"][failed])
    assert reasons == {"the evaluator failed: ValueError: cannot look at this one"}
    assert scores[scores["metric"] == "shapes_geneval"]["value"].notna().all()
    assert json.loads(file.with_name("run.json").read_text())["made"]["failed"] == {"picky": 2}

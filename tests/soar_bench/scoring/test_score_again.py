"""``soar-bench score`` interrupted, repeated, and given what it refuses."""

from __future__ import annotations

import os
import signal
import time

import forks
import pandas as pd
import pytest
from PIL import Image
from scored_by_hand import RECORDS, by_sample, picture, shown, write_geneval

from evaluators import registry
from evaluators.types import EvaluatorError
from soar_bench.core.errors import SoarBenchError


def test_scoring_again_costs_nothing_and_gives_the_same_record(score, tmp_path, brightness):
    write_geneval(tmp_path / "a")
    first = score("a", evaluators="brightness").run
    assert brightness.judged == 6
    again = score("a", evaluators="brightness").run
    assert brightness.judged == 6
    assert again.folder == first.folder
    pd.testing.assert_frame_equal(again.scores(), first.scores())


def test_an_evaluator_added_later_and_an_image_changed_later_cost_only_themselves(
    score, tmp_path, brightness
):
    write_geneval(tmp_path / "a")
    score("a", evaluators="shapes-geneval")
    printed = score("a", evaluators="shapes-geneval,brightness")
    assert "shapes-geneval: 0 of 6" in printed
    assert brightness.judged == 6
    before = printed.run
    Image.fromarray(picture(RECORDS[0], seed=99)).save(tmp_path / "a/00000/samples/0001.png")
    after = score("a", evaluators="shapes-geneval,brightness").run
    assert after.record.made.scored == {"shapes-geneval": 1, "brightness": 1}
    assert after.folder != before.folder, "other images are another entrant"
    changed = by_sample(after, "value")["value"]
    assert changed["shapes_geneval", "00000", 1] == 1.0
    assert by_sample(before, "value")["value"]["shapes_geneval", "00000", 1] == 0.0


def test_an_evaluator_that_fails_halfway_loses_nothing_that_was_scored(score, tmp_path, brightness):
    write_geneval(tmp_path / "a")
    brightness.fails_after = 4
    with pytest.raises(SystemExit) as end:
        score("a", "--batch-size", "2", evaluators="brightness")
    assert end.value.code == 1
    (file,) = tmp_path.rglob("scores.parquet")
    reasons = pd.read_parquet(file)["unscored"]
    assert reasons.tolist() == [""] * 4 + ["the evaluator failed: EvaluatorError: out of order"] * 2
    brightness.fails_after = 1_000_000
    printed = score("a", "--batch-size", "2", evaluators="brightness")
    assert "brightness: 2 of 6 images to score" in printed
    assert brightness.judged == 6
    assert printed.run.scores()["value"].notna().all()


def test_an_image_that_changes_while_it_is_scored_is_refused_and_the_others_are_kept(
    tmp_path, brightness
):
    from soar_bench.evaluation import Options, prepare_images, run

    write_geneval(tmp_path / "a")
    options = Options(
        tmp_path / "results", tmp_path / "cache", evaluators=("brightness",), batch_size=1
    )
    work = prepare_images(tmp_path / "a", options)
    victim = tmp_path / "a" / "00002" / "samples" / "0001.png"
    Image.fromarray(picture(RECORDS[0])).save(victim)
    with pytest.raises(SoarBenchError, match=r"0001\.png was changed while"):
        run(work, options)
    victim.write_bytes(b"")
    with pytest.raises(SoarBenchError, match=r"0001\.png is no PNG"):
        run(work, options)
    victim.unlink()
    with pytest.raises(SoarBenchError, match=r"0001\.png has gone"):
        run(work, options)
    assert brightness.judged == 5
    Image.fromarray(shown(2, 1)).save(victim)
    run(work, options)
    assert brightness.judged == 6


#: The evaluator ``brightness`` in a process of its own, half a second an image.
SLOW = """
import sys, time
from evaluators import registry
from evaluators.types import Evaluator, Metric, Score

class Slow(Evaluator):
    name = "brightness"
    metrics = (Metric("brightness", "grey", (0.0, 255.0), True, "1", "this test", "the mean"),)
    def score(self, samples):
        time.sleep(0.5)
        return [{"brightness": Score(float(s.image.mean()))} for s in samples]

sys.modules["slow_module"] = sys.modules["__main__"]
registry.BUILT_IN["brightness"] = "slow_module:Slow"
from soar_bench.cli import main
main()
"""


def test_killed_while_it_scores_the_same_command_does_only_the_rest(score, tmp_path, brightness):
    write_geneval(tmp_path / "a")
    arguments = ["score", "a", "--evaluators", "brightness", "--batch-size", "1"]
    process = forks.Process(["-c", SLOW, *arguments], tmp_path)
    deadline = time.monotonic() + 120
    kept = 0
    while kept < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
        kept = sum(f.read_text().count('"key"') for f in tmp_path.rglob("brightness-*/*/*.jsonl"))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 2 <= kept < 6
    assert not list(tmp_path.rglob("run.json"))
    run = score("a", evaluators="brightness").run
    assert run.record.made.scored["brightness"] == 6 - kept <= 4
    assert by_sample(run, "value")["value"].tolist() == [
        shown(prompt, index).mean() for prompt in range(3) for index in range(2)
    ]


# Bad input


def test_everything_is_refused_before_anything_is_scored(score, tmp_path, brightness):
    write_geneval(tmp_path / "a")

    def refused(error, *words, folder="a", options=(), evaluators="brightness"):
        with pytest.raises(error) as caught:
            score(folder, *options, evaluators=evaluators)
        message = str(caught.value)
        assert "\n" not in message
        for word in words:
            assert word in message, message

    refused(SoarBenchError, "--evaluators", "shapes-geneval", evaluators="")
    refused(EvaluatorError, "did you mean brightness", evaluators="shapes-geneval,brightnes")
    refused(SoarBenchError, "the device 'gpu' cannot be used", options=["--device", "gpu"])
    refused(SoarBenchError, "no folder of images at nowhere", folder="nowhere")
    refused(SoarBenchError, "no list of prompts at x.csv", options=["--prompts", "x.csv"])
    (tmp_path / "file").write_text("")
    refused(SoarBenchError, "nothing can be written", options=["--results", "file/results"])
    double = {**registry.BUILT_IN, "double": registry.BUILT_IN["brightness"]}
    registry.BUILT_IN = double  # put back by the fixture
    refused(SoarBenchError, "both give the metric", evaluators="brightness,double")

    broken = tmp_path / "a" / "00001" / "samples" / "0001.png"
    broken.write_bytes(broken.read_bytes()[:100])
    refused(SoarBenchError, "00001/samples/0001.png is cut off or damaged")
    for prompt in range(3):
        for file in (tmp_path / "a" / f"{prompt:05d}" / "samples").iterdir():
            file.write_text("404")
    refused(
        SoarBenchError, "6 images cannot be scored", "00000/samples/0000.png is no", "and 1 more"
    )
    assert brightness.judged == 0
    assert not list(tmp_path.rglob("scores.parquet"))


def test_an_evaluator_whose_weights_are_not_here_is_refused_before_any_image_is_read(
    score, tmp_path, monkeypatch
):
    from evaluators.shapes.clipscore import ShapesClipScore

    def check(self):
        raise EvaluatorError("the weights x are not here: run `soar-bench fetch x`")

    monkeypatch.setattr(ShapesClipScore, "check", check)
    with pytest.raises(EvaluatorError, match="soar-bench fetch x"):
        score("nowhere", evaluators="shapes-geneval,shapes-clipscore")


def test_on_the_command_line_a_mistake_is_one_sentence_and_exit_code_2(tmp_path):
    (tmp_path / "a").mkdir()
    arguments = ["-m", "soar_bench", "score", "a", "--evaluators", "shapes-geneval"]
    done = forks.run(arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "soar-bench: a holds no images (PNG, JPEG, WebP or BMP)\n"

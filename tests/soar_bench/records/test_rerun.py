"""A run made again from nothing but its record."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil

import pytest
import typer
from records_by_hand import few_scores, record, score_row, write_run
from typer.testing import CliRunner

from soar_bench.core.errors import SoarBenchError
from soar_bench.records import RUN_FILE, RunRecord, score_frame
from soar_bench.rerun import compare_runs, make, plan_again, start
from soar_bench.suites import get_suite

EVALUATOR = """
from evaluators.types import Evaluator, Metric, Score

class Brightness(Evaluator):
    name = "brightness"
    metrics = (
        Metric(name="brightness", unit="share of white", range=(0.0, 1.0), higher_is_better=True,
               version="1", source="test", description="mean of all values"),
    )

    def score(self, samples):
        values = [float(sample.image.mean()) / 255 for sample in samples]
        return [{"brightness": Score(value)} for value in values]
"""
PROMPTS = ["a red star", "two blue squares", "a green circle above a red square"]


@pytest.fixture()
def original(evaluate, tiny_pipeline, tmp_path):
    """A run of a user's own suite under a user's own evaluator."""
    (tmp_path / "my judge.py").write_text(EVALUATOR)
    (tmp_path / "my prompts.txt").write_text("\n".join(PROMPTS))
    pipeline = tmp_path / "pipeline"
    shutil.copytree(tiny_pipeline, pipeline)
    return evaluate(
        pipeline,
        suite=get_suite(str(tmp_path / "my prompts.txt")),
        evaluators=(str(tmp_path / "my judge.py"),),
        images_per_prompt=2,
        batch_size=2,
    )


@pytest.fixture()
def rerun(tmp_path):
    """rerun(run, options...) -> (exit code, standard output, standard error)."""
    from soar_bench.cli.runs import rerun as command

    app = typer.Typer()
    app.command()(command)
    places = ["--results", str(tmp_path / "results"), "--output", str(tmp_path / "reruns")]
    places += ["--evaluators", str(tmp_path / "my judge.py")]

    def go(run, *options):
        done = CliRunner().invoke(app, [str(run.folder), *places, *options])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    return go


def test_code_that_a_record_names_runs_only_where_it_is_repeated(original, tmp_path):
    """A record may come from a stranger."""
    judge = tmp_path / "my judge.py"
    judge.write_text(EVALUATOR + f"\nopen({str(tmp_path / 'ran')!r}, 'w')\n")
    for given in (str(judge), f"{judge}:Brightness", "strange.module:Judge"):
        part = original.record.evaluators["brightness"].model_copy(update={"given": given})
        strange = original.record.model_copy(update={"evaluators": {"brightness": part}})
        run = dataclasses.replace(original, record=strange)
        with pytest.raises(SoarBenchError, match=r"names code of its own .* --evaluators "):
            plan_again(run, tmp_path / "reruns")
    assert not (tmp_path / "ran").exists()
    with pytest.raises(SoarBenchError, match="names code of its own"):
        plan_again(original, tmp_path / "reruns", evaluators=["shapes-geneval"])
    plan_again(original, tmp_path / "reruns", evaluators=[str(judge)])
    assert (tmp_path / "ran").exists()


def judges(run):
    return [evaluator.given for evaluator in run.record.evaluators.values()]


def files_in(folder):
    return {f: (f.stat().st_mtime_ns, f.read_bytes()) for f in folder.rglob("*") if f.is_file()}


def test_a_run_is_made_again_from_its_record_alone_and_the_record_is_left(
    original, rerun, tmp_path
):
    shutil.rmtree(tmp_path / "cache")
    before = files_in(tmp_path / "results")
    code, out, err = rerun(original, "--json")
    assert code == 0, (out, err)
    assert files_in(tmp_path / "results") == before
    assert not (tmp_path / "cache").exists()
    printed = json.loads(out)
    assert printed["same"]
    assert printed["images"] == {"equal": 6, "samples": 6, "unmatched": 0}
    brightness = printed["metrics"]["brightness"]
    assert (brightness["equal"], brightness["greatest_difference"]) == (6, 0.0)
    assert brightness["recorded"] == brightness["again"]
    assert printed["changes"] == []
    assert "differs" not in err


def test_nothing_that_was_kept_helps(original, rerun):
    """A finished rerun is made anew, as the first one was."""
    for _ in range(2):
        code, out, _err = rerun(original)
        assert code == 0
        contents = json.loads((_last_line(out) / RUN_FILE).read_text())
        assert contents["made"]["generated"] == 6
        assert contents["made"]["scored"] == {"brightness": 6}


def _last_line(out):
    from pathlib import Path

    return Path(out.strip().splitlines()[-1])


def test_a_stopped_rerun_goes_on(original, tmp_path):
    def interrupt(stage, done, total):
        if stage == "generate" and done >= 2:
            raise KeyboardInterrupt

    def again():
        again = plan_again(original, tmp_path / "reruns", evaluators=judges(original))
        start(again)
        return again

    with pytest.raises(KeyboardInterrupt):
        make(again(), interrupt)
    compared = make(again())
    assert compared.same
    assert 0 < compared.made.record.made.generated < 6


def test_scores_that_do_not_come_out_again_are_counted_and_fail(original, rerun):
    scores = original.scores()
    scores.loc[0, "value"] += 0.25
    scores.loc[1, "value"] += 1e-7
    scores.loc[2, ["value", "unscored"]] = [None, "was unscored"]
    scores.loc[3, "image"] = "0" * 64
    write_run(original.folder.parents[2], original.record.as_json(), scores)
    code, out, _ = rerun(original, "--json")
    assert code == 1
    printed = json.loads(out)
    assert not printed["same"]
    assert printed["images"]["equal"] == 5
    brightness = printed["metrics"]["brightness"]
    assert (brightness["equal"], brightness["unscored_differs"]) == (4, 1)
    assert brightness["greatest_difference"] == pytest.approx(0.25)
    code, out, _ = rerun(original)
    assert code == 1
    assert "NOT" in out


def test_another_suite_under_the_same_name_is_refused(original, rerun, tmp_path):
    (tmp_path / "my prompts.txt").write_text("\n".join(PROMPTS[:2]))
    with pytest.raises(SoarBenchError, match=r"the suite .*my prompts\.txt is another one now"):
        rerun(original)
    assert not (tmp_path / "reruns").exists()
    code, out, err = rerun(original, "--anyway", "--json")
    assert code == 1
    assert "is another one now" in err
    images = json.loads(out)["images"]
    assert (images["samples"], images["unmatched"]) == (4, 2)


def test_another_checkpoint_under_the_same_name_is_refused(original, rerun, tmp_path):
    file = tmp_path / "pipeline" / "scheduler" / "scheduler_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({**settings, "shift": 1.5}))
    with pytest.raises(SoarBenchError, match=r"the checkpoint .*pipeline is another one now"):
        rerun(original)
    code, out, _ = rerun(original, "--anyway", "--json")
    assert code == 1
    assert json.loads(out)["images"]["equal"] < 6


def test_a_changed_evaluator_and_library_are_named_before_work_starts(original, rerun, tmp_path):
    file = tmp_path / "my judge.py"
    file.write_text(EVALUATOR.replace("/ 255", "/ 256").replace('version="1"', 'version="2"'))
    contents = original.record.as_json()
    contents["made"]["versions"]["torch"] = "0.0.1"
    contents["made"]["device"] = "cuda (NVIDIA H200)"
    write_run(original.folder.parents[2], contents, original.scores())
    code, out, err = rerun(original, "--device", "cpu", "--batch-size", "3", "--json")
    assert code == 1
    assert json.loads(out)["images"]["samples"] == 6
    for words in (
        "the evaluator brightness is another one: metrics.brightness.version was 1, is 2",
        "torch was 0.0.1, is ",
        "the device was cuda (NVIDIA H200), is cpu",
        "the batch size was 2, is 3",
    ):
        assert words in err, words
    brightness = json.loads(out)["metrics"]["brightness"]
    assert brightness["again"] == pytest.approx(brightness["recorded"] * 255 / 256)


def test_images_from_elsewhere_are_sent_to_score(tmp_path):
    story = {"imported": {"layout": "list"}}
    contents = record(form="images", story=story, name="my images", label="SD 3.5")
    run = write_run(tmp_path, contents, few_scores(0.5))
    with pytest.raises(
        SoarBenchError, match=r"soar-bench score 'my images' --evaluators judge\.py"
    ):
        plan_again(run, tmp_path / "out")


def test_a_rerun_does_not_stand_among_the_results(original, tmp_path):
    for output in (tmp_path / "results", tmp_path / "results" / "again"):
        with pytest.raises(SoarBenchError, match="another --output"):
            plan_again(original, output, results=tmp_path / "results")


def test_a_hub_checkpoint_is_asked_for_at_the_recorded_commit(original, tmp_path, monkeypatch):
    import soar_bench.checkpoints

    asked = []
    real = soar_bench.checkpoints.resolve

    def resolve(name, base=None):
        asked.append((name, base))
        return real(str(tmp_path / "pipeline"))

    monkeypatch.setattr(soar_bench.checkpoints, "resolve", resolve)
    contents = original.record.as_json()
    base = {"name": "org/base", "digest": "b"}
    contents["checkpoint"] |= {"name": "org/model@main/lora", "revision": "c0ffee", "base": base}
    run = dataclasses.replace(original, record=RunRecord.model_validate(contents))
    plan_again(run, tmp_path / "out", evaluators=judges(run))
    assert asked == [("org/model@c0ffee/lora", "org/base")]


@pytest.mark.parametrize(
    ("bounds", "values", "allowed"),
    [
        ([0.0, 1.0], (0.1, 0.2), 1e-5),
        ([-1.0, 1.0], (0.1, 0.2), 2e-5),
        ([-math.inf, math.inf], (-4.0, 2.0), 4e-5),
        ([0.0, math.inf], (0.0, 22.0), 22e-5),
    ],
)
def test_the_tolerance_is_a_part_of_the_metrics_scale(tmp_path, bounds, values, allowed):
    def run(folder, change):
        contents = record()
        contents["evaluators"]["judge"]["metrics"]["quality"]["range"] = bounds
        return write_run(tmp_path / folder, contents, few_scores(values[0], values[1] + change))

    first = run("a", 0.0)
    near, far = (
        compare_runs(first, run(name, factor * allowed))
        for name, factor in (("b", 0.9), ("c", 1.1))
    )
    assert near.metrics[0].allowed_difference == pytest.approx(allowed)
    assert near.same
    assert not far.same
    assert far.metrics[0].greatest_difference == pytest.approx(1.1 * allowed)


def test_samples_that_are_unscored_in_both_are_equal(tmp_path):
    rows = [
        score_row("p", 0, None, "t", unscored="no text"),
        score_row("q", 0, 1, "t"),
    ]
    runs = [write_run(tmp_path / name, record(), score_frame(rows)) for name in ("a", "b")]
    compared = compare_runs(*runs)
    assert compared.same
    assert (compared.metrics[0].equal, compared.metrics[0].unscored_differs) == (2, 0)

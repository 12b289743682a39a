"""Values of evaluated checkpoints in TensorBoard: one curve per training."""

from __future__ import annotations

import json

from forks import serve


def test_values_go_to_the_trackers_that_are_named(tiny_pipeline, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with serve(tmp_path) as server:
        judge = ("eval", tiny_pipeline, "--suite", "shapes-signs+limit=4", "--steps", 1,
                 "--images", 1, "--evaluators", "shapes-clipscore", "--device", "cpu")  # fmt: skip
        assert server.run(*judge, "--tracker", "tensorbord", cwd=tmp_path) == 2
        assert "did you mean tensorboard?" in server.printed
        assert server.run(*judge, "--tracker", "tensorboard", cwd=tmp_path) == 0, server.printed
    (record,) = (tmp_path / "results").rglob("run.json")
    value = json.loads(record.read_text())["metrics"]["shapes_clipscore"]["value"]
    (folder,) = (tmp_path / "outputs" / "trackers").glob("*/tensorboard")
    events = EventAccumulator(str(folder))
    events.Reload()
    tag = "shapes-signs+limit=4/shapes+steps=1/shapes_clipscore"
    (point,) = events.Scalars(tag)
    assert point.step == 0 and abs(point.value - value) < 1e-6


def test_checkpoints_of_one_name_are_a_curve_each(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from soar_bench.trainer.tracked import track
    from tests.soar_bench.records_by_hand import few_scores, record, write_run

    runs = []
    for digest, value in (("aaaaaaaa", 0.25), ("bbbbbbbb", 0.75)):
        contents = record(label="lora", digest=digest)
        summary = {"value": value, "standard_error": None, "scored": 1, "unscored": 0, "tasks": {}}
        contents["metrics"] = {"quality": summary}
        runs.append(write_run(tmp_path / "results", contents, few_scores(value)))
    track(runs, ["tensorboard"], tmp_path / "trackers")
    for name, value in (("lora (aaaaaa)", 0.25), ("lora (bbbbbb)", 0.75)):
        events = EventAccumulator(str(tmp_path / "trackers" / name / "tensorboard"))
        events.Reload()
        (tag,) = events.Tags()["scalars"]
        assert [point.value for point in events.Scalars(tag)] == [value]

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

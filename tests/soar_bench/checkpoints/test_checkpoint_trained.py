"""Checkpoints that ``soar-bench train`` writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from checkpoint_files import WEIGHTS, change, refused, settings

from soar_bench.checkpoints import (
    Checkpoint,
    digest_pipeline,
    resolve,
)


@pytest.fixture()
def trained(tiny_pipeline: Path, transformer: Path, tmp_path: Path) -> Path:
    from soar_bench.core.digests import digest_weights

    folder = tmp_path / "training" / "checkpoint-000006"
    shutil.copytree(transformer, folder / "transformer")
    story = {
        "schema": 1,
        "weights": digest_weights([transformer / WEIGHTS]),
        "base": {"name": str(tiny_pipeline), "digest": digest_pipeline(tiny_pipeline)},
        "name": "soar",
        "method": "soar",
        "step": 6,
        "seed": 3,
        "data": {"digest": "d"},
        "config": {},
    }
    (folder / "checkpoint.json").write_text(json.dumps(story))
    return folder


def test_a_training_run_is_its_last_checkpoint(trained, transformer, tiny_pipeline):
    checkpoint = resolve(str(trained.parent))
    assert checkpoint == Checkpoint(
        label="soar-seed3",
        name=str(trained.parent),
        form="transformer",
        pipeline=tiny_pipeline,
        digest=resolve(str(transformer), str(tiny_pipeline)).digest,
        base=(str(tiny_pipeline), digest_pipeline(tiny_pipeline)),
        weights=trained / "transformer",
        story=checkpoint.story,
    )
    assert checkpoint.story["step"] == 6


def test_copies_beside_a_runs_checkpoints_are_judged_only_by_name(trained):
    run = trained.parent
    for name in ("checkpoint-best", "checkpoint-999999-copy", "checkpoint-000007 (1)"):
        shutil.copytree(trained, run / name)
    assert resolve(str(run)).name == str(run)
    assert resolve(str(run)).weights == trained / "transformer"
    assert resolve(str(run / "checkpoint-best")).weights == run / "checkpoint-best/transformer"
    shutil.rmtree(trained)
    refused(f"holds some: name {run}/checkpoint-000007 .1., {run}/checkpoint-999999-copy", run)


def test_a_trained_checkpoint_stands_on_the_base_it_was_trained_from(trained, pipeline):
    assert resolve(str(trained), str(pipeline)).base is not None  # a copy is the same base
    change(pipeline / "vae" / WEIGHTS, lambda t: t["decoder.conv_out.bias"].add_(1))
    refused("was trained from another .*: restore that base, or name it", trained, pipeline)
    settings(trained / "checkpoint.json", base={"name": "/gone/away", "digest": "0"})
    refused("is named '/gone/away'", trained)


def test_a_trained_checkpoint_that_was_changed_is_refused(trained):
    change(trained / "transformer" / WEIGHTS, lambda t: t["proj_out.bias"].add_(1))
    refused("are not those that checkpoint.json names", trained)

"""Fixtures: short trainings with an evaluation and validation images."""

from __future__ import annotations

import gc
import json

import pytest
from watched import PROMPTS, PROTOCOL

from soar_bench.trainer.config import load_config


@pytest.fixture(scope="module")
def collected():
    """What is there already is not looked through whenever a model leaves memory: it takes long."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def prompts(tmp_path_factory, small_suite):
    """A user's file of three prompts, which shapes-geneval judges."""
    file = tmp_path_factory.mktemp("prompts") / "three.jsonl"
    lines = [
        {"prompt": p.text, "id": p.id, **p.metadata} for p in small_suite.prompts if "0" in p.id
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines[::2]))
    return file


@pytest.fixture(scope="module")
def config(tmp_path_factory, tiny_pipeline, prompts):
    """config(**settings): of a short training, with an evaluation and validation images."""

    def make(**changes):
        settings = {
            "base": str(tiny_pipeline),
            "data": "shapes-clean:8",
            "output": tmp_path_factory.mktemp("train") / "run",
            "steps": 2,
            "save_every": 1,
            "batch_size": 4,
            "resolution": 64,
            "max_sequence_length": 14,
            "precision": "fp32",
            "cache": None,
            "trackers": [],
            "optimizer": {"lr": 1e-2},
            "evaluation": {"every": 1, "suite": str(prompts), "protocol": PROTOCOL, "images": 1},
            "validation": {"every": 1, "prompts": PROMPTS, "protocol": PROTOCOL},
        }
        return load_config(None, {"method": "sft", **settings, **changes})

    return make

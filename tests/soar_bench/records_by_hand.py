"""Whole records made by hand: one metric over the embedded suite of signs, with tiny images."""

from __future__ import annotations

import hashlib
import math
import statistics
from pathlib import Path

import numpy as np
import pandas as pd

from soar_bench import records
from soar_bench.cache.images import ImageStore
from soar_bench.core.images import digest_image
from soar_bench.records import Run, RunDraft
from soar_bench.suites.shapes import shapes_signs
from soar_bench.suites.types import plan

SUITE = shapes_signs()
SETTINGS = {
    "steps": 20, "guidance": 3.0, "resolution": 8, "max_sequence_length": 14,
    "dtype": "float32", "vae_dtype": "float32", "noise": "philox-1",
}  # fmt: skip


def record(**checkpoint):
    """A record without values; keywords change what it says of the checkpoint."""
    return {
        "checkpoint": {
            "label": "base", "name": "base", "digest": "weights", "form": "pipeline",
            "base": None, "revision": "", "story": {}, **checkpoint,
        },
        "suite": {
            "name": SUITE.name, "digest": SUITE.digest(), "seed": SUITE.seed,
            "prompts": len(SUITE.prompts), "images_per_prompt": 1, "source": "",
        },
        "protocol": {"name": "shapes", "settings": dict(SETTINGS)},
        "evaluators": {
            "judge": {
                "given": "judge.py", "version": "1.2", "identity": {"weights": "w"},
                "metrics": {
                    "quality": {
                        "unit": "share", "range": [0.0, math.inf], "higher_is_better": True,
                        "version": "1", "source": "", "aggregate": "mean",
                    }
                },
            }
        },
        "metrics": {},
        "made": {
            "started": "2026-11-20T10:00:00+00:00", "finished": "2026-11-20T11:00:00+00:00",
            "device": "cpu", "processes": 1, "batch_size": 8, "versions": {"torch": "0.0.1"},
        },
    }  # fmt: skip


def row(identity, index, text, task, noise, image, value, reason=""):
    return {
        "prompt_id": identity, "index": index, "task": task, "prompt": text, "noise": noise,
        "image": image, "metric": "quality", "value": value, "unscored": reason, "details": "{}",
    }  # fmt: skip


def few_scores(*values):
    """Scores of samples that are in no suite."""
    return pd.DataFrame(
        [row(f"p{i}", 0, f"prompt {i}", "", "0", "0", v) for i, v in enumerate(values)]
    )


def write_run(results: Path, contents: dict, scores: pd.DataFrame) -> Run:
    """Write a record that is given as ``run.json`` has it, without ``scores`` and ``schema``."""
    return records.write_run(results, RunDraft.model_validate(contents), scores)


def whole_run(results: Path, cache: Path, unscored: int = 0, **checkpoint) -> Run:
    """A record in which everything is right, with its images in the cache: each image is grey of
    its sample's number, and a hundredth of that is its score; the last ``unscored`` have none.
    """
    said = record(**checkpoint)
    digest = said["checkpoint"]["digest"]
    store = ImageStore.of(cache, digest, SETTINGS, SUITE.seed)
    rows = []
    samples = plan(SUITE, 1)
    for number, sample in enumerate(samples):
        image = np.full((8, 8, 3), number, np.uint8)
        store.add(sample, image)
        text = f"{SUITE.seed}\n{sample.index}\n{sample.prompt.id}"
        noise = hashlib.sha256(text.encode()).hexdigest()[:32]
        scored = number < len(samples) - unscored
        rows.append(
            row(sample.prompt.id, sample.index, sample.prompt.text, sample.prompt.task, noise,
                digest_image(image), number / 100 if scored else None,
                "" if scored else "too dark")
        )  # fmt: skip
    values = [r["value"] for r in rows if r["value"] is not None]
    # One image a prompt: the clustered error is the plain one.
    said["metrics"]["quality"] = {
        "value": statistics.fmean(values),
        "standard_error": statistics.stdev(values) / math.sqrt(len(values)),
        "scored": len(values),
        "unscored": unscored,
        "tasks": {SUITE.prompts[0].task: statistics.fmean(values)},
    }
    return write_run(results, said, pd.DataFrame(rows))

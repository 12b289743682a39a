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


def declared(**changes):
    """A metric as ``run.json`` declares it."""
    return {
        "unit": "share", "range": [None, None], "higher_is_better": True, "version": "1",
        "source": "", "aggregate": "mean", **changes,
    }  # fmt: skip


def contents(label, metrics, *, story=None, suite=None, protocol=None, **checkpoint):
    """A record without values: one image of each of three prompts, and one evaluator of these
    metrics. Dicts and keywords change what it says of suite, protocol and checkpoint.
    """
    return {
        "checkpoint": {
            "label": label, "name": label, "digest": label, "revision": "",
            "form": "transformer" if story else "pipeline", "story": story or {},
            "base": {"name": "base", **story["base"]} if "base" in (story or {}) else None,
            **checkpoint,
        },
        "suite": {
            "name": "hand", "digest": "s", "seed": 1, "prompts": 3, "images_per_prompt": 1,
            "source": "", **(suite or {}),
        },
        "protocol": {"name": "p", "settings": {"steps": 20}, **(protocol or {})},
        "evaluators": {
            "judge": {"given": "judge", "version": "1", "identity": {}, "metrics": metrics}
        },
        "metrics": {},
        "made": {},
    }  # fmt: skip


def score_row(identity, index, value, text=None, **changes):
    """A line of ``scores.parquet``."""
    return {
        "prompt_id": identity, "index": index, "task": "", "prompt": text or identity,
        "noise": "0", "image": "0", "metric": "quality", "value": value, "unscored": "",
        "details": "{}", **changes,
    }  # fmt: skip


def record(**checkpoint):
    """A record of the embedded suite of signs, without values."""
    made = contents(
        checkpoint.pop("label", "base"), {"quality": declared(range=[0.0, math.inf])},
        suite={"name": SUITE.name, "digest": SUITE.digest(), "seed": SUITE.seed,
               "prompts": len(SUITE.prompts)},
        protocol={"name": "shapes", "settings": dict(SETTINGS)},
        **{"name": "base", "digest": "weights", "form": "pipeline", "base": None, **checkpoint},
    )  # fmt: skip
    made["evaluators"]["judge"] |= {"given": "judge.py", "version": "1.2"}
    made["evaluators"]["judge"]["identity"] = {"weights": "w"}
    made["made"] = {
        "started": "2026-11-20T10:00:00+00:00", "finished": "2026-11-20T11:00:00+00:00",
        "device": "cpu", "processes": 1, "batch_size": 8, "versions": {"torch": "0.0.1"},
    }  # fmt: skip
    return made


def seed_record(name, seed, step):
    """A record of one seed of a training, without values; of a pipeline where the seed is None."""
    story = {
        "name": name, "method": "soar", "step": step, "seed": seed, "base": {"digest": "b"},
        "data": {"digest": "d"}, "config": {"seed": seed},
    }  # fmt: skip
    return record(
        label=name if seed is None else f"{name}-seed{seed}", digest=f"{name}-{step}-{seed}",
        story={} if seed is None else story,
    )  # fmt: skip


def few_scores(*values):
    """Scores of samples that are in no suite."""
    return pd.DataFrame(
        [score_row(f"p{i}", 0, value, f"prompt {i}") for i, value in enumerate(values)]
    )


def write_run(results: Path, contents: dict, scores: pd.DataFrame) -> Run:
    """Write a record that is given as ``run.json`` has it, without ``scores`` and ``schema``."""
    return records.write_run(results, RunDraft.model_validate(contents), scores)


def whole_run(results: Path, cache: Path, unscored: int = 0, **checkpoint) -> Run:
    """A record in which everything is right, with its images in the cache: each image is grey of
    its sample's number, and a hundredth of that is its score; the last ``unscored`` have none.
    """
    draft = record(**checkpoint)
    digest = draft["checkpoint"]["digest"]
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
            score_row(sample.prompt.id, sample.index, number / 100 if scored else None,
                sample.prompt.text, task=sample.prompt.task, noise=noise,
                image=digest_image(image), unscored="" if scored else "too dark")
        )  # fmt: skip
    values = [r["value"] for r in rows if r["value"] is not None]
    # One image a prompt: the clustered error is the plain one.
    draft["metrics"]["quality"] = {
        "value": statistics.fmean(values),
        "standard_error": statistics.stdev(values) / math.sqrt(len(values)),
        "scored": len(values),
        "unscored": unscored,
        "tasks": {SUITE.prompts[0].task: statistics.fmean(values)},
    }
    return write_run(results, draft, pd.DataFrame(rows))


def id_of(run: Run) -> str:
    """The run's name in lists."""
    return run.folder.name.rpartition("-")[2]

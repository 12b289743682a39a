"""Records made by hand for the report: hostile texts, three metrics, images in a cache."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
from records_by_hand import contents, declared, score_row, write_run

from soar_bench.cache.images import ImageStore
from soar_bench.core.images import digest_image
from soar_bench.records import Run
from soar_bench.suites.types import PlannedSample, Prompt

PROMPTS = (
    ("p0", "a red dog", "colors"),
    ("p1", "two cats", "counting"),
    ("p2", "<script>alert(1)</script>", "counting"),
    ("p3", '</script><img src=x onerror="alert(2)">', "colors"),
    ("p4", '"onerror="alert(3)" {{ 7 * 7 }} $x^2$ café', "colors"),
    ("p5", 'a sign that says "CUP"', "sign"),
)
TOO_DARK = "<i>too dark</i>"
SEED = 7


def settings(**changes):
    return {
        "steps": 20, "guidance": 3.0, "resolution": 16, "max_sequence_length": 14,
        "dtype": "float32", "vae_dtype": "float32", "noise": "philox-1", **changes,
    }  # fmt: skip


METRICS = ("right", "distance", "read")


def evaluators(names=METRICS):
    """right: 0 or 1, by task; distance: lower is better; read: of quoted text only."""
    metrics = {
        "right": declared(range=[0.0, 1.0], aggregate="task_mean"),
        "distance": declared(range=[0.0, math.inf], higher_is_better=False, unit="<cm>"),
        "read": declared(range=[0.0, 1.0]),
    }
    return {
        name: {
            "given": name,
            "version": "1",
            "identity": {"weights": "w"},
            "metrics": {name: metric},
        }
        for name, metric in metrics.items()
        if name in names
    }


def story(name, seed, step=200, base="base"):
    return {
        "name": name, "method": name, "step": step, "seed": seed,
        "base": {"name": "base", "digest": base}, "data": {"name": "d", "digest": "d"},
        "config": {"seed": seed, "steps": 400, "method": name},
    }  # fmt: skip


def value_of(checkpoint: int, prompt: int, index: int, metric: str) -> tuple[float | None, str]:
    """(value, reason): what the hand-made world scores; the tests compute from the same table."""
    if metric == "right":
        return float((prompt + 2 * index + checkpoint * (prompt % 3)) % 3 != 0), ""
    if metric == "distance":
        if prompt == 1 and index == 1:
            return None, TOO_DARK
        return 10.0 + ((7 * prompt + 3 * index + 5 * checkpoint * (prompt % 2)) % 11) / 4, ""
    if PROMPTS[prompt % len(PROMPTS)][0] != "p5":
        return None, "the prompt quotes no text"
    return (1.0, 2 / 3)[(checkpoint + index) % 2], ""


def details_of(checkpoint: int, prompt: int, index: int, metric: str) -> dict:
    if metric == "right":
        detections = [{"label": "<b>dog</b>", "color": "red", "score": 0.9, "box": [2, 3, 9, 12]}]
        right, _ = value_of(checkpoint, prompt, index, metric)
        details = {"detections": detections}
        return details if right else {**details, "reasons": ["expected 2 cats, found <0>"]}
    if metric == "read" and prompt == 5:
        return {"recognised": [("CUP", "<C>UP")[(checkpoint + index) % 2]]}
    if metric == "distance":
        return {"note": "<u>far</u>"}
    return {}


def image_of(checkpoint: int, prompt: int, index: int) -> np.ndarray:
    """An image of its own for each; the first prompt's first is larger than a thumbnail."""
    height, width = (384, 512) if (prompt, index) == (0, 0) else (16, 16)
    image = np.full(
        (height, width, 3), (40 * checkpoint + 20, 30 * prompt % 256, 90 * index), np.uint8
    )
    image[: height // 2, : width // 2] = 255 - image[: height // 2, : width // 2]
    return image


def hand_run(
    results: Path,
    cache: Path | None,
    number: int,
    label: str,
    training: dict | None = None,
    *,
    images: int = 2,
    value=value_of,
    suite: str = "hand",
    prompts=PROMPTS,
    metrics=METRICS,
    distinct=None,
    **changes,
) -> Run:
    """One run of checkpoint ``number``; keywords left over change settings of the protocol. Its
    images are put into the cache if there is one. With ``distinct``, images repeat after so many
    prompts and only the first ones are there.
    """
    digest = "base" if number == 0 else f"weights {number} {label}"
    protocol = settings(**changes)
    store = ImageStore.of(cache, digest, protocol, SEED) if cache else None
    rows = []
    for index in range(images):
        for p, (identity, text, task) in enumerate(prompts):
            image = image_of(number, p % distinct if distinct else p, index)
            if store and p < (distinct or len(prompts)):
                store.add(PlannedSample(Prompt(identity, text), index), image)
            for metric in metrics:
                score, reason = value(number, p, index, metric)
                rows.append(
                    score_row(
                        identity, index, score, text, task=task, image=digest_image(image),
                        metric=metric, unscored=reason,
                        details=json.dumps(details_of(number, p, index, metric)),
                    )
                )  # fmt: skip
    draft = contents(
        label, {}, story=training, digest=digest,
        base={"name": "base", "digest": "base"} if training else None,
        suite={"name": suite, "seed": SEED, "prompts": len(prompts), "images_per_prompt": images},
        protocol={
            "name": "+".join(["hand", *(f"{k}={v}" for k, v in changes.items())]),
            "settings": protocol,
        },
    ) | {
        "evaluators": evaluators(metrics),
        "metrics": {metric: _summary(rows, metric) for metric in metrics},
        "made": {"versions": {"torch": "0.0.1"}, "device": "cpu"},
    }  # fmt: skip
    return write_run(results, draft, pd.DataFrame(rows))


def _summary(rows: list[dict], metric: str) -> dict:
    """What the record says of a metric: the mean over the scored samples, or over the tasks."""
    scored = [r for r in rows if r["metric"] == metric and r["value"] is not None]
    tasks: dict[str, list[float]] = {}
    for row in scored:
        tasks.setdefault(row["task"] if metric == "right" else "", []).append(row["value"])
    return {
        "value": float(np.mean([np.mean(v) for v in tasks.values()])) if scored else None,
        "standard_error": None, "scored": len(scored), "tasks": {},
        "unscored": sum(r["metric"] == metric and r["value"] is None for r in rows),
    }  # fmt: skip


#: label -> number of the checkpoint, in the order of the page
CHECKPOINTS = {"base": 0, "sft-seed0": 1, "sft-seed1": 2, "<b>soar</b>": 3}


def hand_runs(results: Path, cache: Path | None, **changes) -> list[Run]:
    """The base, two seeds of SFT and one of a training with a hostile name."""
    return [
        hand_run(results, cache, 0, "base", **changes),
        hand_run(results, cache, 1, "sft-seed0", story("sft", 0), **changes),
        hand_run(results, cache, 2, "sft-seed1", story("sft", 1), **changes),
        hand_run(results, cache, 3, "<b>soar</b>", story("<b>soar</b>", 0), **changes),
    ]


def trained(tmp_path: Path, name="sft", seed=0, step=40, **changes) -> tuple[Path, dict]:
    """A training's folder with losses up to step 60, and the story of its checkpoint."""
    folder = tmp_path / f"train {name} {seed}"
    folder.mkdir()
    training = story(name, seed, step)
    config = {"settings": training["config"], "base": "base", "data": "d", **changes}
    (folder / "config.json").write_text(json.dumps(config))
    lines = [{"step": s, "loss": 1 / s, "loss_base": 0.5, "loss_auxiliary": 0.0}
             for s in range(10, 61, 10)]  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 70, "lo'
    (folder / "metrics.jsonl").write_text(text)
    return folder, training


def look(step: int, **figures) -> dict:
    """A line of what the trainer saw."""
    return {"step": step, "watcher": "evaluation", "figures": figures}


def say(folder: Path, *looks: dict) -> None:
    """Writes the lines, and one that is torn."""
    text = "".join(json.dumps(look) + "\n" for look in looks)
    (folder / "evaluations.jsonl").write_text(text + '{"step": 20, "watcher": "eval')


def values_of(number: int, metrics=METRICS) -> dict:
    """What the trainer writes of checkpoint ``number``: each metric's value, and how many samples
    have none.
    """
    means = {}
    for metric in metrics:
        values = [(PROMPTS[p][2], value_of(number, p, k, metric)[0])
                  for p in range(6) for k in range(2)]  # fmt: skip
        scored = [(task if metric == "right" else "", v) for task, v in values if v is not None]
        tasks = {task for task, _ in scored}
        means[metric] = float(np.mean([np.mean([v for t, v in scored if t == task])
                                       for task in tasks]))  # fmt: skip
        if len(scored) < len(values):
            means[f"{metric}/unscored"] = len(values) - len(scored)
    return means


def evaluated(tmp_path: Path, name="sft", seed=0, first=1, **changes) -> tuple[Path, dict]:
    """A training that looked at the base, at steps 20 and 40, and later at 60, with its records."""
    folder, training = trained(tmp_path, name, seed)
    looks = []
    for step, number in ((0, 0), (20, first), (40, first + 1), (60, first + 2)):
        of = story(name, seed, step) if step else None
        hand_run(folder / "results", None, number, f"c{step}", of, **changes)
        looks.append(look(step, **values_of(number, changes.get("metrics", METRICS))))
    say(folder, *looks)
    return folder, training

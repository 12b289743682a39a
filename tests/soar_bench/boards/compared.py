"""Records of a metric or two made by hand, and `soar-bench compare` on them."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
from records_by_hand import contents, declared, score_row
from typer.testing import CliRunner

from soar_bench.cli import app

NAN = math.nan


def record(label, metrics, steps=20, story=None, images=1):
    return contents(
        label, metrics, story=story, digest=f"{label}{steps}", suite={"images_per_prompt": images},
        protocol={"name": f"steps={steps}", "settings": {"steps": steps}},
    )  # fmt: skip


def rows_of(metric, values, tasks=None, texts=None):
    """``values``: [prompts] or [prompts, images]; NaN is unscored."""
    table = np.asarray(values, dtype=float)
    table = table[:, None] if table.ndim == 1 else table
    return [
        score_row(
            f"p{i:03d}", k, None if math.isnan(value) else value,
            texts[i] if texts else f"prompt {i}", metric=metric, task=tasks[i] if tasks else "",
            unscored="too dark" if math.isnan(value) else "",
        )
        for i, values in enumerate(table) for k, value in enumerate(values)
    ]  # fmt: skip


def story(name, seed):
    return {
        "name": name, "method": "sft", "step": 1, "seed": seed, "base": {"digest": "b"},
        "data": {"digest": "d"}, "config": {"seed": seed},
    }  # fmt: skip


def invoked(*arguments, width=100):
    return CliRunner().invoke(
        app, ["compare", *map(str, arguments)], env={"COLUMNS": str(width), "TERM": "dumb"}
    )


def printed(*arguments, width=100):
    result = invoked(*arguments, width=width)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def table_of(*arguments):
    return list(csv.DictReader(io.StringIO(printed(*arguments, "--format", "csv"))))


# The gate


def shifted(place, shift, metric="m", higher=True, prompts=40, noise=0.2):
    """Two checkpoints whose paired differences have this mean and deviation exactly."""
    rng = np.random.default_rng(6)
    base, d = rng.normal(size=(2, prompts))
    d = (d - d.mean()) / d.std(ddof=1)
    declare = {metric: declared(higher_is_better=higher)}
    a = place("a", {metric: base}, declare)
    b = place("b", {metric: base + noise * d + shift}, declare)
    return a, b, noise / math.sqrt(prompts)

"""Settings of training."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bad_inputs import Bad


def settings(place: Path) -> Iterator[Bad]:
    from soar_bench.trainer.config import Config
    from soar_bench.trainer.settings import settings_of

    texts = (
        "",
        "5",
        "[1]",
        "a: [",
        "\0",
        "a: b: c",
        "method: 5",
        "unknown: 1",
        "{",
        "- a\n- b",
        "steps: !!python/object:os.system x",
        "&a [*a]",
        "\ud800",
    )
    for number, text in enumerate(texts):
        file = place / f"{number}.yaml"
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        yield "configs", ["train", "sft", "--config", str(file), "--dry-run"]
    names = [setting.name for setting in settings_of(Config)]
    for name, value in itertools.product(names, ("{a: 1}", "[[1]]")):
        yield (
            "settings",
            ["train", "sft", "--base", "shapes", "--dry-run", "--set", f"{name}={value}"],
        )
    for word in (
        "steps",
        "=5",
        "steps=",
        "steps=-1",
        "steps=x",
        "lora.rank=-1",
        "nothing.at=1",
        "soar.x=1",
        "steps=.nan",
        "optimizer.lr=.inf",
        "optimizer.lr=-1",
        "batch_size=0",
        "resolution=7",
        "precision=fp8",
        "seed=1e99",
        "images.on_broken=perhaps",
        "steps={",
        "a.b.c.d=1",
    ):
        yield "settings", ["train", "soar", "--base", "shapes", "--dry-run", "--set", word]

"""Records, imports and curves of drift."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bad_inputs import Bad


def records(place: Path) -> Iterator[Bad]:
    committed = sorted((Path(__file__).parents[2] / "results" / "shapes").rglob("run.json"))[0]
    whole = json.loads(committed.read_text())
    contents: dict[str, bytes] = {
        "empty": b"",
        "text": b"no json",
        "list": b"[]",
        "deep": b"[" * 100_000,
        "nul": b"\0",
        "schema": b'{"schema": 99}',
        "none": b"{}",
        "latin1": b'{"a": "\xfc"}',
    }
    for key in whole:
        if key != "made":
            for value in (None, 5, "text", [1]):
                contents[f"{key}-{value}"] = json.dumps({**whole, key: value}).encode()
    for number, content in enumerate(contents.values()):
        run = place / str(number) / "shapes" / "shapes" / "base-00000000"
        run.mkdir(parents=True)
        shutil.copy(committed.with_name("scores.parquet"), run)
        (run / "run.json").write_bytes(content)
        at = ["--results", str(place / str(number))]
        yield "records", ["runs", "show", "00000000", *at]
        yield "records", ["compare", "00000000", *at]
        yield "records", ["export", "csv", "00000000", "--output", str(place / "x.csv"), *at]
    for name, content in (("scores.parquet", b"no parquet"), ("scores.parquet", b"")):
        run = place / f"{name}-{len(content)}" / "shapes" / "shapes" / "base-00000000"
        run.mkdir(parents=True)
        shutil.copy(committed, run)
        (run / name).write_bytes(content)
        yield "records", ["compare", "00000000", "--results", str(run.parents[2])]
    for name, text in (
        ("a", ""),
        ("b", "no json"),
        ("c", "{}"),
        ("d", "[1]"),
        ("e", "[" * 100_000),
    ):
        (place / f"{name}.jsonl").write_text(text)
        yield "imports", ["import", str(place / f"{name}.jsonl"), "--label", "x"]
        (place / f"{name}.csv").write_text(text)
        yield "drift", ["report", str(place), "--drift", str(place / f"{name}.csv")]

"""Arguments of commands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.bad_inputs import Bad


def arguments(place: Path) -> Iterator[Bad]:
    one = ["eval", "shapes", "--suite", "one.txt", "--dry-run"]
    for option, values in {
        "--steps": ("0", "-1", "x", "1,x", ",", "1e9", "nan"),
        "--guidance": ("-1", "x", "nan", "inf", "1,,x"),
        "--resolution": ("0", "7", "63", "x", "1.5", "99999999"),
        "--images": ("0", "-1", "x", "1.5", "10000000000"),
        "--seed": ("-1", "x", "1.5"),
        "--batch-size": ("0", "-1", "x", "1.5"),
        "--dtype": ("float8", "x", ""),
        "--evaluator-dtype": ("float8", ""),
        "--device": ("gpu", "cuda:99", "x", ""),
        "--evaluators": (
            "nothing",
            "a.py",
            "/nowhere/a.py",
            "os:path",
            "json:",
            ":X",
            "os:nothing",
            "shapes-clip",
        ),
        "--suite": ("nothing", "nowhere.txt", "a.csv", "/", "", "one"),
        "--protocol": (
            "nothing",
            "shapes+",
            "shapes+steps=x",
            "shapes+nothing=1",
            "+",
            "shapes+steps=-1",
        ),
        "--max-sequence-length": ("0", "-1", "x"),
        "--results": ("/proc", "/proc/x", "/dev/null/x", "one.txt"),
        "--cache": ("/proc", "/proc/x", "/dev/null/x", "one.txt"),
        "--nothing": ("1",),
    }.items():
        for value in values:
            yield "arguments", [*one, option, value]
    for nowhere in ("/proc/x.png", "/dev/null/x.png", "one.txt/x.png"):
        for command in ("leaderboard --format md", "report", "drift shapes --dry-run"):
            yield "outputs", [*command.split(), "--output", nowhere]
        yield "outputs", ["rerun", "nothing", "--output", nowhere]
        yield "outputs", ["export", "csv", "nothing", "--output", nowhere]
        yield "outputs", ["evaluators", "new", "mine", "--output", nowhere]
        yield "outputs", ["shapes", "render", nowhere]
    for words in (
        ["nothing"],
        ["eval"],
        ["train"],
        ["train", "nothing"],
        ["score"],
        ["compare"],
        ["rerun"],
        ["import"],
        ["rerun", "nowhere"],
        ["compare", "nowhere"],
        ["compare", "a", "b", "--level", "2"],
        ["compare", ".", "--level", "0"],
        ["compare", ".", "--detect", "-1"],
        ["compare", ".", "--margin", "1"],
        ["compare", ".", "--format", "pdf"],
        ["runs"],
        ["runs", "show"],
        ["runs", "show", ""],
        ["runs", "show", "nowhere"],
        ["runs", "delete", "nowhere"],
        ["runs", "list", "--results", "nowhere"],
        ["runs", "verify", "--results", "nowhere"],
        ["leaderboard", "--results", "nowhere"],
        ["leaderboard", "--format", "pdf"],
        ["report", "nowhere"],
        ["drift"],
        ["drift", "nowhere"],
        ["drift", "shapes", "--steps", "0"],
        ["suites", "nothing"],
        ["suites", "nowhere.jsonl"],
        ["evaluators", "show", "nothing"],
        ["evaluators", "show"],
        ["evaluators", "new"],
        ["fetch", "nothing"],
        ["fetch", "--checkpoint", "a"],
        ["fetch", "--suite", "nothing"],
        ["fetch", "--mirror", "x"],
        ["export", "csv", "nowhere", "--output", "x.csv"],
        ["export", "card", "nowhere"],
        ["import", "nowhere.jsonl", "--label", "x"],
        ["data", "check"],
        ["data", "stats", "nowhere"],
        ["data", "check", "shapes-clean:4", "--base", "nothing"],
        ["shapes", "render", "nothing", "x"],
        ["train", "sft", "--seeds", "x"],
        ["train", "sft", "--seeds", "1", "--seed", "2"],
        ["train", "sft", "--config", "nowhere.yaml"],
        ["train", "sft", "--base", "nothing", "--dry-run"],
        ["quickstart", "--steps", "0"],
        ["--nothing"],
        ["eval", "shapes", "shapes", "--base"],
        ["score", "nowhere", "--evaluators", "ocr"],
    ):
        yield "arguments", words

"""Evaluators of the package that ``plug_ins`` pretends is installed."""

from __future__ import annotations

from evaluators.types import Evaluator, Metric
from evaluators.weights import WeightFile, Weights

HEAD = Weights(
    "head",
    (WeightFile("a.bin", "https://here.example/a.bin", size=3_000_000),
     WeightFile("b.bin", "https://here.example/b.bin", size=500)),
    "MIT",
    "here",
)  # fmt: skip


class Headed(Evaluator):
    name = "headed"
    metrics = (
        Metric("one", "points; about 3", (0, float("inf")), False, "7", "a paper", "All of it.",
               licence="CC0"),
        Metric("two", "points", (float("-inf"), float("inf")), True, "8", "a paper", "The rest."),
    )  # fmt: skip
    weights = (HEAD,)

    def score(self, samples):
        return []


class HeadedToo(Headed):
    name = "headed-too"


def fails():
    raise SystemExit("out of tune")


def talks():
    print("hello from a plug-in")
    return Headed()

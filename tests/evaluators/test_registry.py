"""Finding evaluators, and the contract every one of them keeps."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from evaluators import registry
from evaluators.types import Evaluator, EvaluatorError, Metric, Sample, Score
from soar_bench.shapes.render import Scene, Sign, Thing, render


def samples():
    star = Scene("white", (Thing("star", "red", 20, 28, 9),))
    record = {"tag": "single_object", "include": [{"class": "star", "count": 1}]}
    sign = Scene("mist", sign=Sign("CAT", 16))
    blank = np.full((64, 64, 3), 250, np.uint8)
    return [
        Sample(render(star), "a photo of a star", record),
        Sample(render(sign), 'a photo of a sign saying "CAT"', {"tag": "sign", "include": []}),
        Sample(blank, "a photo of a star", record),
    ]


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_built_in_evaluators_keep_the_contract(name):
    evaluator = registry.create(name)
    assert evaluator.name == name
    evaluator.check()
    evaluator.load()
    together = evaluator.score(samples())
    assert len(together) == 3
    for metric in evaluator.metrics:
        assert metric.unit
        assert metric.source
        assert metric.version
        for result in together:
            score = result[metric.name]
            assert (score.value is None) == bool(score.unscored)
            if score.value is not None:
                assert metric.range[0] <= score.value <= metric.range[1]
    back = evaluator.score(samples()[::-1])[::-1]
    alone = [evaluator.score([sample])[0] for sample in samples()]
    for metric in evaluator.metrics:
        for other in (back, alone):
            for a, b in zip(together, other, strict=True):
                assert a[metric.name].value == pytest.approx(b[metric.name].value, abs=1e-5)
    assert evaluator.score([]) == []


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(EvaluatorError, match=r"no evaluator is named 'orc'.*did you mean ocr"):
        registry.create("orc")


class Constant(Evaluator):
    name = "constant"
    metrics = (Metric("c", "none", (0, 1), True, "1", "here", "always a half"),)

    def score(self, batch):
        return [{"c": Score(0.5)} for _ in batch]


def plug_in(monkeypatch, **targets):
    module = types.ModuleType("plugged_in")
    module.Constant = Constant
    module.NoEvaluator = dict
    monkeypatch.setitem(sys.modules, "plugged_in", module)
    monkeypatch.setattr(registry, "_plugged_in", lambda: targets)


def test_a_plug_in_is_found_by_name(monkeypatch):
    plug_in(monkeypatch, constant="plugged_in:Constant")
    assert "constant" in registry.names()
    assert registry.create("constant").score(samples())[0]["c"].value == 0.5


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("absent_module:X", "'broken'.*does not import.*absent_module"),
        ("plugged_in:Absent", "'broken'.*does not import"),
        ("plugged_in:NoEvaluator", r"is no evaluators\.types\.Evaluator"),
    ],
)
def test_a_broken_plug_in_is_reported_by_name_and_stops_nothing_else(monkeypatch, target, message):
    plug_in(monkeypatch, broken=target, constant="plugged_in:Constant")
    with pytest.raises(EvaluatorError, match=message):
        registry.create("broken")
    assert registry.create("constant").name == "constant"


def test_a_score_is_a_value_or_a_reason():
    with pytest.raises(ValueError, match="either a value or a reason"):
        Score(None)
    with pytest.raises(ValueError, match="either a value or a reason"):
        Score(1.0, unscored="but why")
    with pytest.raises(ValueError, match="finite"):
        Score(float("nan"))

"""Which runs `soar-bench compare` takes, and what it refuses."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest
from compared import printed, record, rows_of, table_of
from records_by_hand import declared, write_run

from soar_bench.core.errors import SoarBenchError


def test_what_was_not_measured_alike_is_refused_naming_the_setting(place):
    place("a", {"m": [1.0, 2.0]})
    place("b", {"m": [1.0, 2.0]}, steps=10)
    with pytest.raises(SoarBenchError, match=r"protocol\.steps: 20 and 10|steps: 10 and 20"):
        printed(place.results)


def test_a_metric_or_an_evaluator_that_one_run_lacks_is_named_with_the_run_that_has_it(place):
    a = place("a", {"m": [1.0, 2.0], "extra": [1.0, 2.0]})
    b = place("b", {"m": [1.0, 2.0]})
    says = r"^a and b were not measured alike \(only a has the metric extra\) and cannot"
    with pytest.raises(SoarBenchError, match=says):
        printed(a, b)
    run = record("c", {"m": declared()})
    second = record("c", {"more": declared()})["evaluators"]["judge"]
    run["evaluators"]["second"] = second
    c = write_run(place.results, run, pd.DataFrame(rows_of("m", [1.0, 2.0]))).folder
    with pytest.raises(SoarBenchError, match=r"\(only c has the evaluator second\)"):
        printed(b, c)


def test_one_checkpoint_under_two_settings_is_never_one_row(place):
    """Named for what differs; without --anyway it is refused, not passed over."""
    place("a", {"m": [1.0, 2.0, 3.0]})
    run = record("a", {"m": declared()}, steps=10)
    run["checkpoint"]["digest"] = "a20"
    write_run(place.results, run, pd.DataFrame(rows_of("m", [1.0, 2.5, 3.0])))
    with pytest.raises(SoarBenchError, match="not measured alike"):
        printed(place.results)
    rows = table_of(place.results, "--anyway")
    names = {row["checkpoint"] for row in rows}
    assert names == {"a, hand under steps=10", "a, hand under steps=20"}


def test_anyway_compares_what_both_have_and_marks_it_everywhere(place):
    """Prompt 1 has another text, metric extra and the second images are on one side only."""
    texts = ["prompt 0", "another", "prompt 2", "prompt 3"]
    a = place("a", {"m": [1.0, 50.0, 3.0, 5.5], "extra": [1.0, 1.0, 1.0, 1.0]})
    two = [[2.0, 90.0], [60.0, 90.0], [5.0, 90.0], [6.0, 90.0]]
    b = place("b", {"m": two}, steps=10, texts=texts, images=2)
    rows = table_of(a, b, "--anyway")
    assert [(row["metric"], row["checkpoint"]) for row in rows] == [("m", "a"), ("m", "b")]
    assert {row["measured_alike"] for row in rows} == {"False"}
    assert float(rows[0]["value"]) == pytest.approx(9.5 / 3)
    assert float(rows[1]["difference"]) == pytest.approx(3.5 / 3)
    assert rows[1]["common_prompts"] == "3"
    assert rows[1]["verdict"].endswith("(not measured alike)")
    for form in ("terminal", "markdown", "latex", "json"):
        text = " ".join(printed(a, b, "--anyway", "--format", form).split())
        assert "NOT MEASURED ALIKE" in text, form
        assert "steps: 20 and 10" in text.replace("\\", ""), form
    assert json.loads(printed(a, b, "--anyway", "--format", "json"))["measured_alike"] is False


def test_anyway_marks_only_those_that_were_measured_otherwise(place):
    folders = [place(name, {"m": [1.0, 2.0, x]}) for name, x in (("a", 3.0), ("b", 4.0))]
    folders.append(place("c", {"m": [1.0, 2.0, 5.0]}, steps=10))
    marks = {row["checkpoint"]: row["measured_alike"] for row in table_of(*folders, "--anyway")}
    assert marks == {"a": "False", "b": "True", "c": "False"}


def test_anyway_refuses_where_nothing_is_common(place):
    a = place("a", {"m": [1.0, 2.0]})
    b = place("b", {"other": [1.0, 2.0]}, steps=10)
    c = place("c", {"m": [1.0, 2.0]}, steps=10, texts=["x", "y"])
    d = place("d", {"m": [1.0, 2.0]}, {"m": declared(higher_is_better=False)}, steps=10)
    for folder in (b, d):
        with pytest.raises(SoarBenchError, match="no metric in common"):
            printed(a, folder, "--anyway")
    with pytest.raises(SoarBenchError, match="no prompt in common"):
        printed(a, c, "--anyway")


# Bad input


def test_one_checkpoint_is_nothing_to_compare(place):
    folder = place("alone", {"m": [1.0, 2.0]})
    for arguments in ([folder], [folder, folder], [place.results]):
        with pytest.raises(SoarBenchError, match="needs two checkpoints: there is one, alone"):
            printed(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "absent"], "no metric 'absent' here: there are m"),
        (["--level", "95"], "--level takes a number between 0 and 1, not 95"),
        (["--detect", "-0.1"], "--detect takes a positive number"),
        (["--detect", "nan"], "--detect takes a positive number"),
    ],
)
def test_options_that_make_no_sense_are_refused(place, arguments, message):
    place("a", {"m": [1.0, 2.0]})
    place("b", {"m": [1.0, 2.0]})
    with pytest.raises(SoarBenchError, match=re.escape(message)):
        printed(place.results, *arguments)


def test_a_run_that_is_not_there_is_named(place, tmp_path):
    place("a", {"m": [1.0, 2.0]})
    with pytest.raises(SoarBenchError, match="there is no run in nowhere"):
        printed("nowhere", "--results", tmp_path / "absent")
    with pytest.raises(SoarBenchError, match="is named 'nowhere'"):
        printed("nowhere", "--results", place.results)

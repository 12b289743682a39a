"""JSON nested deeper than Python's stack, wherever a file of somebody's is read."""

from __future__ import annotations

import pytest

from evaluators.loading import read_config
from evaluators.types import EvaluatorError, Score
from evaluators.weights import DIGESTS_FILE, recorded
from soar_bench.cache.scores import Journal
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.text import parse_json
from soar_bench.report.curves import read_steps
from soar_bench.report.drift import read

DEEP = "[" * 100_000


def test_it_is_a_value_error_as_other_damage():
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json(DEEP)
    assert parse_json(b'{"a": [1]}') == {"a": [1]}


def test_lines_of_journals_and_notes_beside_files_are_passed_over(tmp_path):
    ranges = {"m": (0.0, 1.0)}
    Journal(tmp_path, ranges).add([("k", {"m": Score(0.5)})])
    file = next(tmp_path.glob("*.jsonl"))
    file.write_text(f"{DEEP}\n{file.read_text()}")
    assert Journal(tmp_path, ranges).get("k") == {"m": Score(0.5)}
    (tmp_path / "metrics.jsonl").write_text(f'{DEEP}\n{{"step": 2}}\n')
    assert list(read_steps(tmp_path / "metrics.jsonl")) == [{"step": 2}]
    (tmp_path / DIGESTS_FILE).write_text(DEEP)
    assert recorded(tmp_path) == {}


def test_files_that_matter_are_named(tmp_path):
    file = tmp_path / "a.json"
    file.write_text(DEEP)
    with pytest.raises(SoarBenchError, match=r"a\.json cannot be read \(it is nested too deeply"):
        read(file)
    with pytest.raises(EvaluatorError, match=r"a\.json is no configuration of a model"):
        read_config(file, dict, "a model")

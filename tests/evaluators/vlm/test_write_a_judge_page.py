"""The page's judge is complete and keeps the contract."""

from __future__ import annotations

import re
from pathlib import Path

from evaluators import catalogue, check_evaluator, registry
from evaluators.golden import vlm

PAGE = Path(__file__).parents[3] / "docs" / "write-a-judge.md"


def test_the_pages_judge_keeps_the_contract(tmp_path):
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)[0]
    file = tmp_path / "tidiness.py"
    file.write_text(code, "utf-8")
    kind = type(registry.create(str(file)))
    weights = vlm.weights(tmp_path / "model", catalogue.QWEN3_VL_8B)
    check_evaluator(lambda: kind(weights, canary=False), processes=False)

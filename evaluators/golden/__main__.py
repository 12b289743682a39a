"""``python -m evaluators.golden`` records the golden values of the evaluators that can run here.

Use it after raising a metric's version; the difference of ``expected.json`` shows what changed.
Evaluators that cannot run here keep their recorded values.
"""

from __future__ import annotations

import json
import sys

from evaluators.golden.cases import EXPECTED_FILE, TINY, expected, measure, tiny_evaluator
from evaluators.types import EvaluatorError


def main() -> None:
    recorded = expected() if EXPECTED_FILE.exists() else {}
    for name in TINY:
        with tiny_evaluator(name) as evaluator:
            try:
                evaluator.check()
            except EvaluatorError as error:
                print(f"{name}: kept, because {error}", file=sys.stderr)
                continue
            values = measure(evaluator)
        for column in values.values():
            column[:] = [None if value is None else round(value, 7) for value in column]
        recorded[name] = values
    text = json.dumps({name: recorded[name] for name in TINY if name in recorded}, indent=1)
    EXPECTED_FILE.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()

"""Records of prompts made by hand."""

from __future__ import annotations

import json

BENCH = {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a bench"}
COWS = {
    "tag": "counting",
    "include": [{"class": "cow", "count": 2}],
    "exclude": [{"class": "cow", "count": 3}],
    "prompt": "two cows",
}
LEFT = {
    "tag": "position",
    "include": [
        {"class": "cup", "count": 1},
        {"class": "dog", "count": 1, "position": ["left of", 0]},
    ],
    "prompt": "a dog left of a cup",
}


def lines(*records: object) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)

"""Noun phrases of a prompt: the things that a picture must show.

The released script finds them with spaCy at every run. Here they come from the prompt's metadata,
or, for T2I-CompBench's own prompts, from a packaged table that was made with spaCy once
(benchmarks/noun_phrases.py). Imports neither spaCy nor torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

#: Places of the phrases by :func:`key_of` of the prompt; no text.
FILE = Path(__file__).parent / "phrases.json"
#: Phrases of a prompt that count, as in the released script.
MOST = 8


def key_of(prompt: str) -> str:
    """Return the start of a prompt's SHA-256, which stands for it in the table."""
    return hashlib.sha256(prompt.strip().encode("utf-8")).hexdigest()[:12]


def phrases_of(prompt: str, metadata: Mapping[str, Any]) -> list[str]:
    """Return the metadata's ``phrases``, or those of a known prompt; none of any other."""
    own = metadata.get("phrases")
    if isinstance(own, list) and all(isinstance(phrase, str) for phrase in own):
        return [phrase for phrase in own if phrase.strip()][:MOST]
    text = prompt.strip()
    return [text[start:end] for start, end in _table()["spans"].get(key_of(text), ())][:MOST]


@cache
def _table() -> dict[str, Any]:
    return json.loads(FILE.read_text("utf-8"))

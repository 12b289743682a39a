"""Prompt files."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.bad_inputs import SHORT, WRONG, Bad


def prompt_files(place: Path) -> Iterator[Bad]:
    deep = "[" * 100_000
    texts = {
        "txt": {
            "empty": b"",
            "blank": b"\n \n\t\n",
            "nul": b"a\0b\n",
            "latin1": "grün\n".encode("latin-1"),
            "utf16": "a star\n".encode("utf-16"),
            "cr": b"one\rtwo\r",
            "long": b"a" * 10_001,
            "half": b"\xed\xa0\x80\n",
            "binary": bytes(range(256)),
        },
        "csv": {
            "empty": b"",
            "header": b"prompt\n",
            "column": b"text\na star\n",
            "twice": b"prompt,prompt\na,b\n",
            "few": b"prompt,id\na\n",
            "many": b"prompt\na,b\n",
            "quote": b'prompt\n"a star\n',
            "quotes": b'prompt\n"a"b\n',
            "nul": b"prompt\na\0\n",
            "blank": b"prompt,id\n,x\n",
            "ids": b"prompt,id\na,x\nb,x\n",
            "some": b"prompt,id\na,x\nb,\n",
            "latin1": b"prompt\ngr\xfcn\n",
            "long": b"prompt\n" + b"a" * 10_001 + b"\n",
            "id": b"prompt,id\na," + b"x" * 201 + b"\n",
            "field": b"prompt,x\na," + b"x" * 140_000 + b"\n",
        },
        "jsonl": {
            "empty": b"",
            "word": b"star\n",
            "open": b'{"prompt": "a"\n',
            "list": b"[1]\n",
            "number": b"5\n",
            "none": b"{}\n",
            "deep": deep.encode(),
            "huge": b'{"prompt":"a","n":' + b"9" * 5000 + b"}",
            "nan": b'{"prompt":"a","n":NaN}\n',
            "infinite": b'{"prompt":"a","n":1e999}\n',
            "half": b'{"prompt":"\\ud800"}\n',
            "ids": b'{"prompt":"a","id":"x"}\n{"prompt":"b","id":"x"}\n',
            "some": b'{"prompt":"a","id":"x"}\n{"prompt":"b"}\n',
            "id": b'{"prompt":"a","id":"%s"}\n' % (b"x" * 201),
            "nul": b'{"prompt":"a\0"}\n',
        },
    }
    for form, faults in texts.items():
        for name, content in faults.items():
            file = place / f"{name}.{form}"
            file.write_bytes(content)
            yield "prompts", ["suites", str(file)]
            yield "prompts", ["eval", "shapes", "--suite", str(file), "--dry-run", *SHORT]
    for key, value in itertools.product(("prompt", "id", "tag", "task"), WRONG):
        harmless = key != "prompt" and (value is None or isinstance(value, str))
        harmless |= key == "id" and value == -1
        if not (harmless or (key == "prompt" and value == "text")):
            file = place / f"{key}-{WRONG.index(value)}.jsonl"
            record = {"prompt": "a", "id": "x", key: value}
            file.write_text(json.dumps(record) + "\n")
            yield "prompts", ["suites", str(file)]
    clause: dict[str, Any] = {
        "class": "star",
        "count": 1,
        "color": "red",
        "position": ["left of", 0],
    }
    for key, value in itertools.product(clause, WRONG):
        file = place / f"clause-{key}-{WRONG.index(value)}.jsonl"
        second = {**clause, key: value}
        if key == "color" and value == "text":
            continue
        include = [{"class": "circle", "count": 1}, second]
        file.write_text(json.dumps({"prompt": "a", "tag": "position", "include": include}) + "\n")
        yield "rules", ["eval", "shapes", "--suite", str(file), "--dry-run", "--steps", "1"]

"""Readers of the published prompt sets.

The project contains none of their prompts: ``soar-bench fetch`` brings the files (pinned in
:mod:`soar_bench.fetch.file_sets`), and a file with another digest is not read. Imports no torch.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from soar_bench.core.errors import SoarBenchError
from soar_bench.core.rows import read_rows, read_text
from soar_bench.fetch.file_sets import PROMPT_SETS
from soar_bench.suites.types import Prompt


def numbered(name: str, texts: Iterable[str]) -> tuple[Prompt, ...]:
    """Return prompts with ids ``NAME-00000``, ``NAME-00001`` and so on, in the texts' order."""
    return tuple(Prompt(f"{name}-{i:05d}", text) for i, text in enumerate(texts))


def is_fetched(name: str) -> bool:
    """Return whether the files of a set are here; :func:`read` sees whether they are whole."""
    return all(item.target.is_file() for item in PROMPT_SETS[name].items)


def read(name: str) -> tuple[Prompt, ...]:
    """Return the prompts of a set. SoarBenchError if a file is absent or not the published one.

    A line is a prompt; a repeated line is one prompt at its first place. Records become metadata;
    the number in an id is the prompt's place, in GenEval that of its own folder.
    """
    items = PROMPT_SETS[name].items
    for item in items:
        if not item.target.is_file():
            raise SoarBenchError(
                f"the prompts of {name} are not here ({item.target}): "
                f"run `soar-bench fetch --suite {name}`"
            )
        if item.wrong_content():
            raise SoarBenchError(
                f"{item.target} is damaged or another file: run `soar-bench fetch --suite {name}`, "
                "which replaces it"
            )
    files = [item.target for item in items]
    return _READERS.get(files[0].suffix, _lines)(name, files)


def _lines(name: str, files: Sequence[Path]) -> tuple[Prompt, ...]:
    """Return a prompt per line; where there are several files, the task is the file's name."""
    if len(files) == 1:
        return numbered(name, dict.fromkeys(row.values["prompt"] for row in read_rows(files[0])))
    prompts = []
    for file in files:
        task = file.stem.removesuffix("_val")
        texts = dict.fromkeys(row.values["prompt"] for row in read_rows(file))
        prompts += [replace(p, metadata={"tag": task}) for p in numbered(f"{name}-{task}", texts)]
    return tuple(prompts)


def _records(name: str, files: Sequence[Path]) -> tuple[Prompt, ...]:
    """Return a prompt per record; the task of GenEval 2's is their number of atoms."""
    records = [dict(row.values) for row in read_rows(files[0])]
    for record in records:
        if "atom_count" in record:
            record["tag"] = f"{record['atom_count']:02d} atoms"
    prompts = numbered(name, [record["prompt"] for record in records])
    return tuple(replace(p, metadata=r) for p, r in zip(prompts, records, strict=True))


def _parti(name: str, files: Sequence[Path]) -> tuple[Prompt, ...]:
    """Return rows of prompt, category (the task), challenge and note; nothing is quoted."""
    _, *lines = files[0].read_text("utf-8").split("\n")
    rows = [line.split("\t") for line in lines if line]
    prompts = numbered(name, [row[0] for row in rows])
    return tuple(
        replace(prompt, metadata={"tag": category, "challenge": challenge})
        for prompt, (_, category, challenge, _) in zip(prompts, rows, strict=True)
    )


def _dpg(_name: str, files: Sequence[Path]) -> tuple[Prompt, ...]:
    """Return DPG-Bench's prompts under its own ids, each with its rows as questions."""
    # Not read_rows: a published table is read as its own script reads it, and refuses nothing.
    rows = list(csv.DictReader(io.StringIO(read_text(files[0]), newline="")))
    texts = {row["item_id"]: row["text"].strip() for row in reversed(rows)}  # of the first row
    questions: dict[str, dict[int, dict[str, Any]]] = {row["item_id"]: {} for row in rows}
    for row in rows:
        number = int(row["proposition_id"])
        questions[row["item_id"]][number] = {
            "id": number,
            "question": row["question_natural_language"].strip(),
            "parents": [int(parent) for parent in row["dependency"].split(",")],
            "category": row["tuple"].partition("(")[0].strip(),
        }
    return tuple(
        Prompt(id, texts[id], {"questions": list(asked.values())})
        for id, asked in questions.items()
    )


#: Readers by the ending of a set's files; ``.txt`` has a prompt per line.
_READERS: dict[str, Callable[[str, Sequence[Path]], tuple[Prompt, ...]]] = {
    ".jsonl": _records,
    ".tsv": _parti,
    ".csv": _dpg,
}

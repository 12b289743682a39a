"""A user's own suite, from a file of prompts: TXT, CSV or JSONL.

The same prompts, tasks and metadata are the same suite in each of the three, whatever their line
ends. docs/suites.md shows the forms. Imports no torch.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from soar_bench.core.errors import SoarBenchError
from soar_bench.core.rows import Row, cell_value, is_table, read_rows
from soar_bench.core.text import short_json
from soar_bench.suites.prompts import numbered
from soar_bench.suites.types import Prompt, Suite

#: What a file of prompts ends in.
SUFFIXES = (".txt", ".csv", ".jsonl")
LONGEST_PROMPT = 10_000  # characters; far beyond what any text encoder reads
LONGEST_ID = 200

#: Judges of prompts that come with nothing to be checked.
PREFERENCE = ("pickscore", "clipscore", "hpsv21", "aesthetic", "image-reward")
_GENEVAL_IMAGES = 4  # a prompt, as GenEval asks


@dataclass(frozen=True)
class _Record:
    """What a file says of one prompt, checked."""

    #: for errors: the file and the line
    where: str
    text: str
    metadata: Mapping[str, Any]
    #: None where the file gives none
    id: str | None = None


def read_suite(name: str) -> Suite:
    """The suite in a file, with seed 0.

    A record that the file repeats is one prompt: where all are repeated equally often, so many
    images are made of each. SoarBenchError that names file and line if anything is wrong with it.
    """
    file = Path(name)
    if not file.stem.isprintable():  # it becomes the suite's name
        raise SoarBenchError(f"the name of {name!r} cannot be shown: rename the file")
    rows = read_rows(file, column="prompt")
    records = [_checked(row.where, _values(row)) for row in rows]
    if not records:
        raise SoarBenchError(f"{file} holds no prompts")
    evaluators, images = _judges(records)
    prompts, repeats = _distinct(file.stem, records)
    description = f"{len(prompts)} prompts from {name}"
    if repeats > 1:
        images = repeats
    elif len(prompts) < len(records):
        description += f"; {len(records) - len(prompts)} lines that repeat others do not count"
    return Suite(
        name=file.stem,
        description=description,
        prompts=prompts,
        evaluators=evaluators,
        images_per_prompt=images,
        source=name,
    )


def _distinct(stem: str, records: Sequence[_Record]) -> tuple[tuple[Prompt, ...], int]:
    """The prompts, and how often each is repeated; 1 where that differs from prompt to prompt."""
    if any(r.id is not None for r in records):
        seen: dict[str, str] = {}
        for r in records:
            if r.id is None:
                raise SoarBenchError(f"{r.where} has no id, as others have: give every line one")
            if r.id in seen:
                raise SoarBenchError(
                    f"{r.where} has the id {r.id!r}, which is that of {seen[r.id]}"
                )
            seen[r.id] = r.where
        return tuple(Prompt(str(r.id), r.text, r.metadata) for r in records), 1
    keys = [json.dumps([r.text, r.metadata], sort_keys=True) for r in records]
    distinct = dict(zip(keys, records, strict=True))  # in the order in which they come first
    named = numbered(stem, [r.text for r in distinct.values()])
    prompts = tuple(
        replace(p, metadata=r.metadata) for p, r in zip(named, distinct.values(), strict=True)
    )
    times = set(Counter(keys).values())
    return prompts, times.pop() if len(times) == 1 else 1


def _judges(records: Sequence[_Record]) -> tuple[tuple[str, ...], int]:
    """The evaluators that can judge every record, and how many images they want of a prompt."""
    if not all("include" in r.metadata for r in records):
        return PREFERENCE, 1
    from evaluators.geneval.detectors.names import OBJECT_NAMES
    from evaluators.shapes.geometry import SHAPES

    worlds = {"geneval": OBJECT_NAMES, "shapes-geneval": SHAPES}
    wrong = {name: _first_wrong(records, classes) for name, classes in worlds.items()}
    for name, fault in wrong.items():
        if fault is None:
            return (name,), _GENEVAL_IMAGES
    raise SoarBenchError(str(wrong["geneval"]))


def _first_wrong(records: Sequence[_Record], classes: Sequence[str]) -> str | None:
    """The first record that GenEval's rules could not judge, and why."""
    from evaluators.geneval.record import is_geneval, what_is_wrong
    from evaluators.geneval.rules import TASKS

    for r in records:
        wrong = what_is_wrong(r.metadata, classes)
        if wrong is None and not is_geneval(r.metadata):
            wrong = f"its tag is {r.metadata.get('tag')!r}, none of {', '.join(TASKS)}"
        if wrong is not None:
            return f"{r.where} has include but is no GenEval record: {wrong}"
    return None


def _values(row: Row) -> dict[str, Any]:
    """The values of a row without those that are absent: null, or an empty cell of a table.

    An empty ``prompt`` or ``id`` in a table is not absent, and will be refused.
    """
    if not is_table(row.file):
        return {name: value for name, value in row.values.items() if value is not None}
    texts = {name: row.values.pop(name) for name in ("prompt", "id") if name in row.values}
    return texts | {name: cell_value(cell) for name, cell in row.values.items() if cell.strip()}


def _checked(where: str, values: Mapping[str, Any]) -> _Record:
    """A record from ``prompt``, ``id``, and what else a line says, which is its metadata."""
    rest = dict(values)
    text = rest.pop("prompt", None)
    if text is None:
        raise SoarBenchError(f"{where} has no prompt")
    if not isinstance(text, str):
        raise SoarBenchError(f"{where}: prompt must be a text, not {short_json(text)}")
    text = text.strip()
    if not text:
        raise SoarBenchError(f"{where} has an empty prompt")
    if len(text) > LONGEST_PROMPT:
        raise SoarBenchError(
            f"{where} has a prompt of {len(text):,} characters; up to {LONGEST_PROMPT:,} are read"
        )
    id = _checked_id(where, rest.pop("id", None))
    if "\0" in text + (id or ""):
        raise SoarBenchError(f"{where} holds a NUL character: remove it")
    return _Record(where, text, _metadata(where, rest), id)


def _checked_id(where: str, id: Any) -> str | None:
    if id is None:
        return None
    if isinstance(id, bool) or not isinstance(id, str | int):
        raise SoarBenchError(f"{where}: id must be a text or a whole number, not {short_json(id)}")
    text = str(id)
    if not text.strip():
        raise SoarBenchError(f"{where} has an empty id")
    if len(text) > LONGEST_ID:
        raise SoarBenchError(
            f"{where} has an id of {len(text):,} characters; up to {LONGEST_ID} are read"
        )
    return text


def _metadata(where: str, rest: dict[str, Any]) -> dict[str, Any]:
    """``metadata`` and further keys together; ``task`` is another word for ``tag``."""
    nested = rest.pop("metadata", {})
    if not isinstance(nested, dict):
        raise SoarBenchError(f"{where}: metadata must be an object, not {short_json(nested)}")
    twice = sorted(nested.keys() & rest.keys())
    if twice:
        raise SoarBenchError(f"{where} has {twice[0]} twice: inside metadata and beside it")
    metadata = {**nested, **rest}
    if "task" in metadata and "tag" not in metadata:
        metadata["tag"] = metadata.pop("task")
    if not isinstance(metadata.get("tag", ""), str):
        raise SoarBenchError(f"{where}: tag must be a text, not {short_json(metadata['tag'])}")
    return metadata

"""Read a user's own suite from a file of prompts: TXT, CSV or JSONL.

The same prompts, tasks and metadata give the same suite in each of the three. docs/suites.md shows
the forms. Imports no torch.
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

#: Endings of files of prompts.
SUFFIXES = (".txt", ".csv", ".jsonl")
LONGEST_PROMPT = 10_000  # characters; far beyond what any text encoder reads
LONGEST_ID = 200

#: Evaluators of prompts without metadata that could be checked.
PREFERENCE = ("pickscore", "clipscore", "hpsv21", "aesthetic", "image-reward")
_GENEVAL_IMAGES = 4  # per prompt, as GenEval asks


@dataclass(frozen=True)
class _Record:
    """One prompt of a file, checked."""

    #: file and line, for errors
    where: str
    text: str
    metadata: Mapping[str, Any]
    #: None if the file has no ids
    id: str | None = None


def read_suite(name: str) -> Suite:
    """Return the suite of a file, with seed 0.

    A record that the file repeats is one prompt. If all are repeated equally often, that is the
    number of images per prompt. SoarBenchError names file and line if anything is wrong.
    """
    file = Path(name)
    if not file.stem.isprintable():  # it becomes the suite's name
        raise SoarBenchError(f"the name of {name!r} cannot be shown: rename the file")
    records = [_record(row.where, _values(row)) for row in read_rows(file, column="prompt")]
    if not records:
        raise SoarBenchError(f"{file} holds no prompts")
    evaluators, images = _evaluators(records)
    prompts, repeats = _prompts(file.stem, records)
    images = repeats if repeats > 1 else images
    prompts = tuple(replace(prompt, folder=str(file.parent)) for prompt in prompts)
    description = f"{len(prompts)} prompts from {name}"
    if repeats == 1 and len(prompts) < len(records):
        description += f"; {len(records) - len(prompts)} lines that repeat others do not count"
    return Suite(file.stem, description, prompts, evaluators, images_per_prompt=images, source=name)


def _prompts(stem: str, records: Sequence[_Record]) -> tuple[tuple[Prompt, ...], int]:
    """Return the distinct prompts and how often each is repeated, or 1 if that differs."""
    if any(record.id is not None for record in records):
        _check_ids(records)
        return tuple(Prompt(str(r.id), r.text, r.metadata) for r in records), 1
    keys = [json.dumps([r.text, r.metadata], sort_keys=True) for r in records]
    distinct = dict(zip(keys, records, strict=True)).values()  # in the order of their first places
    prompts = numbered(stem, (record.text for record in distinct))
    times = set(Counter(keys).values())
    return (
        tuple(replace(p, metadata=r.metadata) for p, r in zip(prompts, distinct, strict=True)),
        times.pop() if len(times) == 1 else 1,
    )


def _check_ids(records: Sequence[_Record]) -> None:
    """Raise SoarBenchError unless every record has an id of its own."""
    where_of: dict[str, str] = {}
    for record in records:
        where, id = record.where, record.id
        if id is None:
            raise SoarBenchError(f"{where} has no id, as others have: give every line one")
        if id in where_of:
            raise SoarBenchError(f"{where} has the id {id!r}, which is that of {where_of[id]}")
        where_of[id] = where


def _evaluators(records: Sequence[_Record]) -> tuple[tuple[str, ...], int]:
    """Return the evaluators that can judge every record, and their images per prompt."""
    if not all("include" in r.metadata for r in records):
        return PREFERENCE, 1
    from evaluators.geneval.detectors.names import OBJECT_NAMES
    from evaluators.shapes.geometry import SHAPES

    classes = {"geneval": OBJECT_NAMES, "shapes-geneval": SHAPES}
    faults = {name: _geneval_fault(records, names) for name, names in classes.items()}
    for name, fault in faults.items():
        if fault is None:
            return (name,), _GENEVAL_IMAGES
    nearest = max(classes, key=lambda name: _known(records, classes[name]))
    raise SoarBenchError(str(faults[nearest]))


def _known(records: Sequence[_Record], classes: Sequence[str]) -> int:
    """Return how many of the objects that records ask for are among ``classes``."""
    included = [clause for r in records if isinstance(r.metadata["include"], list)
                for clause in r.metadata["include"] if isinstance(clause, dict)]  # fmt: skip
    return sum(clause.get("class") in classes for clause in included)


def _geneval_fault(records: Sequence[_Record], classes: Sequence[str]) -> str | None:
    """Return which record GenEval's rules could not judge, and why; None if there is none."""
    from evaluators.geneval.record import is_geneval, what_is_wrong
    from evaluators.geneval.rules import TASKS

    for record in records:
        fault = what_is_wrong(record.metadata, classes)
        if fault is None and not is_geneval(record.metadata):
            fault = f"its tag is {record.metadata.get('tag')!r}, none of {', '.join(TASKS)}"
        if fault is not None:
            return f"{record.where} has include but is no GenEval record: {fault}"
    return None


def _values(row: Row) -> dict[str, Any]:
    """Return the values of a row without absent ones: null, or an empty cell of a table.

    An empty ``prompt`` or ``id`` in a table is not absent, and will be refused.
    """
    if not is_table(row.file):
        return {name: value for name, value in row.values.items() if value is not None}
    texts = {name: row.values.pop(name) for name in ("prompt", "id") if name in row.values}
    return texts | {name: cell_value(cell) for name, cell in row.values.items() if cell.strip()}


def _record(where: str, values: dict[str, Any]) -> _Record:
    """Return the record of a row: ``prompt``, ``id``, and all other values as its metadata."""
    text = values.pop("prompt", None)
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
    id = _id(where, values.pop("id", None))
    if "\0" in text + (id or ""):
        raise SoarBenchError(f"{where} holds a NUL character: remove it")
    return _Record(where, text, _metadata(where, values), id)


def _id(where: str, id: Any) -> str | None:
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


def _metadata(where: str, values: dict[str, Any]) -> dict[str, Any]:
    """Return ``metadata`` and the other values together, with ``task`` renamed to ``tag``."""
    nested = values.pop("metadata", {})
    if not isinstance(nested, dict):
        raise SoarBenchError(f"{where}: metadata must be an object, not {short_json(nested)}")
    repeated = sorted(nested.keys() & values.keys())
    if repeated:
        raise SoarBenchError(f"{where} has {repeated[0]} twice: inside metadata and beside it")
    metadata = nested | values
    if "task" in metadata and "tag" not in metadata:
        metadata["tag"] = metadata.pop("task")
    if not isinstance(metadata.get("tag", ""), str):
        raise SoarBenchError(f"{where}: tag must be a text, not {short_json(metadata['tag'])}")
    return metadata

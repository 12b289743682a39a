"""A user's own suite, from a file of prompts: TXT, CSV or JSONL.

The same prompts, tasks and metadata are the same suite in each of the three, whatever their line
ends. docs/suites.md shows the forms. Imports no torch.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from soar_bench.core.errors import SoarBenchError
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
    text = _read_text(file)
    reader = {".txt": _text_lines, ".csv": _table_rows, ".jsonl": _json_lines}[file.suffix.lower()]
    records = [_checked(*record) for record in reader(file, text)]
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


def _checked(where: str, found: Mapping[str, Any]) -> _Record:
    """A record from ``prompt``, ``id``, and what else a line says, which is its metadata."""
    rest = dict(found)
    text = rest.pop("prompt", None)
    if text is None:
        raise SoarBenchError(f"{where} has no prompt")
    if not isinstance(text, str):
        raise SoarBenchError(f"{where}: prompt must be a text, not {_short(text)}")
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
        raise SoarBenchError(f"{where}: id must be a text or a whole number, not {_short(id)}")
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
        raise SoarBenchError(f"{where}: metadata must be an object, not {_short(nested)}")
    twice = sorted(nested.keys() & rest.keys())
    if twice:
        raise SoarBenchError(f"{where} has {twice[0]} twice: inside metadata and beside it")
    metadata = {**nested, **rest}
    if "task" in metadata and "tag" not in metadata:
        metadata["tag"] = metadata.pop("task")
    if not isinstance(metadata.get("tag", ""), str):
        raise SoarBenchError(f"{where}: tag must be a text, not {_short(metadata['tag'])}")
    return metadata


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:39] + "…"


# Reading


def _read_text(file: Path) -> str:
    try:
        content = file.read_bytes().removeprefix(b"\xef\xbb\xbf")  # the mark of Windows' editors
    except OSError as error:
        raise SoarBenchError(f"{file} cannot be read: {error.strerror}") from None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SoarBenchError(
            f"{file}, line {line} is not UTF-8 text ({error.reason}): save the file as UTF-8"
        ) from None
    at = text.find("\0")
    if at >= 0:
        line = text.count("\n", 0, at) + 1
        raise SoarBenchError(f"{file}, line {line} holds a NUL character: save the file as UTF-8")
    return text


def _lines(file: Path, text: str) -> Iterator[tuple[str, str]]:
    """Lines that are not blank. Only line feeds end a line: a prompt may hold other separators."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{file}, line {number}", line.strip()


def _text_lines(file: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for where, line in _lines(file, text):
        if "\r" in line:
            raise SoarBenchError(
                f"{where} holds a carriage return: save the file with line feeds (Unix) or "
                "carriage returns and line feeds (Windows) as line ends"
            )
        yield where, {"prompt": line}


def _json_lines(file: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for where, line in _lines(file, text):
        try:
            record = _json(line)
        except json.JSONDecodeError as error:
            raise SoarBenchError(
                f"{where} is not JSON: {error.msg} (at character {error.colno})"
            ) from None
        except (ValueError, RecursionError) as error:
            raise SoarBenchError(f"{where} is not JSON: {error}") from None
        if not isinstance(record, dict):
            raise SoarBenchError(
                f'{where} must be one JSON object, such as {{"prompt": "a cat"}}; it is '
                f"{_short(record)}"
            )
        yield where, {key: value for key, value in record.items() if value is not None}


def _json(text: str) -> Any:
    """A JSON value that can be written again. ValueError for NaN and for half a character."""
    value = json.loads(text)
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    return value


def _table_rows(file: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows by column; an empty cell is absent but for ``prompt`` and ``id``."""
    header: list[str] = []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for cells in reader:
            where, line = f"{file}, line {line}", reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = _checked_header(where, [cell.strip() for cell in cells])
                continue
            if len(cells) != len(header):
                raise SoarBenchError(
                    f"{where} has {len(cells)} cells where the header has {len(header)}: a text "
                    'with a comma or a line break stands in "quotes", and a quote in it is doubled'
                )
            named = {name: cell for name, cell in zip(header, cells, strict=True) if name}
            kept = {n: c for n, c in named.items() if c.strip() or n in ("prompt", "id")}
            yield where, {n: c if n in ("prompt", "id") else _cell(c) for n, c in kept.items()}
    except csv.Error as error:
        raise SoarBenchError(f"{file}, line {line} is not CSV: {error}") from None


def _checked_header(where: str, header: list[str]) -> list[str]:
    twice = [name for name, count in Counter(header).items() if name and count > 1]
    if twice:
        raise SoarBenchError(f"{where} has more than one column {twice[0]}")
    if "prompt" not in header:
        raise SoarBenchError(
            f"{where} must be a header with the column prompt; its columns are {', '.join(header)}"
        )
    return header


def _cell(text: str) -> Any:
    """The cell's text, or the list or object that it holds in JSON, as GenEval's include is."""
    if text[0] not in "[{":
        return text
    try:
        return _json(text)
    except (ValueError, RecursionError):
        return text

"""Read TXT, CSV, TSV and JSONL files row by row, with file and line in every error.

- TXT: one text per line, as ``{"prompt": text}``.
- CSV, TSV: the first row that is not blank names the columns; a cell is a string. A column without
  a name, as pandas writes its index, is passed over.
- JSONL: one JSON object per line.

Files are UTF-8, with or without the byte order mark of Windows' editors and with either line end.
Only line feeds end a line, because a text may hold other separators such as U+2028. Blank lines are
passed over. Imports no torch.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soar_bench.core.errors import SoarBenchError
from soar_bench.core.text import short_json

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
#: Why a text is none, most likely of UTF-16.
NUL = "holds a NUL character: save the file as UTF-8"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file."""

    file: Path
    #: the row's first line, counted from 1
    line: int
    #: by column or key
    values: dict[str, Any]
    #: why the row is not whole, to follow :attr:`where` in a sentence; empty if it is. With one,
    #: ``values`` are the cells of a row that has too few, else nothing
    fault: str = ""

    @property
    def where(self) -> str:
        """The file and the line, as errors name them."""
        return f"{self.file}, line {self.line}"


def read_rows(
    file: Path, column: str = "", writable: bool = True, suffix: str = ""
) -> Iterator[Row]:
    """Yield the rows of a file, every one of them whole; not rows of empty cells.

    ``column`` is a column that a table must have. ``writable`` refuses JSON values that cannot be
    written as JSON again: NaN, infinities and halves of surrogate pairs. ``suffix`` (``.jsonl``)
    is the form of a file without one in its name. SoarBenchError, with file and line, at the first
    row that is not whole and for a file that cannot be read.
    """
    table = (suffix or file.suffix.lower()) in _DELIMITERS
    for row in scan_rows(file, column, suffix):
        if fault := row.fault or (_json_fault(row.values) if writable else ""):
            raise SoarBenchError(f"{row.where} {fault}")
        if row.values or not table:
            yield row


def scan_rows(file: Path, column: str = "", suffix: str = "") -> Iterator[Row]:
    """Yield the rows of a file, also those that are not whole, which have a fault.

    SoarBenchError for a file that cannot be read, is not UTF-8, or is no table despite its name.
    """
    text, suffix = read_text(file), suffix or file.suffix.lower()
    if suffix in _DELIMITERS:
        yield from _table(file, text, column, _DELIMITERS[suffix])
        return
    read = _json_object if suffix in (".jsonl", ".ndjson") else _text
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            values, fault = ({}, NUL) if "\0" in line else read(line.strip())
            yield Row(file, number, values, fault)


def is_table(file: Path) -> bool:
    """Return whether a file's name says that it is a CSV or TSV."""
    return file.suffix.lower() in _DELIMITERS


def read_text(file: Path) -> str:
    """Return a file's UTF-8 text without its byte order mark. SoarBenchError if it has none."""
    if file.exists() and not file.is_file():  # opening a pipe waits for ever
        raise SoarBenchError(f"{file} is no file: name one that holds the text")
    try:
        content = file.read_bytes().removeprefix(b"\xef\xbb\xbf")
        return content.decode("utf-8")
    except OSError as error:
        raise SoarBenchError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SoarBenchError(
            f"{file}, line {line} is not UTF-8 text ({error.reason}): save the file as UTF-8"
        ) from None


def cell_value(text: str) -> Any:
    """Return the list or object that a table's cell holds as JSON, or the cell's text itself."""
    if text[:1] not in ("[", "{"):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if _json_fault(value) else value


def _json_fault(value: Any) -> str:
    """Return why a value cannot be written as JSON in UTF-8; empty if it can."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        return f"is not JSON: {error}"
    return ""


def _text(line: str) -> tuple[dict[str, Any], str]:
    if "\r" not in line:
        return {"prompt": line}, ""
    return {}, (
        "holds a carriage return: save the file with line feeds (Unix) or carriage returns and "
        "line feeds (Windows) as line ends"
    )


def _json_object(line: str) -> tuple[dict[str, Any], str]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        return {}, f"is not JSON: {error.msg} (at character {error.colno})"
    except ValueError:
        return {}, "is not JSON: a number has too many digits"
    except RecursionError:
        return {}, "is not JSON: it is nested too deeply"
    if isinstance(value, dict):
        return value, ""
    return {}, f'must be one JSON object, such as {{"name": "value"}}; it is {short_json(value)}'


def _table(file: Path, text: str, column: str, delimiter: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    line = 1
    try:
        for cells in reader:
            number, line = line, reader.line_num + 1
            blank = not any(cell.strip() for cell in cells)
            if not header and not blank:
                header = [cell.strip() for cell in cells]
                if fault := _header_fault(header, column):
                    raise SoarBenchError(f"{file}, line {number} {fault}")
            elif header and cells:
                values, fault = ({}, "") if blank else _cells(header, cells)
                yield Row(file, number, values, fault)
    except csv.Error as error:
        raise SoarBenchError(f"{file}, line {line} is not CSV: {error}") from None


def _header_fault(header: list[str], column: str) -> str:
    names = ", ".join(header)
    if "\0" in names:
        return NUL
    for name in header:
        if name and header.count(name) > 1:
            return f"has more than one column {name}"
    missing = f"must be a header with the column {column}; its columns are {names}"
    return missing if column and column not in header else ""


def _cells(header: list[str], cells: list[str]) -> tuple[dict[str, Any], str]:
    if "\0" in "".join(cells):
        return {}, NUL
    # A row with too many cells has a comma too many, nobody knows where.
    whole = len(cells) <= len(header)
    values = {name: cell for name, cell in zip(header, cells, strict=False) if name and whole}
    if len(cells) == len(header):
        return values, ""
    return values, (
        f"has {len(cells)} cells where the header has {len(header)}: a text with a comma, tab or "
        'line break stands in "quotes", and a quote in it is doubled'
    )

"""Read TXT, CSV, TSV and JSONL files row by row, with file and line in every error.

- TXT: one text per line, given as ``{"prompt": text}``.
- CSV, TSV: the first row that is not blank names the columns; a cell is a string.
- JSONL: one JSON object per line.

Files are UTF-8, with or without the byte order mark of Windows' editors and with either line end.
Only line feeds end a line, because a text may hold other separators such as U+2028. Blank lines are
passed over. Imports no torch.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soar_bench.core.errors import SoarBenchError
from soar_bench.core.text import short_json

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file."""

    file: Path
    #: the row's first line, counted from 1
    line: int
    #: by column or key
    values: dict[str, Any]
    #: why the row is not whole, to follow :attr:`where` in a sentence; empty if it is. ``values``
    #: are then the cells of a row that has too few, and nothing for any other fault
    fault: str = ""

    @property
    def where(self) -> str:
        """The file and the line, as errors name them."""
        return f"{self.file}, line {self.line}"


def read_rows(
    file: Path,
    column: str = "",
    writable: bool = True,
    error: type[SoarBenchError] = SoarBenchError,
) -> Iterator[Row]:
    """Yield the rows of a file, every one of them whole; not rows of empty cells.

    ``column`` is a column that a table must have. ``writable`` refuses JSON values that cannot be
    written as JSON again: NaN, infinities and halves of surrogate pairs. Raises ``error``, with
    file and line, at the first row that is not whole and for a file that cannot be read.
    """
    for row in scan_rows(file, column, error):
        if row.fault:
            raise error(f"{row.where} {row.fault}")
        if is_table(file) and not row.values:
            continue
        if writable:
            try:
                _check_writable(row.values)
            except (ValueError, RecursionError) as reason:
                raise error(f"{row.where} is not JSON: {reason}") from None
        yield row


def scan_rows(
    file: Path, column: str = "", error: type[SoarBenchError] = SoarBenchError
) -> Iterator[Row]:
    """Yield the rows of a file, also those that are not whole, which have a fault.

    Raises ``error`` for a file that cannot be read, is not UTF-8, or is no table where its name
    says so.
    """
    text = read_text(file, error)
    if is_table(file):
        yield from _table(file, text, column, error)
        return
    read = _json_line if file.suffix.lower() in (".jsonl", ".ndjson") else _text_line
    for number, line in enumerate(text.split("\n"), start=1):
        if "\0" in line:
            yield Row(file, number, {}, _NUL)
        elif line.strip():
            yield read(file, number, line.strip())


def is_table(file: Path) -> bool:
    """Return whether a file's name says that it is a CSV or TSV."""
    return file.suffix.lower() in _DELIMITERS


def read_text(file: Path, error: type[SoarBenchError] = SoarBenchError) -> str:
    """Return a file's UTF-8 text without its byte order mark; raise ``error`` if it has none."""
    try:
        content = file.read_bytes().removeprefix(_BYTE_ORDER_MARK)
    except OSError as reason:
        raise error(f"{file} cannot be read: {reason.strerror}") from None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as reason:
        line = content.count(b"\n", 0, reason.start) + 1
        raise error(
            f"{file}, line {line} is not UTF-8 text ({reason.reason}): save the file as UTF-8"
        ) from None


def cell_value(text: str) -> Any:
    """Return the list or object that a table's cell holds as JSON, or the cell's text itself."""
    if text[:1] not in ("[", "{"):
        return text
    try:
        value = json.loads(text)
        _check_writable(value)
    except (ValueError, RecursionError):
        return text
    return value


_NUL = "holds a NUL character: save the file as UTF-8"


def _text_line(file: Path, number: int, line: str) -> Row:
    if "\r" not in line:
        return Row(file, number, {"prompt": line})
    fault = (
        "holds a carriage return: save the file with line feeds (Unix) or carriage returns and "
        "line feeds (Windows) as line ends"
    )
    return Row(file, number, {}, fault)


def _json_line(file: Path, number: int, line: str) -> Row:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        return Row(file, number, {}, f"is not JSON: {error.msg} (at character {error.colno})")
    except (ValueError, RecursionError) as error:  # a number of too many digits, too deep a list
        return Row(file, number, {}, f"is not JSON: {error}")
    if not isinstance(value, dict):
        fault = f'must be one JSON object, such as {{"name": "value"}}; it is {short_json(value)}'
        return Row(file, number, {}, fault)
    return Row(file, number, value)


def _check_writable(value: Any) -> None:
    """Raise ValueError unless the value can be written as JSON in UTF-8."""
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")


def _table(file: Path, text: str, column: str, error: type[SoarBenchError]) -> Iterator[Row]:
    delimiter = _DELIMITERS[file.suffix.lower()]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    line = 1
    try:
        for cells in reader:
            number, line = line, reader.line_num + 1
            if not header:
                if any(cell.strip() for cell in cells):
                    header = [cell.strip() for cell in cells]
                    _check_header(f"{file}, line {number}", header, column, error)
            elif any(cell.strip() for cell in cells):
                yield _table_row(file, number, header, cells)
            elif cells:
                yield Row(file, number, {})
    except csv.Error as reason:
        raise error(f"{file}, line {line} is not CSV: {reason}") from None


def _check_header(where: str, header: list[str], column: str, error: type[SoarBenchError]) -> None:
    if any("\0" in name for name in header):
        raise error(f"{where} {_NUL}")
    repeated = [name for name, count in Counter(header).items() if name and count > 1]
    if repeated:
        raise error(f"{where} has more than one column {repeated[0]}")
    if column and column not in header:
        raise error(
            f"{where} must be a header with the column {column}; its columns are "
            f"{', '.join(header)}"
        )


def _table_row(file: Path, number: int, header: list[str], cells: list[str]) -> Row:
    # A column without a name, as pandas writes its index, is passed over.
    values = {name: cell for name, cell in zip(header, cells, strict=False) if name}
    if any("\0" in cell for cell in cells):
        return Row(file, number, {}, _NUL)
    if len(cells) == len(header):
        return Row(file, number, values)
    fault = (
        f"has {len(cells)} cells where the header has {len(header)}: a text with a comma, tab or "
        'line break stands in "quotes", and a quote in it is doubled'
    )
    return Row(file, number, values if len(cells) < len(header) else {}, fault)

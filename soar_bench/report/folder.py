"""The report's folder: whole or not at all, and never over anything but an older report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from soar_bench.core.errors import SoarBenchError
from soar_bench.core.files import read_json, replace_folder_atomically

#: Says that a folder is a report of ours.
MARK_FILE = "report.json"
_MARK = {"made by": "soar-bench report", "layout": 1}
#: Names in such a folder; a file more may be somebody's, and is not thrown away.
_OURS = {MARK_FILE, "index.html", "report.css", "report.js", "data", "images"}


def check(folder: Path) -> None:
    """Raise SoarBenchError unless a report may be written there."""
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir():
        raise SoarBenchError(f"{folder} is a file: choose another --output")
    names = {file.name for file in folder.iterdir()}
    if names and not _marked(folder):
        raise SoarBenchError(
            f"{folder} holds something else than a report: choose another --output, or empty it"
        )
    if strange := sorted(names - _OURS):
        raise SoarBenchError(
            f"{folder} holds more than a report ({', '.join(strange[:5])}): move that away, or "
            "choose another --output"
        )


def _marked(folder: Path) -> bool:
    with suppress(OSError, SoarBenchError):
        return read_json(folder / MARK_FILE) == _MARK
    return False


@contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """Yield a folder aside to write the report to; on success it takes the place of ``folder``.

    If the block raises, or the process is killed, ``folder`` is as it was before.
    """
    check(folder)
    target = folder.resolve()  # a link stays a link, and what it names is replaced
    with replace_folder_atomically(target) as aside:
        yield aside
        (aside / MARK_FILE).write_text(json.dumps(_MARK) + "\n", "utf-8")
        check(folder)  # once more: making it took a while

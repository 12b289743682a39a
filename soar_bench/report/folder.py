"""The report's folder: whole or not at all, and never over anything but an older report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from soar_bench.core.errors import SoarBenchError
from soar_bench.core.files import replace_folder_atomically

#: Says that a folder is a report of ours.
MARK_FILE = "report.json"
_MARK = {"made by": "soar-bench report", "layout": 1}
#: What such a folder holds; a file more may be somebody's, and is not thrown away.
_OURS = {MARK_FILE, "index.html", "report.css", "report.js", "data", "images"}


def check(folder: Path) -> None:
    """SoarBenchError unless a report may be written there."""
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir():
        raise SoarBenchError(f"{folder} is a file: choose another --output")
    there = {file.name for file in folder.iterdir()}
    if not there:
        return
    if not _marked(folder):
        raise SoarBenchError(
            f"{folder} holds something else than a report: choose another --output, or empty it"
        )
    strange = sorted(there - _OURS)
    if strange:
        raise SoarBenchError(
            f"{folder} holds more than a report ({', '.join(strange[:5])}): move that away, or "
            "choose another --output"
        )


def _marked(folder: Path) -> bool:
    with suppress(OSError, ValueError):
        return bool(json.loads((folder / MARK_FILE).read_text("utf-8")) == _MARK)
    return False


@contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """A folder aside to write the report to; on success it takes the place of ``folder``.

    If the block raises, or the process is killed, ``folder`` is as it was before.
    """
    check(folder)
    target = folder.resolve()  # a link stays a link, and what it names is replaced
    with replace_folder_atomically(target) as aside:
        yield aside
        (aside / MARK_FILE).write_text(json.dumps(_MARK) + "\n", "utf-8")
        check(folder)  # once more: making it took a while

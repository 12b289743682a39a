"""What was found out about files, kept so that nobody reads gigabytes twice. Imports no torch.

Each finding is a small JSON file in ``checkpoints/`` under the home of weights, together with the
state of the files it is about (path, size, time of change). It holds as long as that state does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from soar_bench.core.files import home, write_text

#: Libraries that decide whether weights fit; a finding about that is theirs alone.
_LIBRARIES = ("soar-bench", "diffusers", "transformers", "peft")


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON value, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def stamp(files: Iterable[Path]) -> list[list[Any]]:
    """Path, size and time of change of each file, links followed."""
    found = []
    for file in sorted(files):
        status = file.stat()
        found.append([str(file.resolve()), status.st_size, status.st_mtime_ns])
    return found


def versions() -> dict[str, str]:
    """Of the libraries that load weights."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def remember(subject: str, state: Any, find_out: Callable[[], str]) -> str:
    """What ``find_out`` says of ``subject``, asked only if the state is another than last time.

    Two processes may ask at once: files appear whole, and both find the same. Where nothing can be
    written nothing is remembered.
    """
    name = hashlib.sha256(subject.encode("utf-8")).hexdigest()[:32]
    file = home() / "checkpoints" / f"{name}.json"
    state = json.loads(json.dumps(state))
    try:
        entry = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):  # absent, or damaged and about to be replaced
        entry = None
    if isinstance(entry, dict) and entry.get("state") == state:
        finding = entry.get("finding")
        if isinstance(finding, str):
            return finding
    finding = find_out()
    entry = {"subject": subject, "state": state, "finding": finding}
    with suppress(OSError):  # a home that only others may write to, or a full disk
        write_text(file, json.dumps(entry, indent=1, sort_keys=True) + "\n")
    return finding

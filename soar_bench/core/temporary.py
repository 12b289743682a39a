"""Temporary files and folders beside what they become; those of killed processes are swept away.

What is written lies in a hidden folder, or is one, on which its process holds a lock (``flock``)
that it loses when it is killed. A lock on a file would not do: safetensors puts a new one in the
place of the one it is told to write. Names such as ``.run.json.soar-bench-1f0c93ab-5be0c2d9a410``
tell the machine too: locks of others may not be seen here, so what they left goes when it is a day
old.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
_KEPT = "kept-"
_NAME = re.compile(rf"\..*\.soar-bench-({_KEPT})?([0-9a-f]{{8}})-[0-9a-f]{{12}}(\.[^.]*)?")
#: Longest part of a target's name in the name of its temporary folder.
_LONGEST = 30
#: Age in seconds at which what nobody can be seen to hold is abandoned.
_DAY = 24 * 3600

#: Folders that this process has swept.
_swept: set[Path] = set()


@contextmanager
def temporary(target: Path, folder: bool = False, kept: bool = False) -> Iterator[Path]:
    """Yield a new hidden folder beside ``target``, or a file of its name to be written in one; both
    are gone at the end.

    ``kept`` is a folder for what has to come back where it was if the process is killed: the sweep
    moves its content out of it, where nothing has taken its place. The folder that ``target`` is in
    is swept when a process first writes to it.
    """
    if (place := target.parent.absolute()) not in _swept:
        sweep(place)
        _swept.add(place)
    aside, descriptor = _make(target, kept)
    try:
        yield aside if folder else aside / target.name
    finally:
        _remove(aside)
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a new folder in the system's place for temporary files; it is removed at the end."""
    with temporary(Path(tempfile.gettempdir()) / "files", folder=True) as folder:
        yield folder


def sweep(folder: Path) -> None:
    """Delete temporary files and folders that killed processes left in a folder."""
    with suppress(OSError), os.scandir(folder) as entries:
        names = [entry.name for entry in entries if _NAME.fullmatch(entry.name)]
        for name in names:
            with suppress(OSError):  # somebody else's, or swept by another process
                _sweep(folder / name)


def delete_folder(folder: Path) -> None:
    """Delete a folder: it is there or not, never a part of it."""
    with temporary(folder, folder=True) as aside:
        folder.replace(aside / folder.name)


def _make(target: Path, kept: bool) -> tuple[Path, int | None]:
    """Return a new folder and a descriptor that holds it, None where the system has no locks."""
    start = f".{target.name[:_LONGEST]}.soar-bench-{_KEPT if kept else ''}{_HOST}-"
    while True:
        path = target.with_name(f"{start}{secrets.token_hex(6)}")
        path.mkdir(0o700)
        try:
            import fcntl
        except ImportError:
            return path, None
        with suppress(FileNotFoundError):  # swept before it was held: make another
            descriptor = os.open(path, os.O_RDONLY)
            with suppress(OSError):  # no locks of folders here (NFS): it is young
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_open(path, descriptor):
                return path, descriptor
            os.close(descriptor)


def _is_open(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _sweep(path: Path) -> None:
    """Remove what a process left, unless it is held or, as far as can be seen, may be."""
    import fcntl

    match = _NAME.fullmatch(path.name)
    status = path.lstat()
    old = time.time() - status.st_mtime > _DAY
    if match is None or (match[2] != _HOST and not old):
        return
    access = os.O_RDONLY if path.is_dir() else os.O_RDWR
    descriptor = os.open(path, access | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        except OSError:
            if not old:
                return
        for content in path.iterdir() if match[1] else ():
            if not os.path.lexists(path.with_name(content.name)):
                content.rename(path.with_name(content.name))
        _remove(path)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Remove a file, a link or a folder that may be there no more; what will not go is left."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()

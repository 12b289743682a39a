"""Files and folders that appear whole or not at all, JSON files, and locks between processes."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from soar_bench.core.errors import SoarBenchError
from soar_bench.core.temporary import temporary

#: A disk with less free space than this counts as full, in bytes.
_FULL = 4096

#: Names the folder of :func:`home`.
HOME_VARIABLE = "SOAR_BENCH_HOME"


def home() -> Path:
    """Return the folder of weights and prompts: ``$SOAR_BENCH_HOME`` or ``~/.cache/soar-bench``."""
    named = os.environ.get(HOME_VARIABLE)
    return expanded(named or "~/.cache/soar-bench", HOME_VARIABLE if named else "the home")


def expanded(path: str | Path, name: str = "the path") -> Path:
    """Return a path with its ``~``. SoarBenchError, with ``name``, if there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise SoarBenchError(
            f"{name} is {str(path)!r}, and nobody here has that home: write the whole path"
        ) from None


@contextmanager
def locked(file: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[bool]:
    """Hold a lock file for the block, so that processes do the same work one after the other.

    ``waiting`` is called once if another process holds it; a killed process lets it go. Yields
    whether the lock is held: where the file system or folder allows none, the block still runs.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            waiting()
            lock.acquire()
    except (OSError, NotImplementedError):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def locked_folder(folder: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[bool]:
    """Hold a folder itself, which is made and gets no lock file; otherwise as :func:`locked`.

    Where a folder cannot be held (NFS, Windows), a lock file of :func:`home` is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = _hold(folder, waiting)
    except (ImportError, OSError):
        name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]
        with locked(home() / "locks" / f"{name}.lock", waiting) as held:
            yield held
        return
    try:
        yield True
    finally:
        os.close(descriptor)


def _hold(folder: Path, waiting: Callable[[], None]) -> int:
    """Return a descriptor that locks the folder until it is closed, or its process ends."""
    import fcntl

    while True:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(descriptor), folder.stat()):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # another folder has taken its place meanwhile


def free_space(folder: Path) -> int:
    """Return the bytes that are free on the disk of a folder, which need not exist yet."""
    return int(shutil.disk_usage(_existing(folder)).free)


def same_disk(a: Path, b: Path) -> bool:
    """Return whether two folders, which need not exist yet, share the room of one disk."""
    return _existing(a).stat().st_dev == _existing(b).stat().st_dev


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    place = folder.resolve()
    return next(path for path in (place, *place.parents) if path.exists())


def sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _space_errors(path: Path) -> Iterator[None]:
    """Raise the system's own error, with the file, where a library has another one for a full disk:
    torch leaves a partial file without a reason, safetensors removes its file and quotes the
    system, and of what is written to an open file the system does not know the name.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            error.filename = error.filename or str(path)
        raise
    except Exception as error:
        quoted = os.strerror(errno.ENOSPC) in str(error)
        if quoted or shutil.disk_usage(path.parent).free < _FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Yield a path aside to write to; on success it is flushed to disk and renamed to ``path``.

    If the block raises, or the process is killed, ``path`` is as it was before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary(path) as aside:
        with _space_errors(path):
            yield aside
        sync(aside)
        aside.chmod(0o644)
        aside.replace(path)
        sync(path.parent)


def check_writable(folder: Path) -> None:
    """Raise SoarBenchError unless a folder can be made or written to; nothing is left there."""
    try:
        with temporary(_existing(folder) / folder.name, folder=True):
            pass
    except OSError as error:
        raise SoarBenchError(
            f"nothing can be written to {folder}: {error.strerror}; name another folder"
        ) from None


def read_json(file: Path) -> dict[str, Any]:
    """Return the JSON object in a file. SoarBenchError if the file is absent or something else."""
    try:
        value = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise SoarBenchError(f"{file} is missing") from None
    except RecursionError:
        raise SoarBenchError(f"{file} is damaged: it is nested too deeply") from None
    except ValueError as error:
        raise SoarBenchError(f"{file} is damaged: {error}") from None
    if isinstance(value, dict):
        return value
    raise SoarBenchError(f"{file} is damaged: it holds no JSON object")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with Unix line ends, whole or not at all."""
    with replace_atomically(path) as aside:
        aside.write_bytes(text.encode("utf-8"))


@contextmanager
def replace_folder_atomically(folder: Path) -> Iterator[Path]:
    """Yield a folder aside to fill; on success it is flushed to disk and replaces ``folder``.

    The two change places at once where the system can do that. Elsewhere a process that is killed
    right there leaves neither, and the next one to write beside them puts the old folder back.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with temporary(folder, folder=True) as aside:
        with _space_errors(folder):
            yield aside
        for file in [*aside.rglob("*"), aside]:
            sync(file)
        aside.chmod(0o755)
        if not folder.exists():
            aside.replace(folder)
        elif not _exchange(aside, folder):
            with temporary(folder, folder=True, kept=True) as old:
                folder.replace(old / folder.name)
                aside.replace(folder)
        sync(folder.parent)


def _exchange(a: Path, b: Path) -> bool:
    """Let two paths change places; return False where the system or the disk cannot do that."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2  # Linux
    except (AttributeError, OSError, TypeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(rename(here, os.fsencode(a), here, os.fsencode(b), exchange) == 0)

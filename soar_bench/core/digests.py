"""Digests of values, files and weights, and a cache of them keyed by the state of the files.

A digest, or the result of a check of files, is kept with :func:`stamp` of the files and holds as
long as that stays the same, so that gigabytes are not read at every start. Importing this imports
no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from soar_bench.core.errors import SoarBenchError
from soar_bench.core.files import home, read_json, write_text
from soar_bench.core.packages import installed

#: Libraries that decide whether weights fit; results of checks hold for these versions alone.
_LIBRARIES = ("soar-bench", "diffusers", "transformers", "peft")


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON value, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def digest_file(file: Path) -> str:
    """Return the SHA-256 of a file's bytes, which are read."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def git_blob(file: Path) -> str:
    """Return git's id of a file's content: the SHA-1 of ``blob``, its bytes' number and them."""
    digest = hashlib.sha1(b"blob %d\0" % file.stat().st_size, usedforsecurity=False)
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def digest_weights(files: Iterable[Path]) -> str:
    """Return the SHA-256 of the tensors in safetensors files: names, dtypes, shapes and bytes.

    It does not depend on how tensors are ordered or divided among files, nor on file metadata.
    SoarBenchError names a damaged file.
    """
    from safetensors import SafetensorError, safe_open

    with ExitStack() as stack:
        file_of: dict[str, Any] = {}
        for file in files:
            try:
                opened = stack.enter_context(safe_open(file, framework="pt"))
            except SafetensorError as error:
                raise SoarBenchError(f"{file} is damaged: {error}") from None
            file_of |= dict.fromkeys(opened.keys(), opened)
        return _digest((name, file_of[name].get_tensor(name)) for name in sorted(file_of))


def digest_tensors(tensors: Mapping[str, Any]) -> str:
    """Return :func:`digest_weights` of tensors in memory, by name."""
    return _digest((name, tensors[name].detach().cpu()) for name in sorted(tensors))


def _digest(tensors: Iterable[tuple[str, Any]]) -> str:
    import torch

    digest = hashlib.sha256()
    for name, tensor in tensors:
        tensor = tensor.contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def safetensors_in(folder: Path) -> list[Path]:
    """Return the folder's safetensors files by name. SoarBenchError if it has none."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise SoarBenchError(f"{folder} holds no .safetensors weights")
    return files


def versions() -> dict[str, str]:
    """Return the versions of the libraries that load weights; empty where one is not installed."""
    return {name: installed(name) or "" for name in _LIBRARIES}


def stamp(file: Path) -> list[int]:
    """Return numbers that change when a file does: size, times of change, inode; follows links.

    The time of modification can be set, as archives do; that of the inode (``ctime``) cannot.
    """
    status = file.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


#: Entries that were read anew since :func:`reading_through` began, by cache and key; None outside.
_read: set[tuple[Path, str]] | None = None


@contextmanager
def reading_through() -> Iterator[None]:
    """Let the block read every file that it asks for once, whatever is cached.

    A stamp says nothing of a disk that changes bytes by itself, or of who sets the clock back.
    """
    global _read
    before, _read = _read, set()
    try:
        yield
    finally:
        _read = before


class StampCache:
    """Cache of texts by key in one JSON file, each with the state that it holds for.

    A damaged or absent file is an empty cache, and a changed entry is none: each has a digest of
    its own. Several threads may use one object.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._saved: dict[str, Any] = {}
        self._used: dict[str, Any] = {}
        with suppress(SoarBenchError, OSError):
            self._saved = read_json(file)

    def get(self, key: str, state: Any) -> str | None:
        """Return the text of a key if it was put with the same state (a JSON value)."""
        if _read is not None and (self.file, key) not in _read:
            return None
        match self._used.get(key, self._saved.get(key)):
            case [saved_state, str(text), digest] if saved_state == state and digest == digest_of(
                [key, state, text]
            ):
                self.put(key, state, text)
                return text
        return None

    def put(self, key: str, state: Any, text: str) -> None:
        """Keep a text; :meth:`save` writes it."""
        self._used[key] = [state, text, digest_of([key, state, text])]
        if _read is not None:
            _read.add((self.file, key))

    def save(self) -> None:
        """Write what was got and put since, and nothing else, unless the file holds just that."""
        if self._used != self._saved:
            write_text(self.file, json.dumps(self._used, separators=(",", ":")) + "\n")


def remember(subject: str, files: Iterable[Path], find_out: Callable[[], str], *more: Any) -> str:
    """Return the answer of ``find_out`` on files, called only if they changed since the last time.

    ``subject`` names the question, ``more`` are JSON values that the answer depends on besides.
    Answers are kept under :func:`home`, or in this process where that cannot be written to. Two
    processes may ask at once: files appear whole, and both answers are the same.
    """
    state = _state(files := sorted(files), *more)
    answer = _cache(subject).get(subject, state)
    if answer is None:
        answer = find_out()
        if _state(files, *more) == state:
            _keep(subject, state, answer)
    return answer


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file, which is read only if it changed since the last time."""
    return remember(_subject(file), [file], lambda: digest_file(file))


def weights_digest(files: Sequence[Path]) -> str:
    """Return :func:`digest_weights` of files, read only if they changed since the last time."""
    names = " ".join(str(file.resolve()) for file in files)
    return remember(f"digest of the weights {names}", files, lambda: digest_weights(files))


def known_digest(file: Path) -> str | None:
    """Return the remembered SHA-256 of a file, which is not read; None if it is not known."""
    return _cache(_subject(file)).get(_subject(file), _state([file]))


def remember_digest(file: Path, digest: str) -> None:
    """Remember the SHA-256 of a file that was just written."""
    _keep(_subject(file), _state([file]), digest)


#: Caches that could not be written, by file, so that this process at least remembers them.
_unsaved: dict[Path, StampCache] = {}


def _subject(file: Path) -> str:
    return f"digest of the file {file.resolve()}"


def _state(files: Iterable[Path], *more: Any) -> Any:
    return [*([str(file.resolve()), *stamp(file)] for file in files), *json.loads(json.dumps(more))]


def _cache(subject: str) -> StampCache:
    name = hashlib.sha256(subject.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    file = home() / "checkpoints" / f"{name}.json"
    return _unsaved.get(file) or StampCache(file)


def _keep(subject: str, state: Any, answer: str) -> None:
    cache = _cache(subject)
    cache.put(subject, state, answer)
    try:
        cache.save()
    except OSError:  # a home that only others may write to, or a full disk
        _unsaved[cache.file] = cache

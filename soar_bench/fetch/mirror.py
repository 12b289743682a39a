"""Somebody's copy of the files: a folder or an address.

A file with a known digest is found by it, wherever it lies. For another file the mirror's own
``digests.json`` must say what its digest is, at the place where a fetch would have put it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urlsplit

from evaluators.weights import DIGESTS_FILE, recorded
from soar_bench.core.digests import digest_file
from soar_bench.core.errors import SoarBenchError
from soar_bench.fetch import Source, download
from soar_bench.fetch.download import FetchError, NotThere
from soar_bench.fetch.file_sets import FileSet, Item

_CHUNK = 1 << 22


def open_mirror(place: str) -> Source:
    """A mirror by its folder or http address. SoarBenchError if it is neither."""
    if place.startswith(("http://", "https://")):
        if not urlsplit(place).hostname:
            raise SoarBenchError(f"the mirror's address {place!r} names no host")
        return AddressMirror(place)
    if "://" in place:
        raise SoarBenchError(f"a mirror is a folder or an http address, not {place!r}")
    folder = Path(place).expanduser()
    if not folder.is_dir():
        raise SoarBenchError(f"there is no mirror in {place}: give a folder or an http address")
    return FolderMirror(folder)


def _check_inside(path: str, index: str) -> None:
    """SoarBenchError if a path in a mirror's index leads out of the index's folder."""
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or not parts.parts or "\\" in path:
        raise SoarBenchError(
            f"{index} names {path!r}, which lies outside of the mirror: do not use this mirror"
        )


def _digest_of(entry: Any) -> str:
    """The digest that an entry of an index vouches for; empty if none."""
    found = entry.get("pinned") or entry.get("sha256") if isinstance(entry, dict) else ""
    return found if isinstance(found, str) and len(found) == 64 else ""


def _unvouched(item: Item, where: str) -> FetchError:
    return FetchError(
        f"nobody but the mirror can say what {item.label} must be, and {where} does not: make the "
        f"mirror with `soar-bench fetch {item.set.name}`, and copy {DIGESTS_FILE} with the files"
    )


class FolderMirror:
    """A folder: a copy of somebody's home, or the files in any layout."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._read: dict[Path, str] = {}

    def bring(self, item: Item, part: Path, observe: download.Observer) -> str:
        file, vouched = self._find(item)
        total = file.stat().st_size
        download.check_space(part.parent, total)
        with file.open("rb") as source, part.open("wb") as stream:
            while chunk := source.read(_CHUNK):
                stream.write(chunk)
                observe(stream.tell(), total)
            stream.flush()
            os.fsync(stream.fileno())
        return vouched

    def size(self, item: Item) -> int | None:
        for folder in self._folders(item.set):
            if (folder / item.file.path).is_file():
                return (folder / item.file.path).stat().st_size
        return None

    def _find(self, item: Item) -> tuple[Path, str]:
        """The file, and the digest that the mirror vouches for where no other is known."""
        if item.pinned:
            for candidate in self._candidates(item):
                if self._digest(candidate).startswith(item.pinned):
                    return candidate, ""
            raise NotThere(
                f"the mirror {self.root} has no {item.label} (SHA-256 {item.pinned[:12]}…): "
                "complete it, or fetch without --mirror"
            )
        for folder in self._folders(item.set):
            file = folder / item.file.path
            if file.is_file():
                vouched = _digest_of(recorded(folder).get(item.file.path))
                if vouched:
                    return file, vouched
                raise _unvouched(item, str(folder / DIGESTS_FILE))
        raise NotThere(
            f"the mirror {self.root} has no {item.set.place}/{item.file.path}: complete it, or "
            "fetch without --mirror"
        )

    def _folders(self, files: FileSet) -> list[Path]:
        """Where a set may lie: in a copy of a home, or in one of its ``weights`` folder."""
        return [self.root / files.place, self.root / files.name]

    def _candidates(self, item: Item) -> Iterator[Path]:
        """Files that may be the one, the likeliest first."""
        for folder in self._folders(item.set):
            if (folder / item.file.path).is_file():
                yield folder / item.file.path
        for file, digest in self._indexed:
            if digest.startswith(item.pinned) and file.is_file():
                yield file
        name = item.target.name
        for file, size in self._files:
            # A hub's cache names files by their digest.
            named = file.name in (name, item.pinned)
            if size == item.file.size if item.file.size is not None else named:
                yield file

    @cached_property
    def _files(self) -> list[tuple[Path, int]]:
        found = [Path(d) / name for d, _, names in os.walk(self.root) for name in sorted(names)]
        return [(file, file.stat().st_size) for file in found if file.is_file()]

    @cached_property
    def _indexed(self) -> list[tuple[Path, str]]:
        found = []
        for index in [file for file, _ in self._files if file.name == DIGESTS_FILE]:
            for path, entry in recorded(index.parent).items():
                _check_inside(path, str(index))
                found.append((index.parent / path, _digest_of(entry)))
        return [(file, digest) for file, digest in found if digest]

    def _digest(self, file: Path) -> str:
        """Read once; what an index says of a file is only a hint."""
        if file not in self._read:
            self._read[file] = digest_file(file)
        return self._read[file]


class AddressMirror:
    """A home served over http: ``ADDRESS/weights/SET/FILE`` and ``ADDRESS/prompts/FILE``."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self._indexes: dict[str, dict[str, Any]] = {}

    def bring(self, item: Item, part: Path, observe: download.Observer) -> str:
        index = self._index(item.set)
        if not item.pinned:
            vouched = _digest_of(index.get(item.file.path))
            if not vouched:
                raise _unvouched(item, self._url(item.set, DIGESTS_FILE))
            download.download(self._url(item.set, item.file.path), part, item.file.size, observe)
            return vouched
        others = [p for p, entry in index.items() if _digest_of(entry).startswith(item.pinned)]
        paths = list(dict.fromkeys([*others, item.file.path]))
        for number, path in enumerate(paths):
            try:
                download.download(self._url(item.set, path), part, item.file.size, observe)
                break
            except NotThere:
                if number == len(paths) - 1:
                    raise NotThere(
                        f"the mirror has no {self._url(item.set, path)}: complete it, or fetch "
                        "without --mirror"
                    ) from None
        return ""

    def size(self, item: Item) -> int | None:
        return download.remote_size(self._url(item.set, item.file.path))

    def _url(self, files: FileSet, path: str) -> str:
        return f"{self.address}/{quote(files.place)}/{quote(path)}"

    def _index(self, files: FileSet) -> dict[str, Any]:
        if files.place not in self._indexes:
            url = self._url(files, DIGESTS_FILE)
            entries = download.read_json(url)
            if not isinstance(entries, dict):
                entries = {}
            for path in entries:
                _check_inside(path, url)
            self._indexes[files.place] = entries
        return self._indexes[files.place]

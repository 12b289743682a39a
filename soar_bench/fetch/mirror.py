"""Take files from somebody's copy: a folder or an address.

A file of known digest is found by it, wherever it lies. For another file the mirror's own
``digests.json`` must say what its digest is, at the place where a fetch would have put it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urlsplit

from evaluators.weights import DIGESTS_FILE, recorded
from soar_bench.core.digests import digest_file, git_blob
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.files import expanded
from soar_bench.fetch import Source, download
from soar_bench.fetch.connection import FetchError, NotThere
from soar_bench.fetch.file_sets import FileSet, Item


def open_mirror(place: str) -> Source:
    """Return a mirror by its folder or http address. SoarBenchError if it is neither."""
    if place.startswith(("http://", "https://")):
        if not urlsplit(place).hostname:
            raise SoarBenchError(f"the mirror's address {place!r} names no host")
        return AddressMirror(place)
    if "://" in place:
        raise SoarBenchError(f"a mirror is a folder or an http address, not {place!r}")
    folder = expanded(place, "the mirror")
    if not folder.is_dir():
        raise SoarBenchError(f"there is no mirror in {place}: give a folder or an http address")
    return FolderMirror(folder)


def _vouched(entries: Any, index: str) -> dict[str, str]:
    """Return the digests that an index vouches for, by path.

    SoarBenchError if a path leads out of the index's folder.
    """
    digests = {}
    for path, entry in entries.items() if isinstance(entries, dict) else ():
        parts = PurePosixPath(path)
        if parts.is_absolute() or ".." in parts.parts or not parts.parts or "\\" in path:
            raise SoarBenchError(
                f"{index} names {path!r}, which lies outside of the mirror: do not use this mirror"
            )
        digest = entry.get("pinned") or entry.get("sha256") if isinstance(entry, dict) else ""
        if isinstance(digest, str) and len(digest) == 64:
            digests[path] = digest
    return digests


def _unvouched(item: Item, index: str) -> FetchError:
    return FetchError(
        f"nobody but the mirror can say what {item.label} must be, and {index} does not: make the "
        f"mirror with `soar-bench fetch {item.set.name}`, and copy {DIGESTS_FILE} with the files"
    )


class FolderMirror(Source):
    """A folder: a copy of somebody's home, or the files in any layout."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._digest = cache(digest_file)  # an index may be wrong about a file

    def url(self, item: Item) -> str:
        return ""

    def bring(self, item: Item, part: Path, size: int | None) -> str:
        file, digest = self._find(item)
        total = file.stat().st_size
        download.check_space(part.parent, total)
        bar = download.progress_bar(item.label, total)
        with file.open("rb") as source, part.open("wb") as stream, bar:
            while chunk := source.read(1 << 22):
                stream.write(chunk)
                bar.update(len(chunk))
            stream.flush()
            os.fsync(stream.fileno())
        return digest

    def size(self, item: Item) -> int | None:
        return next(((f / item.file.path).stat().st_size for f in self._folders(item)), None)

    def _find(self, item: Item) -> tuple[Path, str]:
        """Return the file, and the digest that the mirror vouches for where none is pinned."""
        if item.pinned or item.file.git_blob:
            for file in self._candidates(item):
                if self._is_pinned(item, file):
                    return file, ""
            sha256, blob = f"SHA-256 {item.pinned[:12]}…", f"git blob {item.file.git_blob}"
            lacking = f"{item.label} ({sha256 if item.pinned else blob})"
        else:
            for folder in (folders := self._folders(item)):
                index = str(folder / DIGESTS_FILE)
                if digest := _vouched(recorded(folder), index).get(item.file.path):
                    return folder / item.file.path, digest
            if folders:
                raise _unvouched(item, str(folders[0] / DIGESTS_FILE))
            lacking = f"{item.set.place}/{item.file.path}"
        raise NotThere(
            f"the mirror {self.root} has no {lacking}: complete it, or fetch without --mirror"
        )

    def _is_pinned(self, item: Item, file: Path) -> bool:
        if item.pinned:
            return self._digest(file).startswith(item.pinned)
        return git_blob(file) == item.file.git_blob

    def _folders(self, item: Item) -> list[Path]:
        """Return the folders that have the file where a home, or its ``weights`` folder, has it."""
        folders = [self.root / item.set.place, self.root / item.set.name]
        return [folder for folder in folders if (folder / item.file.path).is_file()]

    def _candidates(self, item: Item) -> Iterator[Path]:
        """Yield files that may have the pinned digest, the likeliest first."""
        yield from (folder / item.file.path for folder in self._folders(item))
        for file, digest in self._indexed:
            if item.pinned and digest.startswith(item.pinned) and file.is_file():
                yield file
        for file in self._files:
            # A hub's cache names files by their digest.
            named = file.name in (item.target.name, item.pinned)
            if file.stat().st_size == item.file.size if item.file.size is not None else named:
                yield file

    @cached_property
    def _files(self) -> list[Path]:
        paths = [Path(d) / name for d, _, names in os.walk(self.root) for name in sorted(names)]
        return [path for path in paths if path.is_file()]

    @cached_property
    def _indexed(self) -> list[tuple[Path, str]]:
        return [
            (index.parent / path, digest)
            for index in self._files
            if index.name == DIGESTS_FILE
            for path, digest in _vouched(recorded(index.parent), str(index)).items()
        ]


class AddressMirror(Source):
    """A home served over http: ``ADDRESS/weights/SET/FILE`` and ``ADDRESS/prompts/FILE``."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self._indexes: dict[str, dict[str, str]] = {}

    def url(self, item: Item) -> str:
        return self._url(item.set, item.file.path)

    def bring(self, item: Item, part: Path, size: int | None) -> str:
        index = self._index(item.set)
        paths, digest = [item.file.path], ""
        if item.pinned:
            renamed = [path for path, other in index.items() if other.startswith(item.pinned)]
            paths = list(dict.fromkeys([*renamed, *paths]))
        elif not (digest := index.get(item.file.path, "")) and not item.file.git_blob:
            raise _unvouched(item, self._url(item.set, DIGESTS_FILE))
        for path in paths:
            try:
                url = self._url(item.set, path)
                download.download(url, part, size, item.label, item.largest)
            except NotThere:
                continue
            return digest
        raise NotThere(
            f"the mirror has no {self._url(item.set, paths[-1])}: complete it, or fetch without "
            "--mirror"
        )

    def _url(self, files: FileSet, path: str) -> str:
        return f"{self.address}/{quote(files.place)}/{quote(path)}"

    def _index(self, files: FileSet) -> dict[str, str]:
        if files.place not in self._indexes:
            url = self._url(files, DIGESTS_FILE)
            self._indexes[files.place] = _vouched(download.read_json(url), url)
        return self._indexes[files.place]

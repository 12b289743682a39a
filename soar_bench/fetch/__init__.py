"""Bring weights and prompt sets into their home, whole and verified.

A file comes into ``NAME.part`` beside its place, is compared with its digest, and takes its place
in one step; what was there stays until then. One fetch at a time works in a folder. Its
``digests.json`` (:mod:`evaluators.weights`) then says what was verified, so that nobody reads the
file again.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from evaluators.weights import DIGESTS_FILE, RIGHT, recorded, what_is_wrong
from soar_bench.core.digests import digest_file, file_digest, remember_digest
from soar_bench.core.files import locked, sync, write_text
from soar_bench.core.text import count, human, json_text
from soar_bench.fetch import download
from soar_bench.fetch.connection import FetchError, Unreachable, host_of, leads_to
from soar_bench.fetch.file_sets import FileSet, Item

_LOCK_FILE = ".lock"
#: A file that takes a while to read, in bytes.
_LARGE = 100_000_000

#: Called with a sentence for the user.
Say = Callable[[str], None]


class Source:
    """Source of files: the pinned addresses, or in a subclass a mirror."""

    def bring(self, item: Item, part: Path, size: int | None) -> str:
        """Bring the file of ``size`` bytes, None if unknown, into ``part``; return the SHA-256 that
        the source vouches for, or nothing. FetchError if it cannot.
        """
        return download.download(item.file.url, part, size, item.label, item.largest)

    def url(self, item: Item) -> str:
        """Return the address of the file; empty where it comes over no network."""
        return item.file.url

    def size(self, item: Item) -> int | None:
        """Return the bytes of a file whose size is not pinned; None where no server says.

        Unreachable if nobody answers.
        """
        return download.remote_size(self.url(item))


@dataclass(frozen=True)
class Missing:
    """A file to be fetched."""

    item: Item
    #: why it is missing
    fault: str
    #: bytes, pinned or announced; None where nobody says before it comes
    size: int | None

    @property
    def expected(self) -> int | None:
        """Bytes, known or about; None where nobody has an idea."""
        return self.size or self.item.file.about

    def size_text(self) -> str:
        """Return the bytes for a person."""
        return ("" if self.size or not self.expected else "about ") + human(self.expected)


@dataclass(frozen=True)
class Plan:
    """The files that are here, and those to be fetched."""

    present: list[Item]
    missing: list[Missing]

    @property
    def needed(self) -> int:
        """Bytes that are still to come, of the files whose size is known or estimated."""
        return sum(max(0, (m.expected or 0) - download.length(m.item.part)) for m in self.missing)

    def summary(self) -> list[str]:
        """Return the lines that tell a user what a fetch will do."""
        lines = [
            f"{m.item.label}  {m.size_text()}" + ("" if m.fault == "absent" else f"  ({m.fault})")
            for m in self.missing
        ]
        begun = sum(download.length(m.item.part) for m in self.missing)
        total = human(self.needed) if self.needed else "an unknown size"
        unknown = self.needed and any(m.expected is None for m in self.missing)
        more = " and what is not known yet" if unknown else ""
        rest = f", {human(begun)} are here already" if begun else ""
        return [*lines, f"{count(len(self.missing), 'file')} to fetch: {total}{more}{rest}"]


def plan(sets: Sequence[FileSet], source: Source | None, say: Say = lambda sentence: None) -> Plan:
    """Compare the sets with the home; read files whose digest is not recorded.

    Without a source, sizes that are not pinned stay unknown.
    """
    present: list[Item] = []
    missing: list[Missing] = []
    silent: set[str] = set()  # hosts
    for item in chain.from_iterable(files.items for files in sets):
        if (size := download.length(item.target)) > _LARGE and not item.is_recorded():
            say(f"{item.label}: reading {human(size)} to verify it")
        if fault := item.fault():
            announced = item.file.size
            if announced is None and source and (host := host_of(source.url(item))) not in silent:
                try:
                    announced = source.size(item)
                except Unreachable:  # the fetch itself says so
                    silent.add(host)
            missing.append(Missing(item, fault, announced))
        else:
            present.append(item)
            _remember(item, say)
    return Plan(present, missing)


def _remember(item: Item, say: Say) -> None:
    """Record a file that is right, unless only others may write to the home."""
    if item.is_recorded() and item.pinned and item.structure_is_known:
        return
    try:
        with _alone(item.set.folder, say):
            _record(item, file_digest(item.target))
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise


def fetch(
    planned: Plan, source: Source, say: Say = lambda sentence: None
) -> Iterator[tuple[Item, FetchError | None]]:
    """Bring the missing files; yield each with its failure, if any. Files that came stay.

    What comes from a host that cannot be reached is not tried again, and not yielded.
    """
    silent: set[str] = set()
    for missing in planned.missing:
        failure, url = None, source.url(missing.item)
        if host_of(url) in silent or (silent and leads_to(url) in silent):
            continue
        try:
            _fetch_file(missing, source, say)
        except FetchError as error:
            failure = error
        yield missing.item, failure
        if isinstance(failure, Unreachable):
            silent.add(failure.host)


def _fetch_file(missing: Missing, source: Source, say: Say) -> None:
    """Bring one file and verify it. FetchError if it cannot be brought or is another file."""
    item = missing.item
    item.target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(item.set.folder, say) as alone:
        if not item.fault():
            return  # another fetch has brought it meanwhile
        # Without a lock two fetches must not write to one file; theirs is then not resumed.
        part = item.part if alone else item.part.with_suffix(f".{os.getpid()}.part")
        try:
            _forget_wrong_structure(item)
            digest = _verified(item, source, part, missing.size)
            part.chmod(0o644)
            part.replace(item.target)
            sync(item.target.parent)
            _record(item, digest)
        finally:
            if not alone:
                part.unlink(missing_ok=True)


def _verified(item: Item, source: Source, part: Path, size: int | None) -> str:
    """Bring the right file into ``part`` and return its digest.

    A part that was there already may be of another file: then it is brought once more, whole.
    """
    while True:
        resumed = download.length(part) > 0
        vouched = source.bring(item, part, size)
        digest = digest_file(part)
        wrong = what_is_wrong(item.file, digest, recorded(item.set.folder).get(item.file.path))
        if not wrong and not item.pinned and vouched and vouched != digest:
            wrong = f"SHA-256 {digest[:12]}…, expected {vouched[:12]}…"
        wrong = wrong or item.file.wrong_structure(part, {})
        if not wrong:
            return digest
        part.unlink()
        if not resumed:
            raise _refusal(item, wrong)


def _forget_wrong_structure(item: Item) -> None:
    """Drop the record of a file that cannot be the published one: its digest binds nobody."""
    entries = recorded(item.set.folder)
    entry = entries.get(item.file.path)
    if entry and item.target.is_file() and item.file.wrong_structure(item.target, entry):
        del entries[item.file.path]
        _write(item.set.folder, entries)


def _refusal(item: Item, wrong: str) -> FetchError:
    expected = "the published file"
    advice = "look whether a proxy changes downloads, or get the file from another mirror"
    if item.pinned and not (item.file.sha256 or item.file.sha256_prefix):
        expected, index = "what came at the first fetch", item.set.folder / DIGESTS_FILE
        advice = f"if you know the new file to be right, delete {index} and fetch again"
    return FetchError(
        f"what came for {item.label} is not {expected} ({wrong}) and was not kept: {advice}"
    )


def _record(item: Item, digest: str) -> None:
    """Write a verified file into its folder's ``digests.json``."""
    entries = recorded(item.set.folder)
    entry = {"sha256": digest, "size": item.target.stat().st_size}
    if item.file.sha256 is None:
        entry["pinned"] = entries.get(item.file.path, {}).get("pinned") or digest
    if item.file.has_structure:
        entry["structure"] = RIGHT
    entries[item.file.path] = entry
    remember_digest(item.target, digest)
    _write(item.set.folder, entries)


def _write(folder: Path, entries: Mapping[str, Any]) -> None:
    write_text(folder / DIGESTS_FILE, json_text(entries))


def _alone(folder: Path, say: Say) -> AbstractContextManager[bool]:
    """Wait until no other fetch works in the folder; the block gets whether that is sure."""
    waiting = f"another fetch is working in {folder}; waiting for it"
    return locked(folder / _LOCK_FILE, lambda: say(waiting))

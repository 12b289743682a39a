"""``soar-bench fetch``: weights and prompt sets into their home, whole and verified.

A file comes into ``NAME.part`` beside its place, is compared with its digest, and takes its place
in one step; what was there stays until then. One fetch at a time works in a folder. Its
``digests.json`` (:mod:`evaluators.weights`) then says what was verified, so that nobody reads the
file again.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from evaluators.weights import DIGESTS_FILE, recorded, what_is_wrong
from soar_bench.core.digests import digest_file, file_digest, remember_digest
from soar_bench.core.files import home, locked, sync, write_text
from soar_bench.fetch import download
from soar_bench.fetch.download import FetchError, Unreachable, human
from soar_bench.fetch.file_sets import FileSet, Item

_LOCK_FILE = ".lock"
#: A file that takes a while to read, in bytes.
_LARGE = 100_000_000

#: Called with words for the user.
Say = Callable[[str], None]


class Source(Protocol):
    """Where files come from."""

    def bring(self, item: Item, part: Path, observe: download.Observer) -> str:
        """Brings the file into ``part``; returns the SHA-256 that the source vouches for, or
        nothing. FetchError if it cannot.
        """
        ...

    def size(self, item: Item) -> int | None:
        """Bytes of a file whose size is not pinned; None if that is not known before it comes."""
        ...


class Published:
    """The pinned addresses."""

    def bring(self, item: Item, part: Path, observe: download.Observer) -> str:
        return download.download(item.file.url, part, item.file.size, observe)

    def size(self, item: Item) -> int | None:
        return download.remote_size(item.file.url)


@dataclass(frozen=True)
class Plan:
    """What is there and what is not."""

    present: list[Item]
    missing: list[Item]
    #: why each missing file is missing
    faults: list[str]
    #: bytes of each missing file; None where that is not known before it comes
    sizes: list[int | None]

    @property
    def needed(self) -> int:
        """Bytes that are still to come, of the files whose size is known."""
        sizes = zip(self.missing, self.sizes, strict=True)
        return sum(max(0, (size or 0) - download.length(item.part)) for item, size in sizes)

    def check_space(self) -> None:
        """SoarBenchError if the home's disk has too little room."""
        place = home()
        while not place.is_dir():
            place = place.parent
        download.check_space(place, self.needed)


def plan(sets: Sequence[FileSet], source: Source | None, say: Say = lambda words: None) -> Plan:
    """Compares the sets with what is in the home. Reads files whose digest is not recorded.

    Without a source nothing is asked for the sizes that are not pinned.
    """
    present: list[Item] = []
    missing: list[Item] = []
    faults: list[str] = []
    for item in (item for s in sets for item in s.items):
        status = item.target.stat() if item.target.is_file() else None
        if status is not None and status.st_size > _LARGE and not item.is_recorded():
            say(f"{item.label}: reading {human(status.st_size)} to verify it")
        fault = item.fault()
        if fault:
            missing.append(item)
            faults.append(fault)
            continue
        present.append(item)
        if status is not None:
            _remember(item, say)
    return Plan(present, missing, faults, _sizes(missing, source))


def _sizes(items: Sequence[Item], source: Source | None) -> list[int | None]:
    """Bytes of each file: pinned, or asked for as long as somebody answers."""
    sizes: list[int | None] = []
    for item in items:
        size = item.file.size
        if size is None and source is not None:
            try:
                size = source.size(item)
            except Unreachable:  # the fetch itself says so
                source = None
        sizes.append(size)
    return sizes


def _remember(item: Item, say: Say) -> None:
    """Records a file that was found right; a home that only others may write to stays as it is."""
    if item.is_recorded() and item.pinned:
        return
    try:
        with _alone(item.set.folder, say):
            _record(item, file_digest(item.target))
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise


@dataclass
class Report:
    """What came of a fetch."""

    fetched: list[Item] = field(default_factory=list)
    failures: list[tuple[Item, FetchError]] = field(default_factory=list)
    #: files that were not tried, because no server could be reached
    untried: list[Item] = field(default_factory=list)


def fetch(
    planned: Plan,
    source: Source,
    observe: Callable[[Item, int, int | None], None] = lambda item, done, total: None,
    say: Say = lambda words: None,
) -> Report:
    """Brings what is missing. What fails is in the report, and what came stays."""
    report = Report()
    for number, item in enumerate(planned.missing):
        try:
            fetch_item(item, source, partial(observe, item), say)
        except FetchError as error:
            report.failures.append((item, error))
            if isinstance(error, Unreachable):
                report.untried = planned.missing[number + 1 :]
                break
        else:
            report.fetched.append(item)
    return report


def fetch_item(
    item: Item,
    source: Source,
    observe: download.Observer = lambda done, total: None,
    say: Say = lambda words: None,
) -> None:
    """Brings one file and verifies it. FetchError if it cannot be brought or is another file."""
    item.target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(item.set.folder, say) as alone:
        if not item.fault():
            return  # another fetch has brought it meanwhile
        # Without a lock two fetches must not write to one file; theirs is then not resumed.
        part = item.part if alone else item.part.with_suffix(f".{os.getpid()}.part")
        try:
            digest = _bring(item, source, part, observe)
            part.chmod(0o644)
            part.replace(item.target)
            sync(item.target.parent)
            _record(item, digest)
        finally:
            if not alone:
                part.unlink(missing_ok=True)


def _bring(item: Item, source: Source, part: Path, observe: download.Observer) -> str:
    """The digest of the file that is in ``part`` then, and right."""
    while True:
        resumed = download.length(part) > 0
        vouched = source.bring(item, part, observe)
        digest = digest_file(part)
        wrong = what_is_wrong(item.file, digest, recorded(item.set.folder).get(item.file.path))
        if not wrong and not item.pinned and vouched and vouched != digest:
            wrong = f"SHA-256 {digest[:12]}…, expected {vouched[:12]}…"
        if not wrong:
            return digest
        part.unlink()
        if not resumed:
            raise FetchError(_refusal(item, wrong))


def _refusal(item: Item, wrong: str) -> str:
    if item.file.sha256 is None and not item.file.sha256_prefix and item.pinned:
        return (
            f"what came for {item.label} is not what came at the first fetch ({wrong}) and was not "
            f"kept: if you know the new file to be right, delete {item.set.folder / DIGESTS_FILE} "
            "and fetch again"
        )
    return (
        f"what came for {item.label} is not the published file ({wrong}) and was not kept: look "
        "whether a proxy changes downloads, or get the file from another mirror"
    )


def _record(item: Item, digest: str) -> None:
    """Writes a verified file into its folder's ``digests.json``."""
    entries = recorded(item.set.folder)
    entry = {"sha256": digest, "size": item.target.stat().st_size}
    if item.file.sha256 is None:
        entry["pinned"] = entries.get(item.file.path, {}).get("pinned") or digest
    entries[item.file.path] = entry
    remember_digest(item.target, digest)
    write_text(item.set.folder / DIGESTS_FILE, json.dumps(entries, indent=2, sort_keys=True) + "\n")


@contextmanager
def _alone(folder: Path, say: Say = lambda words: None) -> Iterator[bool]:
    """Waits until no other fetch works in the folder.

    Yields whether it could be made sure of: some network file systems know no locks.
    """
    waiting = f"another fetch is working in {folder}; waiting for it"
    with locked(folder / _LOCK_FILE, lambda: say(waiting)) as alone:
        yield alone


def summary(planned: Plan) -> list[str]:
    """What a fetch will do, in lines."""
    lines = [
        f"{item.label}  {human(size)}" + ("" if fault == "absent" else f"  ({fault})")
        for item, fault, size in zip(planned.missing, planned.faults, planned.sizes, strict=True)
    ]
    begun = sum(download.length(item.part) for item in planned.missing)
    total = human(planned.needed) if planned.needed else "an unknown size"
    more = " and what is not known yet" if planned.needed and None in planned.sizes else ""
    rest = f", {human(begun)} are here already" if begun else ""
    count = "1 file" if len(planned.missing) == 1 else f"{len(planned.missing)} files"
    return [*lines, f"{count} to fetch: {total}{more}{rest}"]

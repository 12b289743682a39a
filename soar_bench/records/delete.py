"""Delete records, and cached images and scores that they alone need. Imports no torch."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from soar_bench.cache.images import ImageStore
from soar_bench.cache.scores import Journal
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.temporary import delete_folder, sweep
from soar_bench.records.folders import Entry
from soar_bench.records.run import RUN_FILE, SCORES_FILE, Run
from soar_bench.suites.types import PlannedSample, Prompt

_SHOWN = 8
#: Files of a record's folder; files.csv is of images from elsewhere.
_OURS = (RUN_FILE, SCORES_FILE, "files.csv")


def samples_of(scores: pd.DataFrame) -> list[PlannedSample]:
    """Return the samples of a record, each once and in order, without their prompts' metadata."""
    rows = scores[["prompt_id", "prompt", "index"]].drop_duplicates()
    return [
        PlannedSample(Prompt(identity, text), int(index))
        for identity, text, index in rows.itertuples(index=False)
    ]


def store_of(run: Run, cache: Path) -> ImageStore | None:
    """Return where the cache keeps the run's images; None for images from elsewhere."""
    record = run.record
    if run.imported or record.suite.seed is None:
        return None
    return ImageStore.of(
        cache, record.checkpoint.digest, record.protocol.settings, record.suite.seed
    )


@dataclass(frozen=True)
class Cached:
    """Part of the cache that one run alone needs."""

    store: ImageStore
    images: tuple[PlannedSample, ...]
    #: folders of scores
    scores: tuple[Path, ...]

    def __bool__(self) -> bool:
        return bool(self.images or self.scores)


def only_needed_by(
    entries: Sequence[Entry], all_entries: Sequence[Entry], cache: Path
) -> list[Cached]:
    """Return the part of the cache that no record but those of ``entries`` needs.

    SoarBenchError where a record is broken, so that nobody can tell what it needs.
    """
    going = {entry.folder.resolve() for entry in entries}
    kept: set[Path] = set()
    for entry in all_entries:
        if entry.folder.resolve() not in going:
            for _, images, journals in _needs(entry, cache):
                kept |= {*images, *journals}
    return [
        Cached(
            store,
            tuple(s for file, s in images.items() if file not in kept and file.exists()),
            tuple(folder for folder in journals if folder not in kept and folder.exists()),
        )
        for entry in entries
        for store, images, journals in _needs(entry, cache)
    ]


def _needs(
    entry: Entry, cache: Path
) -> Iterator[tuple[ImageStore, dict[Path, PlannedSample], list[Path]]]:
    """Yield the store of a record's images, the sample of each of its files, and the folders of its
    scores; nothing for images from elsewhere.
    """
    if entry.run is None or entry.fault:
        raise SoarBenchError(
            f"it cannot be told which images {entry.folder} needs ({entry.fault}): mend or delete "
            "that record without --images first"
        )
    if store := store_of(entry.run, cache):
        evaluators = entry.run.record.evaluators.items()
        journals = [
            Journal.of(cache, n, e.decides, store.folder.name, {}).folder for n, e in evaluators
        ]
        yield store, {store.file(s): s for s in samples_of(entry.run.scores())}, journals


def delete(entry: Entry, results: Path) -> None:
    """Remove a record, whole or not at all.

    Folders inside ``results`` that are left empty go too. SoarBenchError if the folder holds
    anything else, or may not be removed.
    """
    folder = entry.folder.resolve()
    try:
        others = [f.name for f in folder.iterdir() if f.name not in _OURS and f.name[0] != "."]
        if others:
            raise SoarBenchError(
                f"{folder} holds more than a record ({', '.join(sorted(others)[:_SHOWN])}): "
                "move that away first"
            )
        delete_folder(folder)
    except OSError as error:
        raise SoarBenchError(f"{folder} cannot be deleted: {error.strerror}") from None
    with suppress(OSError):  # not empty
        for above in folder.parents:
            if results.resolve() not in above.parents:
                break
            sweep(above)
            above.rmdir()


def delete_cached(cached: Sequence[Cached]) -> int:
    """Remove images and scores; return how many images."""
    for part in cached:
        with part.store.lock():
            part.store.remove(part.images)
            sweep(part.store.folder)
            with suppress(OSError):  # not empty, or not there
                part.store.folder.rmdir()
                part.store.lock_file.unlink(missing_ok=True)
        for folder in part.scores:
            shutil.rmtree(folder, ignore_errors=True)
    return sum(len(part.images) for part in cached)

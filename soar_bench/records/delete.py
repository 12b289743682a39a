"""Delete records, and what of the cache they alone need. Imports no torch."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from soar_bench.cache.images import ImageStore
from soar_bench.cache.scores import Journal
from soar_bench.core.errors import SoarBenchError
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
    """What of the cache one run alone needs."""

    store: ImageStore
    images: tuple[PlannedSample, ...]
    #: folders of scores
    scores: tuple[Path, ...]

    def __bool__(self) -> bool:
        return bool(self.images or self.scores)


def only_needed_by(
    entries: Sequence[Entry], all_entries: Sequence[Entry], cache: Path
) -> list[Cached]:
    """Return what of the cache no record but those of ``entries`` needs.

    SoarBenchError where a record is broken, so that nobody can tell what it needs.
    """
    going = {entry.folder.resolve() for entry in entries}
    needed: dict[Path, set[Path]] = {}
    kept: set[Path] = set()
    for entry in all_entries:
        if entry.folder.resolve() in going:
            continue
        run = _whole(entry)
        store = store_of(run, cache)
        if store is not None:
            files = needed.setdefault(store.folder, set())
            files |= {store.file(sample) for sample in samples_of(run.scores())}
            kept |= set(_journals(run, cache, store))
    cached = []
    for run in map(_whole, entries):
        store = store_of(run, cache)
        if store is None:
            continue
        files = needed.get(store.folder, set())
        alone = [
            sample
            for sample in samples_of(run.scores())
            if store.file(sample) not in files and store.file(sample).exists()
        ]
        journals = [j for j in _journals(run, cache, store) if j not in kept and j.exists()]
        cached.append(Cached(store, tuple(alone), tuple(journals)))
    return cached


def _whole(entry: Entry) -> Run:
    if entry.run is None or entry.fault:
        raise SoarBenchError(
            f"it cannot be told which images {entry.folder} needs ({entry.fault}): mend or delete "
            "that record without --images first"
        )
    return entry.run


def _journals(run: Run, cache: Path, store: ImageStore) -> Iterator[Path]:
    for name, evaluator in run.record.evaluators.items():
        yield Journal.of(cache, name, evaluator.decides, store.folder.name).folder


def delete(entry: Entry, results: Path) -> None:
    """Remove a record: it is there, or it is not, and never a part of it.

    Folders inside ``results`` that are left empty go too. SoarBenchError if the folder holds
    anything else, or may not be removed.
    """
    folder = entry.folder.resolve()
    try:
        strange = [f.name for f in folder.iterdir() if f.name not in _OURS and f.name[0] != "."]
        if strange:
            raise SoarBenchError(
                f"{folder} holds more than a record ({', '.join(sorted(strange)[:_SHOWN])}): "
                "move that away first"
            )
        hidden = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        folder.replace(hidden / folder.name)
        shutil.rmtree(hidden)
    except OSError as error:
        raise SoarBenchError(f"{folder} cannot be deleted: {error.strerror}") from None
    with suppress(OSError):  # not empty
        for above in folder.parents:
            if results.resolve() not in above.parents:
                break
            above.rmdir()


def delete_cached(cached: Sequence[Cached]) -> tuple[int, int]:
    """Remove images and scores; return how many images, and how many folders of scores."""
    images = scores = 0
    for part in cached:
        with part.store.lock():
            part.store.remove(part.images)
            images += len(part.images)
            with suppress(OSError):  # not empty, or not there
                part.store.folder.rmdir()
                part.store.lock_file.unlink(missing_ok=True)
        for folder in part.scores:
            shutil.rmtree(folder, ignore_errors=True)
            scores += 1
    return images, scores

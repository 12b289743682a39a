"""Records as a user manages them: found by what a person types, and deleted.

Imports no torch.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from soar_bench.cache.images import ImageStore
from soar_bench.cache.scores import Journal
from soar_bench.core.errors import SoarBenchError
from soar_bench.records import RUN_FILE, SCORES_FILE, Run, read_run, run_folders
from soar_bench.suites.types import PlannedSample, Prompt

_SHOWN = 8
#: What a record's folder holds; files.csv is of images from elsewhere.
_OURS = (RUN_FILE, SCORES_FILE, "files.csv")


@dataclass(frozen=True)
class Found:
    """A folder that holds a record, whole or broken."""

    folder: Path
    #: what tells it apart from the others: the end of the folder's name
    id: str
    #: None if run.json cannot be read
    run: Run | None
    #: why it is broken and what to do; empty if it is whole
    fault: str = ""

    @property
    def label(self) -> str:
        return self.run.label if self.run else self.folder.name.rpartition("-")[0]


def look(folder: Path) -> Found:
    """What a record's folder holds. Never fails."""
    run, fault = None, ""
    try:
        run = read_run(folder)
        run.check()
    except SoarBenchError as error:
        fault = str(error)
    return Found(folder, folder.name.rpartition("-")[2], run, fault)


def survey(results: Path) -> list[Found]:
    """Every record under ``results``, broken ones too. SoarBenchError if there are no results."""
    found = [look(folder) for folder in run_folders(results)]
    times = Counter(one.id for one in found)
    return [
        replace(one, id=one.folder.relative_to(results).as_posix()) if times[one.id] > 1 else one
        for one in found
    ]


def select(results: Path, name: str) -> Found:
    """The record that ``name`` means: its folder; or its id, its folder's name, its label, the
    checkpoint as it was named, or a part of its folder's path, as long as it means only one.

    SoarBenchError if it means none or, listing them, several.
    """
    if not name.strip():
        raise SoarBenchError("a run has a name: see `soar-bench runs list`")
    folder = Path(name)
    with suppress(OSError, ValueError):  # a name that cannot be a path
        if any((folder / file).exists() for file in (RUN_FILE, SCORES_FILE)):
            return look(folder)
    known = survey(results)
    for meant in (
        [one for one in known if name in (one.id, one.folder.name)],
        [one for one in known if name in (one.label, _checkpoint(one))],
        [one for one in known if name in one.folder.relative_to(results).as_posix()],
    ):
        if len(meant) == 1:
            return meant[0]
        if meant:
            raise SoarBenchError(
                f"{name!r} means {len(meant)} runs: choose {_choices(meant, results)}"
            )
    raise SoarBenchError(
        f"no run in {results} is named {name!r}: "
        + (f"there are {_choices(known, results)}" if known else "there are none")
    )


def _checkpoint(found: Found) -> str:
    return found.run.record.checkpoint.name if found.run else ""


def _choices(found: Sequence[Found], results: Path) -> str:
    shown = [one.folder.relative_to(results).as_posix() for one in found[:_SHOWN]]
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(shown) + more


def samples_of(scores: pd.DataFrame) -> list[PlannedSample]:
    """The samples of a record, each once and in order, without their prompts' metadata."""
    rows = scores[["prompt_id", "prompt", "index"]].drop_duplicates()
    return [
        PlannedSample(Prompt(identity, text), int(index))
        for identity, text, index in rows.itertuples(index=False)
    ]


def store_of(run: Run, cache: Path) -> ImageStore | None:
    """Where the cache has the run's images, if it has them; None for images made elsewhere."""
    if run.imported:
        return None
    record = run.record
    assert record.suite.seed is not None  # as the record's validation has seen
    return ImageStore.of(
        cache,
        record.checkpoint.digest,
        record.protocol.settings,
        record.suite.seed,
    )


def reasons(scores: pd.DataFrame) -> dict[str, dict[str, int]]:
    """By metric that has unscored samples: why, and of how many, the most frequent first."""
    unscored = scores[scores["unscored"] != ""]
    return {
        str(metric): dict(Counter(rows["unscored"]).most_common())
        for metric, rows in unscored.groupby("metric", sort=False)
    }


@dataclass(frozen=True)
class Cached:
    """What of the cache one run alone needs."""

    store: ImageStore
    images: tuple[PlannedSample, ...]
    #: folders of scores
    scores: tuple[Path, ...]

    def __bool__(self) -> bool:
        return bool(self.images or self.scores)


def only_needed_by(found: Sequence[Found], known: Sequence[Found], cache: Path) -> list[Cached]:
    """What of the cache no record of ``known`` but those of ``found`` needs.

    SoarBenchError where a record is broken, so that nobody can tell what it needs.
    """
    going = {one.folder.resolve() for one in found}
    staying = [one for one in known if one.folder.resolve() not in going]
    needed: dict[Path, set[Path]] = {}
    kept: set[Path] = set()
    for run in map(_whole, staying):
        store = store_of(run, cache)
        if store is not None:
            files = needed.setdefault(store.folder, set())
            files |= {store.file(sample) for sample in samples_of(run.scores())}
            kept |= set(_journals(run, cache, store))
    cached = []
    for run in map(_whole, found):
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


def _whole(found: Found) -> Run:
    if found.run is None or found.fault:
        raise SoarBenchError(
            f"it cannot be told which images {found.folder} needs ({found.fault}): mend or delete "
            "that record without --images first"
        )
    return found.run


def _journals(run: Run, cache: Path, store: ImageStore) -> Iterator[Path]:
    for name, evaluator in run.record.evaluators.items():
        yield Journal.of(cache, name, evaluator.decides, store.folder.name).folder


def delete(found: Found, results: Path) -> None:
    """Removes a record: it is there, or it is not, and never a part of it. Folders inside
    ``results`` that are left empty go too.

    SoarBenchError if the folder holds anything else, or may not be removed.
    """
    folder = found.folder.resolve()
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
    """Removes images and scores; how many images, and how many folders of scores."""
    images = scores = 0
    for one in cached:
        with one.store.lock():
            one.store.remove(one.images)
            images += len(one.images)
            with suppress(OSError):  # not empty, or not there
                one.store.folder.rmdir()
                one.store.lock_file.unlink(missing_ok=True)
        for folder in one.scores:
            shutil.rmtree(folder, ignore_errors=True)
            scores += 1
    return images, scores

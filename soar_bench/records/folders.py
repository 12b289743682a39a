"""Records in a folder, and the one that a name means. Imports no torch."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from soar_bench.checkpoints import is_here, resolve
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.text import first_few
from soar_bench.records.labels import told_apart
from soar_bench.records.run import RUN_FILE, SCORES_FILE, Run, read_run, read_runs, run_folders

_SHOWN = 8


@dataclass(frozen=True)
class Entry:
    """A folder that holds a record, whole or broken."""

    folder: Path
    #: end of the folder's name; where several end alike its whole name, or else its path
    id: str
    #: None if run.json cannot be read
    run: Run | None
    #: why it is broken and what to do; empty if it is whole
    fault: str = ""
    #: label of the checkpoint, with what tells it from others of that label; see :func:`told_apart`
    shown: str = ""

    @property
    def label(self) -> str:
        """Name of the checkpoint, as far as it can be told."""
        if self.shown or self.run is None:
            return self.shown or self.folder.name.rpartition("-")[0]
        return self.run.label

    @property
    def checkpoint(self) -> str:
        """The checkpoint as the user named it; empty if run.json cannot be read."""
        return self.run.record.checkpoint.name if self.run else ""

    def whole(self) -> Run:
        """Return the run. SoarBenchError, with the fault, if it is broken."""
        if self.run is None or self.fault:
            raise SoarBenchError(self.fault)
        return self.run


def look(folder: Path) -> Entry:
    """Return the record in a folder, broken or not. Never fails."""
    run, fault = None, ""
    try:
        run = read_run(folder)
        run.check()
    except SoarBenchError as error:
        fault = str(error)
    return Entry(folder, folder.name.rpartition("-")[2], run, fault)


def survey(results: Path) -> list[Entry]:
    """Return every record under ``results``, broken ones too. SoarBenchError without results."""
    entries = [look(folder) for folder in run_folders(results)]
    ids = [(e.id, e.folder.name, _place(e, results)) for e in entries]
    times = Counter(name for names in ids for name in dict.fromkeys(names))
    runs = [entry.run for entry in entries if entry.run]
    shown = iter(told_apart([run.record.checkpoint.named for run in runs]))
    return [
        replace(
            entry,
            id=next((name for name in names if times[name] == 1), names[-1]),
            shown=next(shown) if entry.run else "",
        )
        for entry, names in zip(entries, ids, strict=True)
    ]


def _place(entry: Entry, results: Path) -> str:
    return entry.folder.relative_to(results).as_posix()


def select(results: Path, name: str) -> Entry:
    """Return the record that ``name`` means, as long as it means only one.

    That is its folder; or its id, its folder's name, its label, the checkpoint as it was named, or
    a part of its folder's path. SoarBenchError if it means none or, listing them, several.
    """
    if not name.strip():
        raise SoarBenchError("a run has a name: see `soar-bench runs list`")
    folder = Path(name)
    with suppress(OSError, ValueError):  # a name that cannot be a path
        if any((folder / file).exists() for file in (RUN_FILE, SCORES_FILE)):
            return look(folder)
    entries = survey(results)
    for meant in (
        [entry for entry in entries if name in (entry.id, entry.folder.name)],
        [entry for entry in entries if name == entry.label],
        [e for e in entries if name in (e.run.label if e.run else e.label, e.checkpoint)],
        [entry for entry in entries if name in _place(entry, results)],
    ):
        if len(meant) == 1:
            return meant[0]
        if meant:
            raise SoarBenchError(
                f"{name!r} means {len(meant)} runs: choose {_choices(meant, results)}"
            )
    hint = _did_you_mean(name, results, entries) or ": there are " + (
        _choices(entries, results) if entries else "none"
    )
    raise SoarBenchError(f"no run in {results} is named {name!r}{hint}")


def _did_you_mean(name: str, results: Path, entries: Sequence[Entry]) -> str:
    """Return ``; did you mean A or B?`` for folders of runs and labels nearest to a name that means
    none, or an empty string.

    Nearest are the folders whose suite or protocol has settings behind the name
    (``results/shapes+limit=2`` for ``results/shapes``), then those whose name is spelled alike.
    """
    within = Path(name).is_relative_to(results)
    folders = {
        (folder if within else folder.relative_to(results)).as_posix(): None
        for entry in entries
        for folder in (entry.folder, *entry.folder.parents)
        if folder != results and folder.is_relative_to(results)
    }
    parts = Path(name).parts
    if len(parts) > 1 and not within:  # another folder of results
        with suppress(OSError, ValueError):
            folders |= {folder.as_posix(): None for folder in sorted(Path(name).parent.iterdir())}
    near = [folder for folder in folders if _with_settings(Path(folder).parts, parts)]
    names = [*folders, *(entry.label for entry in entries)]
    near = near or difflib.get_close_matches(name, dict.fromkeys(names), n=3)
    return f"; did you mean {' or '.join(near[:3])}?" if near else ""


def _with_settings(parts: Sequence[str], named: Sequence[str]) -> bool:
    """Return whether each part of a path is the named one, or that with ``+SETTING=VALUE``."""
    return len(parts) == len(named) and all(
        part == name or part.startswith(f"{name}+") for part, name in zip(parts, named, strict=True)
    )


def _choices(entries: Sequence[Entry], results: Path) -> str:
    return first_few([_place(entry, results) for entry in entries], _SHOWN)


def find(name: str, results: Path) -> list[Run]:
    """Return the runs that ``name`` means: the one of its folder, or all of a folder that holds
    runs; else all of the checkpoint that ``soar-bench eval`` takes by that name; else
    :func:`select`'s.

    SoarBenchError if there are none or the one that is meant is broken.
    """
    folder = Path(name)
    if folder.is_dir() and (folder / RUN_FILE).exists():
        return [select(results, name).whole()]
    if folder.is_dir() and (runs := read_runs(folder)):
        return runs
    if not results.is_dir():
        hint = _did_you_mean(name, results, []) or f", and no {results} to look for it"
        raise SoarBenchError(f"there is no run in {name}{hint}")
    if runs := _of_checkpoint(name, results):
        return runs
    if folder.is_dir():
        raise SoarBenchError(f"there is no run in {name}, and none of it in {results}")
    return [select(results, name).whole()]


def _of_checkpoint(name: str, results: Path) -> list[Run]:
    """Return the runs of the checkpoint that is named as in eval: as it was named there, by another
    path, or by another name of the same weights.
    """
    runs = [entry.run for entry in survey(results) if entry.run and not entry.fault]
    runs = [run for run in runs if not run.imported]
    named = [run for run in runs if run.record.checkpoint.name == name]
    if not named and is_here(name):
        stands_on = (run.record.checkpoint.base for run in runs)
        bases = dict.fromkeys(base.name for base in stands_on if base)
        for base in (None, *bases):  # weights that do not say what they stand on
            with suppress(SoarBenchError):
                digest = resolve(name, base).digest
                named += [run for run in runs if run.record.checkpoint.digest == digest]
    return list({run.folder: run for run in named}.values())

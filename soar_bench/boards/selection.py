"""Boards of the runs that a person names, and which entrant the others are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from soar_bench.boards.entrants import Entrant, check_measured_alike, group_seeds
from soar_bench.core.errors import SoarBenchError
from soar_bench.records import Run

_Parts = Sequence[Sequence[Run]]


def select_boards(
    parts: _Parts,
    anyway: bool = False,
    reference: str | None = None,
    find: Callable[[str], list[Run]] | None = None,
) -> tuple[list[list[Entrant]], list[str]]:
    """Return the entrants of each board, the reference first, and a note on each that is left out.

    ``parts`` are the runs of each argument. A folder or checkpoint may have runs of several boards,
    which are then compared one by one; with ``anyway`` all runs are one board. The reference is the
    entrant or the training of that name, or of the runs that ``find`` gives for it, which then join
    the others; without it that of the first argument, within a folder a pipeline that others stand
    on.
    SoarBenchError if no board has two entrants, naming why.
    """
    boards = _boards(parts, anyway)
    if reference is None:
        pairs, notes = _with_two(boards, parts)
        return pairs, [*notes, *(_without_base(pairs) if len(parts[0]) > 1 else [])]
    named = [e for board in boards for e in board if e.name == reference]
    named = named or [e for board in boards for e in _of_training(reference, board)]
    if named:
        folders = {run.folder.resolve() for entrant in named for run in entrant.runs}
    else:
        assert find is not None, "a reference that is no entrant's name is looked up"
        parts = [find(reference), *parts]
        folders = {run.folder.resolve() for run in parts[0]}
        boards = _boards(parts, anyway)
    with_reference: list[list[Entrant]] = []
    notes = []
    for board in boards:
        board.sort(key=lambda e: folders.isdisjoint(run.folder.resolve() for run in e.runs))
        if folders.isdisjoint(run.folder.resolve() for run in board[0].runs):
            notes.append(f"{board[0].first.record.title} has no {reference}: left out")
        else:
            with_reference.append(board)
    pairs, more = _with_two(with_reference, parts)
    return pairs, notes + more


def _of_training(name: str, board: Sequence[Entrant]) -> list[Entrant]:
    """Return the entrant of a training's name; none where several are of it."""
    entrants = [entrant for entrant in board if entrant.first.name == name]
    return entrants if len(entrants) == 1 else []


def _boards(parts: _Parts, anyway: bool) -> list[list[Entrant]]:
    """Return the entrants of each board in the order of the arguments, and within one, whose runs
    are read by their folders' names, the checkpoints of one label by step.
    """
    place: dict[Path, int] = {}
    groups: dict[str, list[Run]] = {}
    for i, part in enumerate(parts):
        for run in part:
            place.setdefault(run.folder.resolve(), i)
            groups.setdefault("" if anyway else run.board, []).append(run)
    if all(len(part) == 1 for part in parts) and len(groups) > 1:
        check_measured_alike([run for part in parts for run in part])

    def in_order(entrants: list[Entrant]) -> list[Entrant]:
        labels = list(dict.fromkeys(entrant.first.label for entrant in entrants))

        def order(entrant: Entrant) -> tuple[int, int, int]:
            argument = min(place[run.folder.resolve()] for run in entrant.runs)
            run = entrant.first
            return argument, labels.index(run.label), run.training.get("step") or 0

        return sorted(entrants, key=order)

    return [in_order(group_seeds(runs)) for runs in groups.values()]


def _without_base(boards: Sequence[Sequence[Entrant]]) -> list[str]:
    """Return a note on each board of checkpoints that all stand on one base, which has no run."""
    notes = []
    for board in boards:
        bases = [entrant.first.record.checkpoint.base for entrant in board]
        names = {base.digest: base.name for base in bases if base}
        if None not in bases and len(names) == 1:
            notes.append(
                f"{board[0].first.record.title} has no run of the base {next(iter(names.values()))}"
                f": {board[0].name} is the reference; evaluate the base, or name a --reference"
            )
    return notes


def _with_two(boards: list[list[Entrant]], parts: _Parts) -> tuple[list[list[Entrant]], list[str]]:
    pairs = [board for board in boards if len(board) > 1]
    if not pairs:
        if len(boards) > 1:
            check_measured_alike([run for part in parts for run in part])
        raise SoarBenchError(f"comparing needs two checkpoints: there is one, {boards[0][0].name}")
    alone = [board[0] for board in boards if len(board) == 1]
    notes = [f"{e.first.record.title} has one checkpoint, {e.name}: left out" for e in alone]
    return pairs, notes

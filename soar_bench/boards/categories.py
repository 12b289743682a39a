"""Categories of a board's prompts: the values of one column of their metadata."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from soar_bench.boards.board import Board
from soar_bench.core.errors import SoarBenchError, unknown_name
from soar_bench.core.text import encodable
from soar_bench.records import Run
from soar_bench.scoring.folders import open_folder
from soar_bench.suites import SUITES, get_suite, whole_name
from soar_bench.suites.types import Prompt, Suite

#: Prompts without the column, or with an empty one.
NONE = "(none)"
#: A column of more values tells prompts apart, not kinds of them.
MOST = 50
#: The column of the tasks, and its other name in files of prompts.
TASK = ("tag", "task")

#: Prompt ids by category.
Categories = Mapping[str, frozenset[str]]


def categories(board: Board, column: str, suite: Suite | None = None) -> Categories:
    """Return the prompts of each category: numbers rise, other values are in the suite's order, and
    prompts without the column come last, as :data:`NONE`.

    Tasks (``tag``) are in the records; other columns are read from the suite, which must have the
    record's digest. ``suite`` is one that has neither a name nor a file. SoarBenchError if the
    suite cannot be read or has changed, or if the column is not there or has more than :data:`MOST`
    values.
    """
    run = board.entrants[0].first
    tasks = _tasks(board)
    values: dict[str, Any] = tasks
    if column != TASK[0] or not any(tasks.values()):
        prompts = _prompts(run, suite)
        columns = list(dict.fromkeys(name for prompt in prompts for name in prompt.metadata))
        name = TASK[0] if column == TASK[1] and column not in columns else column
        if not columns:
            raise SoarBenchError(
                f"the prompts of {run.record.suite.name} have no metadata, so no column {column!r}"
            )
        if name not in columns:
            if TASK[0] in columns:
                columns = list(dict.fromkeys((*columns, *TASK)))
            raise unknown_name(f"column of the prompts of {run.record.suite.name}", column, columns)
        values = {p.id: p.metadata.get(name) for p in prompts if p.id in tasks}
    by_text: dict[str, set[str]] = {}
    for id, value in values.items():
        by_text.setdefault(_text(value), set()).add(id)
    if len(by_text) > MOST:
        raise SoarBenchError(
            f"the column {column!r} of {run.record.suite.name} has {len(by_text)} values, more "
            f"than {MOST}: choose one that groups the prompts"
        )
    return {text: frozenset(by_text[text]) for text in _ordered(by_text)}


def categories_of_boards(
    boards: Sequence[Board], column: str
) -> tuple[list[Categories], list[str]]:
    """Return the :func:`categories` of each board, and for each a sentence that says why it has
    none, or an empty one. Without a column no board has any. SoarBenchError if one is named that no
    board has.
    """
    by_board: list[Categories] = [{} for _ in boards]
    reasons = ["" for _ in boards]
    if not column:
        return by_board, reasons
    for number, board in enumerate(boards):
        try:
            by_board[number] = categories(board, column)
        except SoarBenchError as error:
            reasons[number] = str(error)
    if boards and all(reasons):
        raise SoarBenchError("; ".join(dict.fromkeys(reasons)))
    return by_board, [reason and f"Not by {column}: {reason}." for reason in reasons]


def held_out(board: Board) -> Categories:
    """Return the prompts of each task whose combinations the embedded world never trains on; none
    for other suites, and none of a suite that has changed since.
    """
    run, tasks = board.entrants[0].first, _tasks(board)
    if (
        run.imported
        or run.record.suite.source
        or whole_name(run.record.suite.name)[0] not in SUITES
    ):
        return {}
    by_task: dict[str, set[str]] = {}
    with suppress(SoarBenchError):  # the suite has changed
        for prompt in _prompts(run, None):
            if prompt.metadata["held_out"] and prompt.id in tasks:
                by_task.setdefault(tasks[prompt.id], set()).add(prompt.id)
    return {task: frozenset(ids) for task, ids in by_task.items()}


def _tasks(board: Board) -> dict[str, str]:
    """Return the task of each prompt, as the first run's scores have it."""
    return {
        str(id): str(task)
        for scores in board.scores_of(0, 0).values()
        for id, task in zip(scores.prompt_id, scores.task, strict=True)
    }


def _prompts(run: Run, suite: Suite | None) -> tuple[Prompt, ...]:
    """Return the prompts of a run with their metadata. SoarBenchError if they are not at hand."""
    recorded, checkpoint = run.record.suite, run.record.checkpoint
    if suite is None and run.imported and not checkpoint.tool:
        images = open_folder(Path(checkpoint.name))
        name, digest, prompts = checkpoint.name, images.digest(), images.prompts
    else:
        name = recorded.source or recorded.name
        suite = suite or get_suite(name, seed=recorded.seed)
        digest, prompts = suite.digest(), suite.prompts
    if digest != recorded.digest:
        raise SoarBenchError(
            f"the prompts of {name} have changed since they were judged, so their metadata are not "
            "known: bring back the old ones, or run that eval again"
        )
    return prompts


def _text(value: Any) -> str:
    """Return a value as the name of its category."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return NONE if value is None or not text.strip() else encodable(text.strip())


def _ordered(texts: Iterable[str]) -> list[str]:
    names = [text for text in texts if text != NONE]
    with suppress(ValueError):  # texts stay in the suite's order
        names.sort(key=float)
    return names + [NONE] * (NONE in texts)

"""A comparison and its outcome, in sentences and a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from soar_bench.boards.over_optimised import over_optimised
from soar_bench.boards.rows import BETTER, TESTS, WORSE, Row
from soar_bench.boards.words import leak_notes
from soar_bench.core.text import count
from soar_bench.report import text
from soar_bench.report.sections import Section

#: The verdicts that a colour and an arrow go with.
ARROWS = {BETTER: "▲", WORSE: "▼"}
#: A sentence names no more checkpoints than this: the table has them all.
_FEW = 4


@dataclass(frozen=True)
class SummaryRow:
    """A row of a comparison in the words of the summary table."""

    row: Row
    #: how many rows the metric has where it begins here, else 0
    span: int
    #: number of the entrant, for its colour and mark
    series: int
    #: an arrow to where better is
    direction: str
    value: str
    difference: str
    #: the effect size under the difference; empty where there is none
    effect: str
    p: str
    #: prompts won, tied and lost
    prompts: str
    #: more that there is to say of the verdict
    remark: str
    #: ``better``, ``worse`` or empty
    tone: str


def table(board: Section) -> list[SummaryRow]:
    """Return the summary table of a board."""
    places = {entrant.name: i for i, entrant in enumerate(board.entrants)}
    lines = []
    for i, row in enumerate(board.rows):
        first = i == 0 or board.rows[i - 1].metric != row.metric
        compared = row.difference is not None and bool(row.difference.scored)
        effect = f"d {row.effect:+.2f}".replace("-", "−") if math.isfinite(row.effect) else ""
        lines.append(
            SummaryRow(
                row,
                sum(r.metric == row.metric for r in board.rows) if first else 0,
                places[row.entrant],
                "↑ higher is better" if row.higher_is_better else "↓ lower is better",
                text.estimate(row.value, row.value_interval),
                text.estimate(row.difference, row.interval, sign=True),
                effect,
                text.p_value(row.p_corrected),
                f"{row.wins} / {row.ties} / {row.losses}" if compared else text.NONE,
                _remark(row),
                _tone(row),
            )
        )
    return lines


def _tone(row: Row) -> str:
    return next((word for word in ARROWS if row.verdict.startswith(word)), "")


def _remark(row: Row) -> str:
    """Return the answer to what a reader would ask next."""
    if row.difference is None or not row.difference.scored:
        return ""
    if row.disagrees:
        return f"the interval alone says more, but {count(row.tests, 'metric')} were looked at"
    if not _tone(row) and math.isfinite(row.needed) and row.needed > row.difference.prompts:
        return f"to show one of this size: about {round(row.needed):,} prompts"
    return ""


def tests(board: Section) -> list[str]:
    """Return the tests behind the board's p-values, in words."""
    return [TESTS[name] for name in dict.fromkeys(row.test for row in board.rows) if name in TESTS]


def introduction(board: Section) -> str:
    """Return what was compared, in one sentence."""
    suite, settings = board.record.suite, board.record.protocol.settings
    runs, entrants, images = len(board.runs), len(board.entrants), suite.images_per_prompt
    seeds = f" ({count(runs, 'run')}, seeds of one training taken together)"
    checkpoints = f"{count(entrants, 'checkpoint')}{seeds if runs > entrants else ''}"
    each = f"{_plain(images)} {'image' if images == 1 else 'images'} each"
    compared = f"{checkpoints} on {board.suite}: {count(suite.prompts, 'prompt')}, {each}"
    if board.runs[0].imported:
        return f"{compared}, made elsewhere."
    parts = (
        f"{settings['steps']} steps" if "steps" in settings else "",
        f"guidance {_plain(settings['guidance'])}" if "guidance" in settings else "",
        f"{settings['resolution']} pixels" if settings.get("resolution") else "",
    )
    return (
        f"{compared}, all from the same noise; {board.protocol}: {', '.join(filter(None, parts))}."
    )


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def judges(board: Section) -> list[tuple[dict[str, str], str]]:
    """Return for two judges of right and wrong a row of their table, and the address of the
    pictures on which they part; empty where they part on none.
    """
    places = [name for name, _ in board.metrics]
    runs = {entrant.name: board.runs.index(entrant.first) for entrant in board.entrants}
    rows = []
    for pair in board.agreements:
        query = f"board={board.key}&metric={places.index(pair.first)}&a={runs[pair.entrant]}"
        rows.append((pair.cells(), f"#gallery?{query}&show=parted" if pair.parted else ""))
    return rows


def findings(board: Section) -> list[tuple[str, str]]:
    """Return for each metric what came of the comparison: (metric, sentence)."""
    reference = board.entrants[0].name
    if len(board.entrants) == 1:
        alone = "one checkpoint, so nothing to compare it with."
        return [
            (row.metric, f"{text.estimate(row.value, row.value_interval)}; {alone}")
            if row.value.scored
            else (row.metric, "nothing could be scored.")
            for row in board.rows
        ]
    sentences = []
    for metric, _ in board.metrics:
        groups: dict[str, list[Row]] = {verdict: [] for verdict in ARROWS}
        rows = [row for row in board.rows if row.metric == metric and row.difference is not None]
        for row in sorted(rows, key=_rank):
            groups.setdefault(_tone(row) or row.verdict, []).append(row)
        parts = [_part(verdict, group, reference) for verdict, group in groups.items() if group]
        sentences.append((metric, "; ".join(parts) + "."))
    return sentences


def _rank(row: Row) -> tuple[str, float]:
    """Order rows by verdict, and those of one by the size of their difference."""
    size = abs(row.difference.value) if row.difference and _tone(row) else 0.0
    return row.verdict, -size


def _part(verdict: str, rows: Sequence[Row], reference: str) -> str:
    few = len(rows) <= _FEW
    if verdict in ARROWS:
        numbers = [text.estimate(row.difference, row.interval, sign=True) for row in rows]
        names = [row.entrant for row in rows]
        if few:
            return ", ".join(
                f"{name} is {row.verdict} than {reference} ({number})"
                for row, name, number in zip(rows, names, numbers, strict=True)
            )
        most = ", ".join(f"{n} ({d})" for n, d in zip(names[:_FEW], numbers, strict=False))
        return f"{len(rows)} checkpoints are {verdict} than {reference}, most of all {most}"
    if not few:
        return f"{verdict}: {len(rows)} checkpoints"
    names = [row.entrant for row in rows]
    # Names such as "soar, step 100" have commas of their own.
    between = " and " if any("," in name for name in names) else ", "
    return f"{verdict}: {between.join(names)}"


def _no_interval(row: Row, of_run: bool) -> str:
    """Say why a value has no interval."""
    if of_run:
        return "it is one figure of the whole run"
    if row.value.prompts < 2:
        return "one prompt is too few"
    if row.value.standard_error == 0:
        return "every prompt has the same score, which says nothing of other prompts"
    return "a task has one prompt only"


def warnings(board: Section) -> list[str]:
    """Return what a reader should know before believing the table."""
    notes = []
    bare: dict[tuple[str, str], list[str]] = {}
    for row in board.rows:
        if not row.value.scored:
            notes.append(f"{row.metric}: no image of {row.entrant} could be scored.")
        elif row.value.unscored:
            notes.append(
                f"{row.metric}: {count(row.value.unscored, 'sample')} of {row.entrant} "
                f"{'is' if row.value.unscored == 1 else 'are'} unscored and in no mean."
            )
        if row.value.scored and not math.isfinite(row.value_interval[0]):
            of_run = dict(board.metrics)[row.metric].of_run
            bare.setdefault((row.metric, _no_interval(row, of_run)), []).append(row.entrant)
    notes += [
        f"{metric}: {'; '.join(names)} {'has' if len(names) == 1 else 'have'} no interval: {why}."
        for (metric, why), names in bare.items()
    ]
    notes += over_optimised(board.entrants, board.rows)
    trained = [e for e in board.entrants if e.runs[0].seed is not None]
    if trained and all(len(e.runs) == 1 for e in trained):
        notes.append(
            "One training seed each: the intervals do not hold how much another seed would give."
        )
    notes += [board.note] * bool(board.note)
    return notes + leak_notes(board.entrants)

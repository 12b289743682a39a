"""What was compared and what came of it, in sentences and a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from soar_bench.boards.rows import BETTER, TESTS, WORSE, Row
from soar_bench.report import text
from soar_bench.report.sections import Section

#: The verdicts that a colour and an arrow go with.
_ARROWS = {BETTER: "▲", WORSE: "▼"}


@dataclass(frozen=True)
class Line:
    """One row of the summary table."""

    metric: str
    unit: str
    #: an arrow to where better is
    direction: str
    #: how many rows the metric has where it begins here, else 0
    span: int
    checkpoint: str
    #: the number of the entrant, for its colour and mark
    series: int
    value: str
    scored: str
    unscored: str
    seeds: int
    difference: str
    #: the effect size under the difference; empty where there is none
    effect: str
    p: str
    #: the test under the p-value
    test: str
    #: prompts won, tied and lost
    prompts: str
    verdict: str
    #: what more there is to say of the verdict
    remark: str
    #: ``better``, ``worse`` or empty
    tone: str
    arrow: str


def table(board: Section) -> list[Line]:
    """The summary table of a board."""
    places = {entrant.name: i for i, entrant in enumerate(board.entrants)}
    lines = []
    for i, row in enumerate(board.rows):
        first = i == 0 or board.rows[i - 1].metric != row.metric
        tone = _tone(row)
        compared = row.difference is not None and bool(row.difference.scored)
        lines.append(
            Line(
                metric=row.metric,
                unit=row.unit,
                direction="↑ higher is better" if row.higher_is_better else "↓ lower is better",
                span=sum(r.metric == row.metric for r in board.rows) if first else 0,
                checkpoint=row.entrant,
                series=places[row.entrant],
                value=text.estimate(row.value, row.value_interval),
                scored=f"{row.value.scored:,}",
                unscored=f"{row.value.unscored:,}",
                seeds=row.value.seeds,
                difference=text.estimate(row.difference, row.interval, sign=True),
                effect=f"d {row.effect:+.2f}".replace("-", "−") if _known(row.effect) else "",
                p=text.p_value(row.p_corrected),
                test=row.test,
                prompts=f"{row.wins} / {row.ties} / {row.losses}" if compared else text.NONE,
                verdict=row.verdict or "the reference",
                remark=_remark(row),
                tone=tone,
                arrow=_ARROWS.get(tone, ""),
            )
        )
    return lines


def _known(value: float) -> bool:
    return math.isfinite(value)


def _tone(row: Row) -> str:
    return next((word for word in _ARROWS if row.verdict.startswith(word)), "")


def _remark(row: Row) -> str:
    """What a reader would ask next."""
    if row.difference is None or not row.difference.scored:
        return ""
    if row.disagrees:
        return f"the interval alone says more, but {text.count(row.tests, 'metric')} were looked at"
    if not _tone(row) and _known(row.needed) and row.needed > row.difference.prompts:
        return f"to show one of this size: about {round(row.needed):,} prompts"
    return ""


def tests(board: Section) -> list[str]:
    """The tests behind the board's p-values, in words."""
    return [TESTS[name] for name in dict.fromkeys(row.test for row in board.rows) if name in TESTS]


def introduction(board: Section) -> str:
    """What was compared, in one sentence."""
    record = board.record
    suite, protocol = record.suite, record.protocol
    runs, names = len(board.runs), len(board.entrants)
    seeds = f" ({text.count(runs, 'run')}, seeds of one training taken together)"
    images = suite.images_per_prompt
    what = f"{text.count(names, 'checkpoint')}{seeds if runs > names else ''}"
    where = (
        f"{text.count(suite.prompts, 'prompt')}, {_plain(images)} "
        f"{'image' if images == 1 else 'images'} each"
    )
    if board.runs[0].imported:
        return f"{what} on {board.suite}: {where}, made elsewhere."
    settings = protocol.settings
    how = ", ".join(
        part
        for part in (
            f"{settings['steps']} steps" if "steps" in settings else "",
            f"guidance {_plain(settings['guidance'])}" if "guidance" in settings else "",
            f"{settings['resolution']} pixels" if settings.get("resolution") else "",
        )
        if part
    )
    return f"{what} on {board.suite}: {where}, all from the same noise; {board.protocol}: {how}."


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def findings(board: Section) -> list[tuple[str, str]]:
    """For each metric what came of the comparison: (metric, sentence)."""
    reference = board.entrants[0].name
    if len(board.entrants) == 1:
        return [(row.metric, _alone(row)) for row in board.rows]
    sentences = []
    for metric, _ in board.metrics:
        rows = [row for row in board.rows if row.metric == metric and row.difference is not None]
        verdicts = dict.fromkeys([*_ARROWS, *sorted({row.verdict for row in rows})])
        parts = []
        for verdict in verdicts:
            of_verdict = [row for row in rows if (_tone(row) or row.verdict) == verdict]
            if of_verdict:
                parts.append(_part(verdict, of_verdict, reference))
        sentences.append((metric, "; ".join(parts) + "."))
    return sentences


def _alone(row: Row) -> str:
    if not row.value.scored:
        return "nothing could be scored."
    value = text.estimate(row.value, row.value_interval)
    return f"{value}; one checkpoint, so nothing to compare it with."


def _part(verdict: str, rows: Sequence[Row], reference: str) -> str:
    if verdict in _ARROWS:
        return ", ".join(
            f"{row.entrant} is {row.verdict} than {reference} "
            f"({text.estimate(row.difference, row.interval, sign=True)})"
            for row in rows
        )
    names = [row.entrant for row in rows]
    # Names such as "soar, step 100" have commas of their own.
    between = " and " if any("," in name for name in names) else ", "
    return f"{verdict}: {between.join(names)}"


def warnings(board: Section) -> list[str]:
    """What a reader should know before believing the table."""
    notes = []
    for row in board.rows:
        if not row.value.scored:
            notes.append(f"{row.metric}: no image of {row.entrant} could be scored.")
        elif row.value.unscored:
            notes.append(
                f"{row.metric}: {text.count(row.value.unscored, 'sample')} of {row.entrant} "
                f"{'is' if row.value.unscored == 1 else 'are'} unscored and in no mean."
            )
        if row.value.scored and not _known(row.value_interval[0]):
            notes.append(f"{row.metric}: {row.entrant} has too few prompts for an interval.")
    trained = [e for e in board.entrants if e.runs[0].seed is not None]
    if trained and all(len(e.runs) == 1 for e in trained):
        notes.append(
            "One training seed each: the intervals do not hold how much another seed would give."
        )
    return notes

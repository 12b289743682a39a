"""A comparison as text: cells of a table, sentences under it, Markdown, CSV, LaTeX and JSON."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from typing import Any

import pandas as pd

from soar_bench.boards.compare import (
    ANALYTIC,
    BOOTSTRAP,
    SEEDS,
    TESTS,
    Entrant,
    Row,
    format_difference,
    format_value,
)
from soar_bench.core.text import json_text
from soar_bench.output import latex, markdown

#: Points out a verdict that says another thing than the interval beside it.
_MARK = " †"
_MANY = 100_000
ENOUGH, MORE_SEEDS = "already enough", "more seeds"


def arrow(row: Row) -> str:
    """Which direction is better."""
    return "↑" if row.higher_is_better else "↓"


def line(text: str) -> str:
    """Text from elsewhere on one line, without what a terminal would obey."""
    plain = "".join(" " if unicodedata.category(c) in ("Cc", "Cf") else c for c in text)
    return " ".join(plain.split())


def header(rows: Sequence[Row]) -> dict[str, str]:
    """The title of each column by its key."""
    first = rows[0]
    titles = {
        "metric": "metric",
        "checkpoint": "checkpoint",
        "value": "value ± s.e.",
        "n": "n",
        "seeds": "seeds",
        "difference": f"difference [{100 * first.level:g}%]",
        "p": "p (Holm)" if max(row.tests for row in rows) > 1 else "p",
        "effect": "d_z",
        "wins": "won/tied/lost",
        "needed": "prompts needed",
    }
    detect = _detect(rows)
    if detect is not None:
        titles["detect"] = f"prompts to see {detect:g}"
    return titles | {"verdict": "verdict"}


def cells(row: Row) -> dict[str, str]:
    """The text of each column by its key, for any kind of table; names are not escaped."""
    reference = row.difference is None
    paired = not reference and bool(row.difference and row.difference.scored)
    return {
        "metric": f"{line(row.metric)} {arrow(row)}",
        "checkpoint": line(row.entrant),
        "value": format_value(row.value),
        "n": str(row.value.scored)
        + (f" (+{row.value.unscored} unscored)" if row.value.unscored else ""),
        "seeds": str(row.value.seeds),
        "difference": format_difference(row.difference, row.interval),
        "p": format_p(row.p_corrected),
        "effect": "-" if math.isnan(row.effect) else f"{row.effect:+.2f}",
        "wins": f"{row.wins}/{row.ties}/{row.losses}" if paired else "-",
        "needed": _needed(row, row.needed),
        "detect": _needed(row, row.detect_prompts),
        "verdict": row.verdict + (_MARK if row.disagrees else ""),
    }


def format_p(p_value: float) -> str:
    """Three decimals; a dash where it cannot be known."""
    if math.isnan(p_value):
        return "-"
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _needed(row: Row, prompts: float) -> str:
    """How many prompts, or why there is no such number."""
    if row.difference is None or math.isnan(prompts) or (math.isinf(prompts) and not _seeds(row)):
        return "-"
    if math.isinf(prompts):
        return MORE_SEEDS
    if prompts <= row.difference.prompts:
        return ENOUGH
    return f">{_MANY:,}" if prompts > _MANY else f"{prompts:,.0f}"


def words(row: Row) -> list[str]:
    """What stands under a row in the terminal: the verdict, how it came about, and the numbers of
    images and seeds.
    """
    texts = cells(row)
    said = []
    if row.difference is not None:
        said.append(texts["verdict"])
    if row.difference is not None and row.difference.scored:
        said.append(f"won {row.wins}, tied {row.ties}, lost {row.losses} prompts")
        if texts["effect"] != "-":
            said.append(f"d_z {texts['effect']}")
        for what, key in (("this", "needed"), (f"{row.detect:g}", "detect")):
            if texts[key] == ENOUGH:
                said.append(f"{row.difference.prompts} prompts are enough to see {what}")
            elif texts[key] != "-":
                unit = "" if texts[key] == MORE_SEEDS else " prompts"
                said.append(f"seeing {what} takes {texts[key]}{unit}")
    said.append(f"n {texts['n']}")
    if row.value.seeds > 1:
        said.append(f"{texts['seeds']} seeds, s.d. {row.value.seed_deviation:.3f}")
    return said


def _seeds(row: Row) -> bool:
    return row.difference is not None and row.difference.seed_error > 0


def _detect(rows: Sequence[Row]) -> float | None:
    return next((row.detect for row in rows if not math.isnan(row.detect)), None)


def notes(
    rows: Sequence[Row],
    board: Sequence[Entrant],
    mismatches: Sequence[str] = (),
    asked: str = ANALYTIC,
) -> list[str]:
    """What a reader of the table has to know, a sentence or two each. ``asked``: the kind of
    intervals that was asked for.
    """
    level = 100 * rows[0].level
    found = [f"NOT MEASURED ALIKE: {line(sentence)}." for sentence in mismatches]
    if mismatches:
        found.append("Only metrics and images that all have in common are compared.")
    found.append(
        f"Differences are to {line(board[0].name)}, paired by prompt and image, with their "
        f"{level:g}% interval {_intervals(rows, asked)}; s.e. treats the images of a prompt as one "
        "cluster."
    )
    tests = [name for name in TESTS if any(row.test == name for row in rows)]
    count = max(row.tests for row in rows)
    if tests:
        corrected = f", corrected for {count} metrics by Holm's method" if count > 1 else ""
        by_test = "; ".join(
            TESTS[name]
            + (SEEDS if name == "t" and any(row.value.seeds > 1 for row in rows) else "")
            + (f" ({', '.join(_metrics_of(rows, name))})" if len(tests) > 1 else "")
            for name in tests
        )
        found.append(f"p{corrected}: {by_test}. The verdict follows p at {100 - level:g}%.")
    if any(row.disagrees for row in rows):
        found.append(
            "† The interval alone would say otherwise: it is not corrected and not from the same "
            "test. Read it as borderline."
        )
    single = [
        line(entrant.name)
        for entrant in board
        if len(entrant.runs) == 1 and entrant.runs[0].seed is not None
    ]
    if single:
        found.append(
            f"One training seed only: {'; '.join(single)}. What is said holds for these weights, "
            "not for the method that made them."
        )
    return found


def _intervals(rows: Sequence[Row], asked: str) -> str:
    kinds = {row.interval_by for row in rows if row.difference is not None}
    if asked == ANALYTIC:
        return "by t"
    if BOOTSTRAP not in kinds:
        return "by t, since there are several training seeds"
    by_t = " (by t where there are several training seeds)" if ANALYTIC in kinds else ""
    return f"by the cluster bootstrap{by_t}"


def _metrics_of(rows: Sequence[Row], test: str) -> list[str]:
    return list(dict.fromkeys(line(row.metric) for row in rows if row.test == test))


def as_markdown(rows: Sequence[Row], said: Sequence[str]) -> str:
    """A table and, under it, the notes."""
    titles = header(rows)
    body = [[markdown.escape(cells(row)[key]) for key in titles] for row in rows]
    right = [i for i, key in enumerate(titles) if key not in ("metric", "checkpoint", "verdict")]
    table = markdown.table([markdown.escape(title) for title in titles.values()], body, right)
    return table + "".join(f"\n{markdown.escape(sentence)}\n" for sentence in said)


_IN_LATEX = ("metric", "checkpoint", "value", "difference", "p", "detect", "verdict")


def as_latex(rows: Sequence[Row], said: Sequence[str]) -> str:
    """A tabular for a paper, with the notes as comments above it."""
    titles = {key: title for key, title in header(rows).items() if key in _IN_LATEX}
    body = []
    for i, row in enumerate(rows):
        texts = cells(row)
        if i and rows[i - 1].metric == row.metric:
            texts["metric"] = ""
        body.append([_latex(key, texts[key]) for key in titles])
    starts = [i for i in range(1, len(rows)) if rows[i - 1].metric != rows[i].metric]
    columns = "".join("l" if key in ("metric", "checkpoint", "verdict") else "r" for key in titles)
    comments = "".join(f"% {sentence}\n" for sentence in map(line, said))
    return comments + latex.table(
        [_latex(key, title) for key, title in titles.items()], body, columns, starts
    )


def _latex(key: str, text: str) -> str:
    """A cell; signs of numbers are set as minus signs."""
    if key == "p" and text.startswith("<"):
        return f"${text}$"
    signed = key == "difference" and len(text) > 1 and text[0] in "+-"
    return latex.escape(text).replace("-", "$-$") if signed else latex.escape(text)


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """The comparison in numbers, one row a metric and checkpoint."""
    return pd.DataFrame([_record(row) for row in rows])


def _record(row: Row) -> dict[str, Any]:
    difference = row.difference
    return {
        "metric": row.metric,
        "higher_is_better": row.higher_is_better,
        "unit": row.unit,
        "checkpoint": row.entrant,
        "value": row.value.value,
        "standard_error": row.value.standard_error,
        "value_low": row.value_interval[0],
        "value_high": row.value_interval[1],
        "value_interval_by": row.value_interval_by,
        "level": row.level,
        "scored": row.value.scored,
        "unscored": row.value.unscored,
        "prompts": row.value.prompts,
        "seeds": row.value.seeds,
        "seed_deviation": row.value.seed_deviation,
        "difference": math.nan if difference is None else difference.value,
        "difference_standard_error": math.nan if difference is None else difference.standard_error,
        "difference_low": row.interval[0],
        "difference_high": row.interval[1],
        "interval_by": row.interval_by,
        "common_prompts": 0 if difference is None else difference.prompts,
        "p_value": row.p_value,
        "p_corrected": row.p_corrected,
        "test": row.test,
        "tests": row.tests,
        "effect_size": row.effect,
        "odds": row.odds,
        "wins": row.wins,
        "ties": row.ties,
        "losses": row.losses,
        "prompts_needed": row.needed,
        "images_needed": row.needed_images,
        "detect": row.detect,
        "detect_prompts": row.detect_prompts,
        "detect_images": row.detect_images,
        "verdict": row.verdict,
        "measured_alike": row.alike,
    }


def as_csv(rows: Sequence[Row]) -> str:
    """The numbers, with names on one line each; nothing where a number is not known."""
    table = frame(rows)
    for column in ("metric", "checkpoint", "unit"):
        table[column] = table[column].map(line)
    return table.to_csv(index=False, lineterminator="\n")


def as_json(rows: Sequence[Row], said: Sequence[str], mismatches: Sequence[str]) -> str:
    """The numbers and the notes; null where a number is not known or infinite."""
    return json_text(
        {
            "reference": next(row.entrant for row in rows if row.difference is None),
            "measured_alike": not mismatches,
            "mismatches": list(mismatches),
            "notes": list(said),
            "rows": [_record(row) for row in rows],
        }
    )

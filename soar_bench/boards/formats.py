"""A comparison as Markdown, LaTeX, CSV, JSON and a data frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from soar_bench.boards.rows import Row
from soar_bench.boards.words import cells, header, line
from soar_bench.core import latex, markdown
from soar_bench.core.text import json_text


def as_markdown(rows: Sequence[Row], notes: Sequence[str]) -> str:
    """Return a table and, under it, the notes."""
    titles = header(rows)
    body = [[markdown.escape(cells(row)[key]) for key in titles] for row in rows]
    right = [i for i, key in enumerate(titles) if key not in ("metric", "checkpoint", "verdict")]
    table = markdown.table([markdown.escape(title) for title in titles.values()], body, right)
    return table + "".join(f"\n{markdown.escape(sentence)}\n" for sentence in notes)


_IN_LATEX = ("metric", "checkpoint", "value", "difference", "p", "detect", "verdict")


def as_latex(rows: Sequence[Row], notes: Sequence[str]) -> str:
    """Return a tabular for a paper, with the notes as comments above it."""
    titles = {key: title for key, title in header(rows).items() if key in _IN_LATEX}
    body = []
    for i, row in enumerate(rows):
        texts = cells(row)
        if i and rows[i - 1].metric == row.metric:
            texts["metric"] = ""
        body.append([_latex(key, texts[key]) for key in titles])
    starts = [i for i in range(1, len(rows)) if rows[i - 1].metric != rows[i].metric]
    columns = "".join("l" if key in ("metric", "checkpoint", "verdict") else "r" for key in titles)
    comments = "".join(f"% {sentence}\n" for sentence in map(line, notes))
    return comments + latex.table(
        [_latex(key, title) for key, title in titles.items()], body, columns, starts
    )


def _latex(key: str, text: str) -> str:
    """Return a cell; signs of numbers are set as minus signs."""
    if key == "p" and text.startswith("<"):
        return f"${text}$"
    signed = key == "difference" and len(text) > 1 and text[0] in "+-"
    return latex.escape(text).replace("-", "$-$") if signed else latex.escape(text)


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """Return the comparison in numbers, one row per metric and checkpoint."""
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
    """Return the numbers, with names on one line each; nothing where a number is not known."""
    table = frame(rows)
    for column in ("metric", "checkpoint", "unit"):
        table[column] = table[column].map(line)
    return table.to_csv(index=False, lineterminator="\n")


def as_json(
    rows: Sequence[Row], reference: str, notes: Sequence[str], mismatches: Sequence[str]
) -> str:
    """Return the numbers and the notes; null where a number is not known or infinite."""
    return json_text(
        {
            "reference": reference,
            "measured_alike": not mismatches,
            "mismatches": list(mismatches),
            "notes": list(notes),
            "rows": [_record(row) for row in rows],
        }
    )

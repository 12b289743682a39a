"""A comparison in words: cells of a table, and the sentences under it."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

from soar_bench.boards.entrants import Entrant
from soar_bench.boards.rows import ANALYTIC, BOOTSTRAP, TESTS, Row
from soar_bench.core.text import count
from soar_bench.stats import Estimate
from soar_bench.suites import leaks

#: Ends the name of the t-test where there are several training seeds.
_SEEDS = " and, where there are several, training seeds"
#: Marks a verdict that contradicts the interval beside it.
_MARK = " †"
_MANY = 100_000
_ENOUGH, _MORE_SEEDS = "already enough", "more seeds"


def arrow(row: Row) -> str:
    """Return which direction is better."""
    return "↑" if row.higher_is_better else "↓"


def line(text: str) -> str:
    """Return text from elsewhere on one line, without what a terminal would obey."""
    return " ".join(visible(text).split())


def visible(text: str) -> str:
    """Return text from elsewhere with blanks for what moves the cursor or the order of letters."""
    return "".join(" " if unicodedata.category(c) in ("Cc", "Cf") else c for c in text)


def header(rows: Sequence[Row], by: str = "") -> dict[str, str]:
    """Return the title of each column by its key; ``by`` is that of the categories, if any."""
    parts = any(row.category for row in rows)
    titles = {
        "metric": "metric", **({"category": line(by)} if parts else {}), "checkpoint": "checkpoint",
        **({"prompts": "prompts"} if parts else {}), "value": "value ± s.e.", "n": "n",
        "seeds": "seeds", "difference": f"difference [{100 * rows[0].level:g}%]",
        "p": "p (Holm)" if max(row.tests for row in rows) > 1 else "p",
        "effect": "d_z", "wins": "won/tied/lost", "needed": "prompts needed",
    }  # fmt: skip
    for row in rows:
        if not math.isnan(row.detect):
            titles["detect"] = f"prompts to see {row.detect:g}"
    return titles | {"verdict": "verdict"}


def cells(row: Row) -> dict[str, str]:
    """Return the text of each column by its key, for any kind of table; names are not escaped."""
    paired = row.difference is not None and row.difference.scored > 0
    return {
        "metric": f"{line(row.metric)} {arrow(row)}",
        "category": line(row.category),
        "checkpoint": line(row.entrant),
        "prompts": str(row.value.prompts),
        "value": format_value(row.value),
        "n": format_scored(row.value),
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
    """Return three decimals; a dash where it cannot be known."""
    if math.isnan(p_value):
        return "-"
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _needed(row: Row, prompts: float) -> str:
    """Return how many prompts, or why there is no such number."""
    if row.difference is None or math.isnan(prompts):
        return "-"
    if math.isinf(prompts):
        return _MORE_SEEDS if row.difference.seed_error > 0 else "-"
    if prompts <= row.difference.prompts:
        return _ENOUGH
    return f">{_MANY:,}" if prompts > _MANY else f"{prompts:,.0f}"


def details(row: Row) -> list[str]:
    """Return the text under a row in the terminal: the verdict, its figures, and the numbers of
    images and seeds.
    """
    texts = cells(row)
    parts = []
    if row.difference is not None:
        parts.append(texts["verdict"])
    if row.difference is not None and row.difference.scored:
        parts.append(f"won {row.wins}, tied {row.ties}, lost {row.losses} prompts")
        if texts["effect"] != "-":
            parts.append(f"d_z {texts['effect']}")
        for size, key in (("this", "needed"), (f"{row.detect:g}", "detect")):
            if texts[key] == _ENOUGH:
                parts.append(f"{row.difference.prompts} prompts are enough to see {size}")
            elif texts[key] != "-":
                unit = "" if texts[key] == _MORE_SEEDS else " prompts"
                parts.append(f"seeing {size} takes {texts[key]}{unit}")
    of_prompts = f" of {count(row.value.prompts, 'prompt')}" if row.category else ""
    parts.append(f"n {texts['n']}{of_prompts}")
    if row.value.seeds > 1:
        parts.append(f"{texts['seeds']} seeds, s.d. {row.value.seed_deviation:.3f}")
    return parts


def leak_notes(entrants: Sequence[Entrant]) -> list[str]:
    """Say which entrants were trained on prompts of the suite that they are judged on."""
    names: dict[str, list[str]] = {}
    stories = {}
    for entrant in entrants:
        for run in entrant.runs:
            key = leaks.sentence([""], run.record.suite.name, run.training)
            stories[key] = run
            if key and line(entrant.name) not in names.setdefault(key, []):
                names[key].append(line(entrant.name))
    return [
        leaks.sentence(labels, stories[key].record.suite.name, stories[key].training) + "."
        for key, labels in names.items()
    ]


def notes(
    rows: Sequence[Row],
    entrants: Sequence[Entrant],
    mismatches: Sequence[str],
    interval: str,
    parts: Sequence[Row] = (),
) -> list[str]:
    """Return the notes under the table, a sentence or two each. ``interval`` is the kind of
    intervals that was asked for, ``parts`` the rows of a breakdown.
    """
    level = 100 * rows[0].level
    sentences = [f"NOT MEASURED ALIKE: {line(sentence)}." for sentence in mismatches]
    if mismatches:
        sentences.append("Only metrics and images that all have in common are compared.")
    sentences.append(
        f"Differences are to {line(entrants[0].name)}, paired by prompt and image, with their "
        f"{level:g}% interval {_intervals(rows, interval)}; s.e. treats the images of a "
        "prompt as one cluster."
    )
    tests = [name for name in TESTS if any(row.test == name for row in rows)]
    if tests:
        corrected = f", {family(rows)}"
        texts = {name: TESTS[name] for name in tests}
        if "t" in tests and any(row.value.seeds > 1 for row in rows):
            texts["t"] += _SEEDS
        if len(tests) > 1:
            for name in tests:
                metrics = dict.fromkeys(line(row.metric) for row in rows if row.test == name)
                texts[name] += f" ({', '.join(metrics)})"
        by_test = "; ".join(texts.values())
        sentences.append(f"p{corrected}: {by_test}. The verdict follows p at {100 - level:g}%.")
        sentences.append(
            "A leaderboard's ranks correct for all pairs of its checkpoints instead, in one metric."
        )
    if any(row.disagrees for row in (*rows, *parts)):
        same = tests == ["t"] and interval == ANALYTIC
        other_test = "" if same else " and not from the same test"
        sentences.append(
            f"† The interval alone would say otherwise: it is not corrected{other_test}. Read it "
            "as borderline."
        )
    alone = [e for e in entrants if len(e.runs) == 1 and e.first.seed is not None]
    single = "; ".join(line(entrant.name) for entrant in alone)
    sentences += leak_notes(entrants)
    if single:
        sentences.append(
            f"One training seed only: {single}. What is said holds for these weights, "
            "not for the method that made them."
        )
    return sentences


def family(rows: Sequence[Row], of: str = "metrics") -> str:
    """Say which tests are corrected together."""
    tests = max(row.tests for row in rows)
    if tests > 1:
        return f"corrected for {tests} {of} by Holm's method, each checkpoint by itself"
    return "each checkpoint by itself"


def breakdown(by: str, parts: Sequence[Row]) -> str:
    """Say what the rows of a breakdown are."""
    sentence = f"By {line(by)}: plain means over the images of each category's prompts"
    if max((row.tests for row in parts), default=0) > 1:
        sentence += (
            "; p corrected for the categories of a metric by Holm's method, each checkpoint and "
            "metric by itself"
        )
    return f"{sentence}."


def _intervals(rows: Sequence[Row], interval: str) -> str:
    kinds = {row.interval_by for row in rows if row.difference is not None}
    if interval == ANALYTIC:
        return "by t"
    if BOOTSTRAP not in kinds:
        return "by t, since there are several training seeds"
    by_t = " (by t where there are several training seeds)" if ANALYTIC in kinds else ""
    return f"by the cluster bootstrap{by_t}"


def format_scored(estimate: Estimate) -> str:
    """Return how many samples are scored, and how many are not."""
    return f"{estimate.scored}" + (f" (+{estimate.unscored} unscored)" if estimate.unscored else "")


def format_value(estimate: Estimate) -> str:
    """Return value ± standard error; without it where it is not known."""
    if not estimate.scored:
        return "-"
    if not estimate.standard_error > 0:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} ± {estimate.standard_error:.3f}"


def format_difference(
    difference: Estimate | None, interval: tuple[float, float] | None = None
) -> str:
    """Return difference [interval], 95% by t unless given; without it where it is not known."""
    if difference is None or not difference.scored:
        return "-"
    low, high = difference.interval() if interval is None else interval
    if math.isnan(low):
        return f"{difference.value:+.3f}"
    return f"{difference.value:+.3f} [{low:+.3f}, {high:+.3f}]"


def worse_than(row: Row, reference: str, margin: float) -> str:
    """Return one sentence on a row that is significantly worse than the reference."""
    by = f" by more than {margin:g}" if margin else ""
    difference = format_difference(row.difference, row.interval)
    names = f"{line(row.entrant)} is worse than {line(reference)} in {line(row.metric)}"
    return f"{names}{by}: {difference}"

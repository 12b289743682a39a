"""Numbers as the page prints them."""

from __future__ import annotations

import math

from soar_bench.stats import CONFIDENCE, Estimate

#: What stands where there is no number.
NONE = "–"


def number(value: float, sign: bool = False) -> str:
    """Three places, or for large values as many as leave four figures."""
    if not math.isfinite(value):
        return NONE
    places = 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1
    text = f"{value:+.{places}f}" if sign else f"{value:.{places}f}"
    return text.replace("-", "−")


def interval(ends: tuple[float, float], sign: bool = False) -> str:
    """``[low, high]``; empty where it cannot be known."""
    low, high = ends
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"[{number(low, sign)}, {number(high, sign)}]"


def estimate(
    found: Estimate | None, sign: bool = False, ends: tuple[float, float] | None = None
) -> str:
    """A value with its interval, or with the one that is given."""
    if found is None or not found.scored:
        return NONE
    ends = found.interval(CONFIDENCE) if ends is None else ends
    return f"{number(found.value, sign)} {interval(ends, sign)}".strip()


def p_value(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def count(number: int, one: str, many: str = "") -> str:
    """``1 prompt``, ``2 prompts``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"

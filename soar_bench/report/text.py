"""Numbers as the page prints them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from soar_bench.stats import Estimate

#: Stands where there is no number.
NONE = "–"


class Value(NamedTuple):
    """A number of a plot with the interval that every page shows of it."""

    estimate: Estimate
    interval: tuple[float, float]

    def __str__(self) -> str:
        return estimate(self.estimate, self.interval)


def as_float(value: Any) -> float:
    """Return a JSON number as a float; NaN for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else math.nan


def number(value: float, sign: bool = False) -> str:
    """Return three places, or for large values as many as leave four figures."""
    if not math.isfinite(value):
        return NONE
    places = 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1
    return f"{value:{'+' if sign else ''}.{places}f}".replace("-", "−")


def interval(ends: tuple[float, float], sign: bool = False) -> str:
    """Return ``[low, high]``; empty where it cannot be known."""
    low, high = ends
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"[{number(low, sign)}, {number(high, sign)}]"


def estimate(value: Estimate | None, ends: tuple[float, float], sign: bool = False) -> str:
    """Return a value with its interval."""
    if value is None or not value.scored:
        return NONE
    return f"{number(value.value, sign)} {interval(ends, sign)}".strip()


def p_value(value: float) -> str:
    """Return three places; a dash where it cannot be known."""
    if not math.isfinite(value):
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"

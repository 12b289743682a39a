"""Numbers as the page prints them."""

from __future__ import annotations

import math
from typing import NamedTuple

from soar_bench.stats import Estimate

#: What stands where there is no number.
NONE = "–"


class Value(NamedTuple):
    """A number of a plot with the interval that every page shows of it."""

    estimate: Estimate
    interval: tuple[float, float]

    def __str__(self) -> str:
        return estimate(self.estimate, self.interval)


def number(value: float, sign: bool = False) -> str:
    """Return three places, or for large values as many as leave four figures."""
    if not math.isfinite(value):
        return NONE
    places = 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1
    text = f"{value:+.{places}f}" if sign else f"{value:.{places}f}"
    return text.replace("-", "−")


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


def p_value(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def count(number: int, noun: str) -> str:
    """Return ``1 prompt``, ``2 prompts``."""
    return f"{number:,} {noun if number == 1 else noun + 's'}"

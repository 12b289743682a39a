"""Every suite by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from soar_bench.shapes import suites as shapes_suites
from soar_bench.shapes.captions import MAX_TOKENS
from soar_bench.types import Protocol, SoarBenchError, Suite

SUITES: dict[str, Callable[[], Suite]] = {
    "shapes": shapes_suites.shapes,
    "shapes-dev": shapes_suites.shapes_dev,
    "shapes-signs": shapes_suites.shapes_signs,
}

#: The embedded world's protocol; 20 steps are enough for its base to have converged.
SHAPES_PROTOCOL = Protocol(
    name="shapes", steps=20, guidance=3.0, resolution=64, max_sequence_length=MAX_TOKENS
)

PROTOCOLS: dict[str, Protocol] = {p.name: p for p in (SHAPES_PROTOCOL,)}

#: The protocol a suite is evaluated under unless another is named.
DEFAULT_PROTOCOL: dict[str, str] = dict.fromkeys(SUITES, "shapes")


def unknown(kind: str, name: str, known: list[str]) -> SoarBenchError:
    """The error for a name that is not in a list, with the nearest that is."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return SoarBenchError(f"no {kind} is named {name!r}{hint} (known: {', '.join(known)})")


def get_suite(name: str) -> Suite:
    if name not in SUITES:
        raise unknown("suite", name, list(SUITES))
    return SUITES[name]()


def get_protocol(name: str) -> Protocol:
    if name not in PROTOCOLS:
        raise unknown("protocol", name, list(PROTOCOLS))
    return PROTOCOLS[name]

"""Costs of runs: seconds per image and peak memory, as their records have them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from rich.markup import escape
from rich.table import Table

from soar_bench.core.text import printable
from soar_bench.records.folders import Entry

HEADER = ("run", "label", "stage", "images", "s/image", "peak GiB", "process GiB", "device")


def rows(entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
    """Yield a row per run and stage, generation first, then each evaluator.

    Numbers are those of the work that this record was written after: None where a stage made
    nothing, because images or scores were there already. Seconds hold loading. Peaks are of a GPU's
    memory and of the process's own; older records have the GPU's of the whole run alone.
    """
    for entry in entries:
        if entry.run is None or entry.fault:
            continue
        made = entry.run.record.made
        counts = {"generate": made.generated, **made.scored}
        for stage, images in counts.items():
            seconds, peaks = made.seconds.get(stage), made.peaks.get(stage, {})
            each = round(seconds / images, 4) if images and seconds is not None else None
            gpu = peaks.get("gpu") if made.peaks else made.memory
            held = [
                round(bytes / 2**30, 2) if images and bytes else None
                for bytes in (gpu, peaks.get("process"))
            ]
            values = (entry.id, entry.label, stage, images, each, *held, made.device)
            yield dict(zip(HEADER, values, strict=True))


def lines(entries: Sequence[Entry]) -> Iterator[str]:
    """Yield :data:`HEADER` and the rows with tabs between the fields; empty where not known."""
    yield "\t".join(HEADER)
    for row in rows(entries):
        yield "\t".join("" if v is None else printable(str(v)) for v in row.values())


def table(entries: Sequence[Entry]) -> Table:
    """Return :func:`lines` as a table for a terminal."""
    result = Table(box=None, pad_edge=False)
    for name in HEADER:
        number = name in HEADER[3:-1]
        justify: Literal["left", "right"] = "right" if number else "left"
        result.add_column(name, no_wrap=number, justify=justify, overflow="fold")
    for row in rows(entries):
        result.add_row(*("" if v is None else escape(printable(str(v))) for v in row.values()))
    return result

"""What runs cost: seconds per image and peak memory, as their records have them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from soar_bench.core.text import printable
from soar_bench.records.folders import Entry

HEADER = ("run", "label", "stage", "images", "s/image", "peak GiB", "device")


def rows(entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
    """Yield a row per run and stage, generation first, then each evaluator.

    Numbers are those of the work that this record was written after: None where a stage made
    nothing, because images or scores were there already. Seconds hold loading; the peak is that of
    a GPU's memory over the whole run.
    """
    for entry in entries:
        if entry.run is None or entry.fault:
            continue
        made = entry.run.record.made
        peak = None if made.memory is None else round(made.memory / 2**30, 2)
        counts = {"generate": made.generated, **made.scored}
        for stage, images in counts.items():
            seconds = made.seconds.get(stage)
            each = round(seconds / images, 4) if images and seconds is not None else None
            values = (entry.id, entry.label, stage, images, each, peak, made.device)
            yield dict(zip(HEADER, values, strict=True))


def lines(entries: Sequence[Entry]) -> Iterator[str]:
    """Yield :data:`HEADER` and the rows with tabs between the fields; empty where not known."""
    yield "\t".join(HEADER)
    for row in rows(entries):
        yield "\t".join("" if v is None else printable(str(v)) for v in row.values())

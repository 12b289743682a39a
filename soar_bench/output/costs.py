"""Costs of runs: seconds per image and peak memory, as their records have them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.text import Text

from soar_bench.core.text import aligned, printable
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


def table(entries: Sequence[Entry]) -> Text:
    """Return the rows for a terminal: a line per run with its device, below it one per stage, in
    columns without those that nothing is known of.
    """
    stages = list(rows(entries))
    titles = [name for name in HEADER[2:-1] if any(row[name] is not None for row in stages)]
    cells = [["" if row[name] is None else printable(str(row[name])) for name in titles]
             for row in stages]  # fmt: skip
    title, *below = (f"  {line}\n" for line in aligned([titles, *cells], range(1, len(titles))))
    page = Text()
    if stages:
        page.append(title, "bold")
    for number, (row, line) in enumerate(zip(stages, below, strict=True)):
        if number == 0 or stages[number - 1]["run"] != row["run"]:
            page.append(f"{row['run']}  {printable(row['label'])}  ")
            page.append(f"{printable(row['device'])}\n", "dim")
        page.append(line)
    return page

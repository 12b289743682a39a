"""The plan of an evaluation, as a person or a program reads it before work starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from evaluators import registry
from soar_bench.evaluate import Work


def plan_table(work: Sequence[Work]) -> Table:
    """One row a run: what is there, what is to be made and scored."""
    table = Table(box=None, pad_edge=False, title="plan", title_justify="left")
    for name in ("checkpoint", "suite", "protocol"):
        table.add_column(name, overflow="fold")
    table.add_column("images to make", justify="right")
    table.add_column("to score", overflow="fold")
    for one in work:
        total = len(one.samples)
        making = (
            f"{len(one.to_generate)} of {total}" if one.to_generate else f"0 (all {total} here)"
        )
        scoring = ", ".join(f"{name} {count}" for name, count in one.to_score.items() if count)
        table.add_row(
            escape(one.checkpoint.label),
            escape(one.suite.name),
            escape(one.protocol.name),
            making,
            escape(scoring) or "nothing",
        )
    return table


def problems(work: Sequence[Work]) -> list[str]:
    """What keeps the work from starting, each once, and what to do; one command for all weights."""
    found = {name: why for one in work for name, why in one.problems.items()}
    sets: dict[str, None] = {}
    others = []
    for name, why in found.items():
        missing = [w.name for w in registry.create(name).weights if w.missing()]
        if missing and f"soar-bench fetch {missing[0]}" in why:
            sets |= dict.fromkeys(missing)
        else:
            others.append(why)
    if len(found) == 1 or not sets:
        return list(dict.fromkeys(found.values()))
    fetch = f"weights are missing: run `soar-bench fetch {' '.join(sets)}`"
    return [fetch, *dict.fromkeys(others)]


def plan_record(work: Sequence[Work]) -> list[dict[str, Any]]:
    """The same for a program."""
    return [
        {
            "checkpoint": {
                "label": one.checkpoint.label,
                "name": one.checkpoint.name,
                "form": one.checkpoint.form,
                "digest": one.checkpoint.digest,
            },
            "suite": {"name": one.suite.name, "digest": one.suite.digest()},
            "protocol": {"name": one.protocol.name, "settings": one.protocol.settings()},
            "samples": len(one.samples),
            "to_generate": len(one.to_generate),
            "to_score": one.to_score,
            "images": str(one.store.folder),
            "problems": list(one.problems.values()),
        }
        for one in work
    ]

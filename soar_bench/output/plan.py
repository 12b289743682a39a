"""Plan of a run, as a person or a program reads it before work starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from soar_bench.pipelines.lengths import words
from soar_bench.records.assembly import subject
from soar_bench.records.labels import Named, told_apart
from soar_bench.sampling.generate import Generation
from soar_bench.scoring.images import ImageSet
from soar_bench.scoring.plan import Plan


def show_plans(plans: Sequence[Plan], console: Console) -> None:
    """Print the plans: as tables, or in sentences for images from elsewhere."""
    generated = [plan for plan in plans if isinstance(plan.source, Generation)]
    if generated:
        console.print(*_tables(generated), sep="\n")
        cut = [_cut(plan) for plan in generated if plan.cut]
        for line in dict.fromkeys([*cut, *(line for plan in generated for line in plan.notes)]):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    for plan in plans:
        if isinstance(plan.source, ImageSet):
            images = f"of {len(plan.samples)} images to score"
            counts = (f"{name}: {count} {images}" for name, count in plan.to_score.items())
            for line in (*plan.source.describe(), *counts):
                console.print(line, highlight=False, markup=False, soft_wrap=True)


def titles(plans: Sequence[Plan]) -> list[str]:
    """Name each plan's work: its checkpoint, suite and protocol."""
    parts = [subject(plan.source) for plan in plans]
    return [
        f"{label} on {part['suite']['name']} ({part['protocol']['name']})"
        for label, part in zip(labels(plans), parts, strict=True)
    ]


def labels(plans: Sequence[Plan]) -> list[str]:
    """Return the name of each plan's checkpoint, as it is in every list."""
    parts = [subject(plan.source)["checkpoint"] for plan in plans]
    return told_apart([Named(p["label"], p["digest"], p["story"].get("step")) for p in parts])


def _cut(plan: Plan) -> str:
    """Return the line that says how many prompts are too long for the text encoders."""
    _, suite, protocol = subject(plan.source).values()
    sentence = words(plan.cut, suite["prompts"], "prompt")
    return f"{suite['name']} under {protocol['name']}: {sentence}"


def _tables(plans: Sequence[Plan]) -> Iterator[Text | Table]:
    """Yield a title and a table per suite and protocol: one row per run, with what is to be made
    and scored.
    """
    tables: dict[str, Table] = {}
    for plan, label in zip(plans, labels(plans), strict=True):
        _, suite, protocol = subject(plan.source).values()
        title = f"plan: {suite['name']} under {protocol['name']}"
        if title not in tables:
            tables[title] = Table(box=None, pad_edge=False)
            tables[title].add_column("checkpoint", overflow="fold")
            tables[title].add_column("images to make", justify="right", no_wrap=True)
            tables[title].add_column("to score", overflow="fold")
        total, missing = len(plan.samples), len(plan.to_generate)
        making = f"{missing} of {total}" if missing else f"0 (all {total} here)"
        scoring = ", ".join(f"{name} {count}" for name, count in plan.to_score.items() if count)
        tables[title].add_row(escape(label), making, escape(scoring) or "nothing")
    for title, table in tables.items():  # a table's own title would be folded to its width
        yield Text(title, "italic")
        yield table


#: Parts of a record that a plan repeats.
_SHOWN = {
    "checkpoint": ("label", "name", "form", "digest"),
    "suite": ("name", "digest"),
    "protocol": ("name", "settings"),
}


def plan_record(plans: Sequence[Plan]) -> list[dict[str, Any]]:
    """Return the plans in JSON's types."""
    return [
        {
            **{
                part: {key: content[key] for key in _SHOWN[part]}
                for part, content in subject(plan.source).items()
            },
            "samples": len(plan.samples),
            "to_generate": len(plan.to_generate),
            "to_score": plan.to_score,
            "left_out": list(plan.notes),
            "cut_prompts": {cut.encoder: cut.record() for cut in plan.cut},
            "images": str(plan.source.folder),
            "problems": list(plan.problems.values()),
        }
        for plan in plans
    ]

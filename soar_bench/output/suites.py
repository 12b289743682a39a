"""Suites and protocols: for a terminal, a pipe and a program. Imports no torch."""

from __future__ import annotations

import shlex
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table

from soar_bench.core.errors import SoarBenchError
from soar_bench.core.text import printable
from soar_bench.suites import FETCHED, declared, get_suite
from soar_bench.suites.prompts import is_fetched
from soar_bench.suites.protocols import ABOUT, PROTOCOLS, SETTINGS, default_protocol
from soar_bench.suites.types import Prompt, Protocol, Suite

_SHOWN = 5  # prompts of a suite's page
_INDENT = " " * 14  # of what a line of the page says


@dataclass(frozen=True)
class Row:
    """A suite and whether its prompts are here."""

    #: as it was named
    name: str
    #: without prompts where they are not here
    suite: Suite
    #: ``here``, ``not fetched`` or ``damaged``
    state: str
    #: why it is damaged; empty otherwise
    reason: str = ""

    @property
    def prompts(self) -> str:
        """How many, or why not."""
        return str(len(self.suite.prompts)) if self.state == "here" else self.state

    @property
    def protocol(self) -> Protocol:
        return default_protocol(self.suite)


def look(name: str) -> Row:
    """A suite as it is here. SoarBenchError if it is neither a suite nor a file of prompts."""
    if name in FETCHED and not is_fetched(name):
        return Row(name, declared(name), "not fetched")
    try:
        return Row(name, get_suite(name), "here")
    except SoarBenchError as error:
        if name not in FETCHED:
            raise
        return Row(name, declared(name), "damaged", str(error))


# For a terminal


def suites_table(rows: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("suite", "prompts", "images", "protocol"):
        table.add_column(column, no_wrap=True)
    table.add_column("evaluators, and what is asked", overflow="fold")
    for row in rows:
        said = (
            f"[red]{escape(row.reason)}[/]"
            if row.reason
            else f"[dim]{escape(row.suite.description)}[/]"
        )
        table.add_row(
            escape(row.name),
            row.prompts,
            str(row.suite.images_per_prompt),
            row.protocol.name,
            f"{', '.join(row.suite.evaluators)}\n{said}",
        )
    return table


def protocols_table() -> Table:
    """The named protocols with the settings that differ between them."""
    table = Table(box=None, pad_edge=False)
    table.add_column("protocol", no_wrap=True)
    for column in ("steps", "guidance", "pixels", "tokens"):
        table.add_column(column, no_wrap=True, justify="right")
    table.add_column("precision, and source", overflow="fold")
    for protocol in PROTOCOLS.values():
        table.add_row(
            protocol.name,
            str(protocol.steps),
            f"{protocol.guidance:g}",
            _pixels(protocol),
            str(protocol.max_sequence_length),
            f"{_precision(protocol)}\n[dim]{escape(ABOUT[protocol.name])}[/]",
        )
    return table


def page(row: Row, width: int | None = None) -> Iterator[str]:
    """Everything about one suite, line by line; lines are broken at ``width`` if there is one."""
    for line in _page(row):
        if width is None:
            yield line
        else:
            yield from textwrap.wrap(
                line, max(width, 40), subsequent_indent=_INDENT, drop_whitespace=True,
                break_on_hyphens=False, break_long_words=False,
            )  # fmt: skip


def _page(row: Row) -> Iterator[str]:
    suite, protocol = row.suite, row.protocol
    yield suite.name
    yield f"  asks        {printable(suite.description)}"
    if suite.source:
        yield f"  file        {printable(suite.source)}"
    yield f"  prompts     {row.prompts}" + (
        f": run `soar-bench fetch --suite {row.name}`" if row.state == "not fetched" else ""
    )
    if row.reason:
        yield f"{_INDENT}{row.reason}"
    images = suite.images_per_prompt
    yield f"  images      {images} a prompt" + (
        f", {images * len(suite.prompts)} in all" if suite.prompts else ""
    )
    yield f"  evaluators  {', '.join(suite.evaluators)}"
    yield f"  protocol    {protocol.name}: {_in_words(protocol)}"
    yield f"  seed        {suite.seed}"
    if not suite.prompts:
        return
    yield f"  digest      {suite.digest()}"
    tasks = _tasks(suite)
    if tasks:
        yield "  tasks       " + ", ".join(
            f"{printable(t) or '(none)'} {n}" for t, n in tasks.items()
        )
    yield "  first prompts"
    for prompt in suite.prompts[:_SHOWN]:
        yield f"    {printable(prompt.id)}  {printable(prompt.text)}"
    yield f"  evaluate    soar-bench eval CHECKPOINT --suite {shlex.quote(row.name)}"


# For a pipe


def plain(rows: Sequence[Row]) -> Iterator[str]:
    """A line a suite, then a line a protocol, with tabs between the fields."""
    yield "\t".join(("suite", "prompts", "images", "protocol", "evaluators", "what is asked"))
    for row in rows:
        suite = row.suite
        said = row.reason or suite.description
        fields = (row.name, row.prompts, str(suite.images_per_prompt), row.protocol.name,
                  ",".join(suite.evaluators), said)  # fmt: skip
        yield "\t".join(fields)
    yield ""
    yield "\t".join(("protocol", *SETTINGS, "of"))
    for protocol in PROTOCOLS.values():
        settings = protocol.settings()
        values = ("" if settings[key] is None else str(settings[key]) for key in SETTINGS)
        yield "\t".join((protocol.name, *values, ABOUT[protocol.name]))


# For a program


def as_json(row: Row, prompts: bool = False) -> dict[str, Any]:
    """A suite in JSON's types; what is not known of prompts that are not here is null."""
    suite = row.suite
    here = row.state == "here"
    said: dict[str, Any] = {
        "name": suite.name,
        "source": suite.source,
        "description": suite.description,
        "state": row.state,
        "reason": row.reason,
        "prompts": len(suite.prompts) if here else None,
        "images_per_prompt": suite.images_per_prompt,
        "protocol": row.protocol.name,
        "evaluators": list(suite.evaluators),
        "seed": suite.seed,
        "digest": suite.digest() if here else None,
        "tasks": _tasks(suite) if here else None,
    }
    if prompts:
        said["prompt_list"] = [_prompt_json(p) for p in suite.prompts] if here else None
    return said


def protocols_json() -> list[dict[str, Any]]:
    return [
        {"name": p.name, "of": ABOUT[p.name], "settings": p.settings()} for p in PROTOCOLS.values()
    ]


def _prompt_json(prompt: Prompt) -> dict[str, Any]:
    return {"id": prompt.id, "prompt": prompt.text, "metadata": dict(prompt.metadata)}


def _tasks(suite: Suite) -> dict[str, int]:
    """Prompts by task, in the suite's order; nothing where no prompt has a task."""
    tasks = Counter(p.task for p in suite.prompts)
    return dict(tasks) if set(tasks) != {""} else {}


def _in_words(protocol: Protocol) -> str:
    size = "the pipeline's own size" if protocol.resolution is None else f"{_pixels(protocol)} px"
    return (
        f"{protocol.steps} steps, guidance {protocol.guidance:g}, {size}, "
        f"{protocol.max_sequence_length} tokens, {_precision(protocol)}"
    )


def _pixels(protocol: Protocol) -> str:
    return "its own" if protocol.resolution is None else str(protocol.resolution)


def _precision(protocol: Protocol) -> str:
    same = protocol.dtype == protocol.vae_dtype
    return protocol.dtype if same else f"{protocol.dtype}, VAE {protocol.vae_dtype}"

"""Suites and protocols as tables, as text, as tab-separated lines and as JSON. Imports no torch."""

from __future__ import annotations

import shlex
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from soar_bench.core.errors import SoarBenchError
from soar_bench.core.text import aligned, printable
from soar_bench.suites import FETCHED, declared, get_suite
from soar_bench.suites.prompts import is_fetched
from soar_bench.suites.protocols import ABOUT, PROTOCOLS, SETTINGS, default_protocol
from soar_bench.suites.types import Protocol, Suite

_FIRST_PROMPTS = 5  # prompts shown on a suite's page
_INDENT = " " * 14  # width of the labels on the page


@dataclass(frozen=True)
class Row:
    """A suite and the state of its prompts on this machine."""

    #: the name or file that the user typed
    name: str
    #: without prompts unless ``state`` is ``here``
    suite: Suite
    #: ``here``, ``not fetched`` or ``damaged``
    state: str
    #: why the prompts are damaged; empty otherwise
    reason: str = ""

    @property
    def prompts(self) -> str:
        """Number of prompts, or the state where there are none."""
        return str(len(self.suite.prompts)) if self.state == "here" else self.state

    @property
    def protocol(self) -> Protocol:
        return default_protocol(self.suite)


def read_row(name: str) -> Row:
    """Return the suite and its state; SoarBenchError for neither a suite nor a file of prompts."""
    if name in FETCHED and not is_fetched(name):
        return Row(name, declared(name), "not fetched")
    try:
        return Row(name, get_suite(name), "here")
    except SoarBenchError as error:
        if name not in FETCHED:
            raise
        return Row(name, declared(name), "damaged", str(error))


def suites_table(rows: Sequence[Row], width: int) -> Text:
    """Return the suites for a terminal: a line of numbers for each, and below it, wrapped at
    ``width`` characters, its evaluators and what is asked.
    """
    lines, below = [("suite", "prompts", "images", "protocol")], []
    for row in rows:
        images = str(row.suite.images_per_prompt)
        lines.append((printable(row.name), row.prompts, images, row.protocol.name))
        about = (row.reason, "red") if row.reason else (row.suite.description, "dim")
        below.append([(", ".join(row.suite.evaluators), ""), about])
    return _listed(lines, below, width)


def protocols_table(width: int) -> Text:
    """Return the named protocols with the settings in which they differ, as the suites."""
    lines, below = [("protocol", "steps", "guidance", "pixels", "tokens")], []
    for p in PROTOCOLS.values():
        numbers = (str(p.steps), f"{p.guidance:g}", _pixels(p), str(p.max_sequence_length))
        lines.append((p.name, *numbers))
        below.append([(_precision(p), ""), (ABOUT[p.name], "dim")])
    return _listed(lines, below, width)


def _listed(
    lines: Sequence[Sequence[str]], below: Sequence[Sequence[tuple[str, str]]], width: int
) -> Text:
    """Return lines of aligned cells, the first as their titles, and below each other one its texts,
    every one with its style.
    """
    page = Text()
    for line, texts in zip(aligned(lines), [[], *below], strict=True):
        page.append(line.rstrip() + "\n", "" if texts else "bold")
        for text, style in texts:
            whole = textwrap.wrap(printable(text), max(width - 4, 20), break_on_hyphens=False)
            page.append("".join(f"    {part}\n" for part in whole), style)
    return page


def page(row: Row, width: int | None = None) -> Iterator[str]:
    """Yield the lines that describe one suite, broken at ``width`` columns unless it is None."""
    if width is None:
        yield from _page(row)
        return
    wrapper = textwrap.TextWrapper(
        max(width, 40), subsequent_indent=_INDENT, break_on_hyphens=False, break_long_words=False
    )
    for line in _page(row):
        yield from wrapper.wrap(line)


def _page(row: Row) -> Iterator[str]:
    suite, protocol = row.suite, row.protocol
    yield suite.name
    yield f"  asks        {printable(suite.description)}"
    if suite.source:
        yield f"  file        {printable(suite.source)}"
    fetch = f": run `soar-bench fetch --suite {row.name}`" if row.state == "not fetched" else ""
    yield f"  prompts     {row.prompts}{fetch}"
    if row.reason:
        yield f"{_INDENT}{row.reason}"
    images = suite.images_per_prompt
    total = f", {images * len(suite.prompts)} in all" if suite.prompts else ""
    yield f"  images      {images} per prompt{total}"
    yield f"  evaluators  {', '.join(suite.evaluators)}"
    yield f"  protocol    {protocol.name}: {_summary(protocol)}"
    yield f"  seed        {suite.seed}"
    if not suite.prompts:
        return
    yield f"  digest      {suite.digest()}"
    tasks = [f"{printable(task) or '(none)'} {n}" for task, n in _tasks(suite).items()]
    if tasks:
        yield f"  tasks       {', '.join(tasks)}"
    yield "  first prompts"
    for prompt in suite.prompts[:_FIRST_PROMPTS]:
        yield f"    {printable(prompt.id)}  {printable(prompt.text)}"
    yield f"  evaluate    soar-bench eval CHECKPOINT --suite {shlex.quote(row.name)}"


def plain(rows: Sequence[Row]) -> Iterator[str]:
    """Yield one line per suite, then one line per protocol, with tabs between the fields."""
    yield "\t".join(("suite", "prompts", "images", "protocol", "evaluators", "what is asked"))
    for row in rows:
        suite = row.suite
        fields = (row.name, row.prompts, str(suite.images_per_prompt), row.protocol.name,
                  ",".join(suite.evaluators), row.reason or suite.description)  # fmt: skip
        yield "\t".join(fields)
    yield ""
    yield "\t".join(("protocol", *SETTINGS, "of"))
    for protocol in PROTOCOLS.values():
        settings = protocol.settings()
        values = ("" if settings[key] is None else str(settings[key]) for key in SETTINGS)
        yield "\t".join((protocol.name, *values, ABOUT[protocol.name]))


def as_json(row: Row, prompts: bool = False) -> dict[str, Any]:
    """Return a suite in JSON types; what depends on prompts that are not here is None."""
    suite = row.suite
    here = row.state == "here"
    record: dict[str, Any] = {
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
        listed = [
            {"id": p.id, "prompt": p.text, "metadata": dict(p.metadata)} for p in suite.prompts
        ]
        record["prompt_list"] = listed if here else None
    return record


def protocols_json() -> list[dict[str, Any]]:
    """Return the named protocols with all their settings, in JSON types."""
    return [
        {"name": p.name, "of": ABOUT[p.name], "settings": p.settings()} for p in PROTOCOLS.values()
    ]


def _tasks(suite: Suite) -> dict[str, int]:
    """Return the number of prompts per task, in suite order; empty if no prompt has a task."""
    tasks = Counter(p.task for p in suite.prompts)
    return dict(tasks) if set(tasks) != {""} else {}


def _summary(protocol: Protocol) -> str:
    size = "the pipeline's own size" if protocol.resolution is None else f"{_pixels(protocol)} px"
    sampler = f"{protocol.steps} steps, guidance {protocol.guidance:g}, {size}"
    return f"{sampler}, {protocol.max_sequence_length} tokens, {_precision(protocol)}"


def _pixels(protocol: Protocol) -> str:
    return "its own" if protocol.resolution is None else str(protocol.resolution)


def _precision(protocol: Protocol) -> str:
    same = protocol.dtype == protocol.vae_dtype
    return protocol.dtype if same else f"{protocol.dtype}, VAE {protocol.vae_dtype}"

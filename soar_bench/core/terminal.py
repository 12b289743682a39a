"""Consoles on which text from names and files does nothing but show."""

from __future__ import annotations

import os
from typing import Any

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.segment import Segment

from soar_bench.core.text import printable_lines

#: Columns of a log, in which no line is folded.
_LOG = 10_000


def new_console(**settings: Any) -> Console:
    """Return a console of rich's that prints control characters as their escape, and folds lines
    only where there is a terminal or COLUMNS says how many fit.
    """
    console = Console(**settings)
    if not console.is_terminal and not os.environ.get("COLUMNS") and "width" not in settings:
        console.width = _LOG
    console.push_render_hook(_Printable())
    return console


class _Printable(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Escaped(renderable) for renderable in renderables]


class _Escaped:
    """A renderable whose text is printable; control codes of rich's own are no text and stay."""

    def __init__(self, renderable: ConsoleRenderable) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._renderable, options):
            text = segment.text if segment.control else printable_lines(segment.text)
            yield Segment(text, segment.style, segment.control)

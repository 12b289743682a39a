"""The leaderboard as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from soar_bench.boards import published
from soar_bench.boards.standings import Leaderboard
from soar_bench.output.leaderboard import words


def page_of(boards: Sequence[Leaderboard], results: Path, page: Path) -> str:
    """Return the page, escaped; links to the records are relative to ``page``."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("soar_bench.output.leaderboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["address"] = quote
    return environment.get_template("leaderboard.html.j2").render(
        boards=boards,
        page=page,
        words=words,
        results=words.relative(results, page),
        address=published.ADDRESS,
    )

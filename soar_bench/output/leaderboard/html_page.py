"""The leaderboard as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from soar_bench.boards import published
from soar_bench.boards.standings import Leaderboard
from soar_bench.output.leaderboard import words

_TEMPLATE = "leaderboard.html.j2"


def page_of(boards: Sequence[Leaderboard], results: Path, page: Path) -> str:
    """The file's text; links to the records are relative to ``page``. All text is escaped."""
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
    rewards = {name for row in published.FOR_ONE_REWARD for name in row.values}
    columns = tuple(column for column in published.COLUMNS if column.name in rewards)
    return environment.get_template(_TEMPLATE).render(
        boards=boards,
        page=page,
        words=words,
        results=words.relative(results, page),
        paper=words.published_table(published.COLUMNS, published.TABLE),
        rewards=words.published_table(columns, published.FOR_ONE_REWARD),
        models=published.TABLE,
        address=published.ADDRESS,
    )

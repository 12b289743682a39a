"""``soar-bench leaderboard``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer
from typer import Option

from soar_bench.cli.common import RESULTS


def leaderboard(
    results: Path = RESULTS,
    form: Literal["md", "html", "csv"] | None = Option(
        None, "--format", help="Markdown, HTML or CSV.  [default: by the ending of --output]"
    ),
    output: Path | None = Option(
        None, help="File to write.  [default: leaderboard.md, .html or .csv]"
    ),
    check: bool = Option(
        False, "--check", help="Write nothing; exit code 2 if the file is out of date."
    ),
) -> None:
    """Write the leaderboard from the records in results/."""
    from soar_bench.core.errors import SoarBenchError
    from soar_bench.core.files import write_text
    from soar_bench.output import leaderboard as pages

    file = output or Path(f"leaderboard.{form or 'md'}")
    if form is None:
        form = next((f for f in pages.FORMS if file.suffix.lower() == f".{f}"), None)
    if form is None:
        raise SoarBenchError(f"{output} ends in none of .md, .html and .csv: name a --format")
    page = pages.leaderboard(pages.load(results), results, file, form)
    if not check:
        write_text(file, page)
        typer.echo(file)
    elif not file.exists() or file.read_bytes() != page.encode("utf-8"):
        options = "" if output is None and form == "md" else f" --output {file}"
        options += f" --format {form}" if output and output.suffix != f".{form}" else ""
        raise SoarBenchError(f"{file} is out of date: run soar-bench leaderboard{options}")

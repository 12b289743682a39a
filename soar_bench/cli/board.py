"""``soar-bench leaderboard``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import typer

from soar_bench.cli.common import RESULTS


class Form(StrEnum):
    md = "md"
    html = "html"
    csv = "csv"


def leaderboard(
    results: Path = RESULTS,
    form: Form | None = typer.Option(
        None, "--format", help="Markdown, HTML or CSV.  [default: by the ending of --output]"
    ),
    output: Path | None = typer.Option(
        None, help="File to write.  [default: leaderboard.md, .html or .csv]"
    ),
    check: bool = typer.Option(
        False, "--check", help="Write nothing; exit code 2 if the file is out of date."
    ),
) -> None:
    """Write the leaderboard from the records in results/."""
    from soar_bench.core.errors import SoarBenchError
    from soar_bench.core.files import write_text
    from soar_bench.output.leaderboard import leaderboard as page_of
    from soar_bench.output.leaderboard import load

    if form is None:
        forms = [f for f in Form if output is not None and output.suffix.lower() == f".{f}"]
        if output is not None and not forms:
            raise SoarBenchError(f"{output} ends in none of .md, .html and .csv: name a --format")
        form = forms[0] if forms else Form.md
    file = output or Path(f"leaderboard.{form.value}")
    page = page_of(load(results), results, file, form.value)
    if not check:
        write_text(file, page)
        typer.echo(file)
    elif not file.exists() or file.read_bytes() != page.encode("utf-8"):
        options = "" if output is None and form is Form.md else f" --output {file}"
        options += f" --format {form.value}" if output and output.suffix != f".{form.value}" else ""
        raise SoarBenchError(f"{file} is out of date: run soar-bench leaderboard{options}")

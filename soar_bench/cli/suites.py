"""``soar-bench suites``."""

from __future__ import annotations

import typer
from typer import Argument, Option


def suites(
    names: list[str] = Argument(
        None,
        metavar="NAME|FILE",
        help="Suites or files of prompts to show in full.  [default: list all suites]",
    ),
    as_json: bool = Option(
        False, "--json", help="Print JSON; for a named suite, with all its prompts."
    ),
) -> None:
    """List suites and protocols, or show one suite or file of prompts.

    A file ends in .txt, .csv or .jsonl (docs/suites.md).
    """
    import json
    import shutil
    import sys

    from soar_bench import suites as builtin
    from soar_bench.output import suites as pages

    rows = [pages.read_row(name) for name in names or builtin.names()]
    terminal = sys.stdout.isatty()
    if as_json:
        record = {"suites": [pages.as_json(row, prompts=bool(names)) for row in rows]}
        if not names:
            record["protocols"] = pages.protocols_json()
        typer.echo(json.dumps(record, indent=2, ensure_ascii=False))
    elif names:
        width = shutil.get_terminal_size().columns if terminal else None
        typer.echo("\n\n".join("\n".join(pages.page(row, width)) for row in rows))
    elif not terminal:
        typer.echo("\n".join(pages.plain(rows)))
    else:
        from rich.console import Console

        console = Console(highlight=False)
        console.print(pages.suites_table(rows))
        console.print()
        console.print(pages.protocols_table())
        console.print("\nMore of one, or of a file of prompts: soar-bench suites NAME_OR_FILE")

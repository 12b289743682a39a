"""``soar-bench suites``: the suites and protocols there are, and one suite or file of prompts."""

from __future__ import annotations

import typer


def suites(
    names: list[str] = typer.Argument(
        None, metavar="NAME|FILE", help="Suites or files of prompts to show in full."
    ),
    as_json: bool = typer.Option(
        False, "--json", help="Everything, for a program; of a named suite all prompts."
    ),
) -> None:
    """List the suites and protocols, or show what a suite or a file of prompts holds.

    A file ends in .txt, .csv or .jsonl (docs/suites.md).
    """
    import json
    import shutil
    import sys

    from soar_bench import suites as every
    from soar_bench.output import suites as suite_table

    rows = [suite_table.look(name) for name in names or every.names()]
    if as_json:
        said = {"suites": [suite_table.as_json(row, prompts=bool(names)) for row in rows]}
        if not names:
            said["protocols"] = suite_table.protocols_json()
        typer.echo(json.dumps(said, indent=2, ensure_ascii=False))
        return
    terminal = sys.stdout.isatty()
    if names:
        width = shutil.get_terminal_size().columns if terminal else None
        for number, row in enumerate(rows):
            if number:
                typer.echo()
            for line in suite_table.page(row, width):
                typer.echo(line)
        return
    if not terminal:
        for line in suite_table.plain(rows):
            typer.echo(line)
        return
    from rich.console import Console

    console = Console(highlight=False)
    console.print(suite_table.suites_table(rows))
    console.print()
    console.print(suite_table.protocols_table())
    console.print("\nMore of one, or of a file of prompts: soar-bench suites NAME_OR_FILE")

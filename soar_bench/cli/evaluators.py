"""``soar-bench evaluators``: list evaluators, show one, and start a plug-in."""

from __future__ import annotations

from pathlib import Path

import typer

app = typer.Typer(help="List the evaluators, show one, or start one of your own.")


@app.callback(invoke_without_command=True)
def listing(
    context: typer.Context,
    as_json: bool = typer.Option(False, "--json", help="Print everything as JSON."),
) -> None:
    """List the evaluators with their metrics and whether they can run here."""
    if context.invoked_subcommand is not None:
        return
    import json
    import sys
    from contextlib import redirect_stdout

    from evaluators import registry
    from soar_bench.output import evaluators as evaluator_table

    with redirect_stdout(sys.stderr):  # a plug-in may print while it is imported
        rows = [evaluator_table.look(entry) for entry in registry.entries()]
    if as_json:
        typer.echo(json.dumps([evaluator_table.as_json(row) for row in rows], indent=2))
        return
    if not sys.stdout.isatty():
        for line in evaluator_table.plain(rows):
            typer.echo(line)
        return
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False)
    console.print(evaluator_table.table(rows))
    for names, reason in evaluator_table.reasons(rows):
        console.print(f"\n{names}:", markup=False)
        console.print(Padding(Text(reason), (0, 0, 0, 2)))
    console.print("\nMore of one: soar-bench evaluators show NAME")


@app.command()
def show(
    name: str = typer.Argument(
        help="A listed name, FILE.py, FILE.py:CLASS, MODULE:CLASS or openclip:MODEL/PRETRAINED."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Show an evaluator: sources, licences, weights and their URLs."""
    import json
    import sys
    from contextlib import redirect_stdout

    from evaluators import registry
    from soar_bench.output import evaluators as evaluator_table

    with redirect_stdout(sys.stderr):
        row = evaluator_table.look(registry.find(name))
    if as_json:
        typer.echo(json.dumps(evaluator_table.as_json(row), indent=2))
        return
    for line in evaluator_table.page(row):
        typer.echo(line)


@app.command()
def new(
    name: str = typer.Argument(
        help="Name of lower-case letters, digits and hyphens, such as my-metric."
    ),
    directory: Path = typer.Option(Path(), help="Folder in which the plug-in's folder is made."),
) -> None:
    """Write a working plug-in and its test, to change into your own."""
    from evaluators.scaffold import write_plug_in

    folder, module = write_plug_in(name, directory)
    typer.echo(f"{folder}")
    typer.echo(f"  look:     soar-bench evaluators show {module}", err=True)
    typer.echo(f"  try:      soar-bench eval shapes --evaluator {module}", err=True)
    typer.echo(f"  test:     python -m pytest {folder}", err=True)
    typer.echo(f"  install:  python -m pip install -e {folder}", err=True)

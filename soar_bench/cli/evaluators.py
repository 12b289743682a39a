"""``soar-bench evaluators``: list evaluators, show one, and start a plug-in."""

from __future__ import annotations

from pathlib import Path

from typer import Argument, Option

from soar_bench.cli.common import AS_JSON, EVALUATORS, echo, echo_lines, folder_to_write
from soar_bench.cli.help import App, ListGroups

app = App("List the evaluators, show one, or start one of your own.", ListGroups)


@app.add("list", "soar-bench evaluators\nsoar-bench evaluators --json")
def listing(
    as_json: bool = Option(False, "--json", help="Print everything as JSON."),
) -> None:
    """List the evaluators and whether they can run here."""
    import json
    import sys
    from contextlib import redirect_stdout

    from evaluators import registry
    from soar_bench.output import evaluators as pages

    with redirect_stdout(sys.stderr):  # a plug-in may print while it is imported
        rows = [pages.look(entry) for entry in registry.entries()] + pages.forms()
    if as_json:
        echo(json.dumps([pages.as_json(row) for row in rows], indent=2))
    elif not sys.stdout.isatty():
        echo_lines(pages.plain(rows))
    else:
        from soar_bench.core.terminal import new_console

        console = new_console(highlight=False)
        console.print(pages.table(rows, console.width))
        console.print()
        if command := pages.to_fetch(rows):
            console.print(command, markup=False)
        console.print("More of one, and what it lacks: soar-bench evaluators show NAME")


@app.add("show", "soar-bench evaluators show geneval\nsoar-bench evaluators show my_metric.py")
def show(
    name: str = Argument(
        autocompletion=EVALUATORS,
        help="A listed name, FILE.py, FILE.py:CLASS, MODULE:CLASS, openclip:MODEL/PRETRAINED, "
        "fidelity:FOLDER, fidelity-dinov2:FOLDER or cmmd:FOLDER.",
    ),
    as_json: bool = AS_JSON,
) -> None:
    """Show an evaluator: sources, licences, weights and their URLs."""
    import json
    import sys
    from contextlib import redirect_stdout

    from evaluators import registry
    from soar_bench.output import evaluators as pages

    with redirect_stdout(sys.stderr):
        row = pages.look(registry.find(name))
    echo_lines([json.dumps(pages.as_json(row), indent=2)] if as_json else pages.page(row))


@app.add("new", "soar-bench evaluators new my-metric")
def new(
    name: str = Argument(help="Name of lower-case letters, digits and hyphens, such as my-metric."),
    directory: Path = Option(
        Path(),
        "--output",
        "--directory",
        callback=folder_to_write,
        help="Folder in which the plug-in's folder is made.",
    ),
    kind: str = Option(
        "sample", help="sample, which judges images alone, or set, which judges them together."
    ),
) -> None:
    """Write a working plug-in and its test, to change into your own."""
    from evaluators.scaffold import write_plug_in

    folder, module = write_plug_in(name, directory, kind)
    echo(str(folder))
    next_steps = (
        f"  look:     soar-bench evaluators show {module}",
        f"  try:      soar-bench eval shapes --evaluator {module}",
        f"  test:     python -m pytest {folder}",
        f"  install:  python -m pip install -e {folder}",
    )
    echo_lines(next_steps, err=True)

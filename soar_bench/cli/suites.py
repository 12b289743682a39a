"""``soar-bench suites``."""

from __future__ import annotations

from typer import Argument, Option

from soar_bench.cli.common import AS_JSON, SUITES, echo, files_or_names
from soar_bench.cli.help import App, ListGroups

app = App("List suites and protocols, or show one.", ListGroups)


@app.add("list", "soar-bench suites\nsoar-bench suites --json")
def listing(as_json: bool = AS_JSON) -> None:
    """List suites and protocols."""
    import json
    import sys

    from soar_bench import suites as builtin
    from soar_bench.output import suites as pages

    rows = [pages.read_row(name) for name in builtin.names()]
    if as_json:
        record = {
            "suites": [pages.as_json(row, prompts=False) for row in rows],
            "protocols": pages.protocols_json(),
        }
        echo(json.dumps(record, indent=2, ensure_ascii=False))
    elif not sys.stdout.isatty():
        echo("\n".join(pages.plain(rows)))
    else:
        from soar_bench.core.terminal import new_console

        console = new_console(highlight=False)
        console.print(pages.suites_table(rows, console.width))
        console.print(pages.protocols_table(console.width))
        console.print("More of one, or of a file of prompts: soar-bench suites show NAME_OR_FILE")


@app.add("show", "soar-bench suites show geneval\nsoar-bench suites show my-prompts.txt --json")
def show(
    names: list[str] = Argument(
        metavar="NAME|FILE",
        autocompletion=SUITES,
        help="Suites, or files of prompts: .txt, .csv or .jsonl (docs/suites.md).",
    ),
    as_json: bool = Option(False, "--json", help="Print JSON, with all prompts."),
) -> None:
    """Show suites or files of prompts in full."""
    import json
    import shutil
    import sys

    from soar_bench.output import suites as pages

    rows = [pages.read_row(name) for name in files_or_names(names)]
    if as_json:
        record = {"suites": [pages.as_json(row, prompts=True) for row in rows]}
        echo(json.dumps(record, indent=2, ensure_ascii=False))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        echo("\n\n".join("\n".join(pages.page(row, width)) for row in rows))

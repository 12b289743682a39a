"""Text from names and files can neither act on a terminal nor become a formula in a table."""

from __future__ import annotations

import csv
import io

import pytest
from rich.table import Table

from soar_bench.core.progress import Stages, stages
from soar_bench.core.terminal import new_console
from soar_bench.core.text import csv_text, from_csv, printable, printable_lines

#: Red, a window's title, up one line, a C1 control, backspaces, reordered letters, half a pair.
HOSTILE = "\x1b[31mred\x1b]0;title\x07\x1b[1A\x9b2J\x08\x7f\u202edrawkcab\u2066\u200f\u061c\ud83d"


@pytest.mark.parametrize("text", [HOSTILE, "a\nb", "a\rb", "a\u2028b", "a\x85b"])
def test_a_printable_text_has_no_control_character_and_one_line(text):
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown.splitlines()) == 1
    assert shown.encode("utf-8").decode("unicode_escape") == text


def test_other_letters_stay_as_they_are():
    text = "ä 中文 👩\u200d🎨 \xa0 עברית"
    assert printable(text) == text
    assert printable_lines(f"{text}\n\t{text}") == f"{text}\n\t{text}"
    assert printable_lines("a\x1b\n") == "a\\x1b\n"


@pytest.mark.parametrize("terminal", [False, True])
def test_a_console_shows_names_and_keeps_its_own_colours(terminal):
    stream = io.StringIO()
    colours = "standard" if terminal else None
    console = new_console(
        file=stream, force_terminal=terminal, width=200, color_system=colours, highlight=False
    )
    table = Table("name")
    table.add_row(HOSTILE, style="green")
    console.print(table)
    console.print(HOSTILE, markup=False)
    text = stream.getvalue()
    assert text.count("\\x1b[31mred") == 2
    assert "\x1b[31m" not in text and "\x07" not in text and "\u202e" not in text
    assert ("\x1b[32m" in text) == terminal


def test_progress_shows_stages_and_notes():
    stream = io.StringIO()
    for console in (
        new_console(file=stream, width=200),
        new_console(file=stream, width=200, force_terminal=True, color_system=None),
    ):
        with stages(console, title=HOSTILE) as show:
            assert isinstance(show, Stages)
            show(HOSTILE, 1, 1)
            show.note(HOSTILE)
    assert "\x1b[31m" not in stream.getvalue() and "\x07" not in stream.getvalue()
    assert stream.getvalue().count("\\x1b[31mred") >= 5


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "=HYPERLINK(1)"]
)
def test_a_cell_that_begins_as_a_formula_has_an_apostrophe_and_comes_back(text):
    assert csv_text(text) == "'" + text
    assert from_csv(csv_text(text)) == text


@pytest.mark.parametrize("text", ["", "a = b", "'quoted'", "1-1", " =1"])
def test_other_cells_are_as_they_were(text):
    assert csv_text(text) == text == from_csv(csv_text(text))


def test_every_table_that_is_written_shows_names_as_text(tmp_path, monkeypatch):
    """A checkpoint, a prompt and its id begin as formulas: in no table does a cell."""
    from typer.testing import CliRunner

    from soar_bench.boards.comparing import board_of, compare_board
    from soar_bench.boards.selection import select_boards
    from soar_bench.cli.export import app
    from soar_bench.records.folders import find
    from tests.soar_bench.records_by_hand import few_scores, record, write_run

    results = tmp_path / "results"
    scores = few_scores(-0.5, 0.25, 0.5)
    for column in ("prompt_id", "prompt", "task", "unscored"):
        scores[column] = "=1+" + scores[column]
    scores["unscored"] = ""
    contents = record(label="=cmd", digest="one")
    contents["evaluators"]["judge"]["metrics"]["quality"]["range"] = [None, None]
    write_run(results, contents, scores)
    write_run(results, contents | record(label="@other", digest="two"), scores)
    file = tmp_path / "table.csv"
    arguments = ["csv", "=cmd", "--results", str(results), "--output", str(file)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    runs = [find(name, results) for name in ("=cmd", "@other")]
    (entrants,), _ = select_boards(runs)
    compared = compare_board(board_of(entrants))
    for text in (file.read_text(), compared.to_csv()):
        cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
        begun = [cell for cell in cells if cell[:1] in ("=", "+", "@")]
        assert begun == []
        assert "'=cmd" in cells
    assert "-0.5" in file.read_text()  # numbers stay numbers


def test_names_on_a_terminal_are_shown_not_obeyed(tmp_path, capsys, monkeypatch):
    """A record, its prompts and a missing file with escapes in their names."""
    from soar_bench.cli import main
    from tests.soar_bench.records_by_hand import few_scores, record, write_run

    results = tmp_path / "results"
    name = "\x1b[31mred\x1b]0;t\x07"
    contents = record(label=name, name=name)
    contents["evaluators"] = {name: contents["evaluators"]["judge"]}
    write_run(results, contents, few_scores(0.5, 0.25))
    for words in (
        ["runs", "list"],
        ["runs", "show", name],
        ["runs", "verify"],
        ["compare", name],
        ["runs", "show", name + "x"],
        ["eval", name],
        ["eval", "shapes", "--suite", f"{tmp_path}/{name}.txt"],
        ["eval", "shapes", "--evaluators", name],
        ["data", "check", name],
        ["score", f"{tmp_path}/{name}", "--evaluators", "shapes-clipscore"],
    ):
        if words[0] in ("runs", "compare"):
            words = [*words, "--results", str(results)]
        for terminal in (False, True):
            monkeypatch.setattr("sys.argv", ["soar-bench", *words])
            monkeypatch.setattr("sys.stdout.isatty", lambda terminal=terminal: terminal)
            with pytest.raises(SystemExit):
                main()
            printed = capsys.readouterr()
            text = printed.out + printed.err
            assert "\x1b[31m" not in text and "\x1b]" not in text and "\x07" not in text, words
            assert "\\x1b[31mred" in text, words

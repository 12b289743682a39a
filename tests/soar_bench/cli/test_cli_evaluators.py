"""``soar-bench evaluators``: the list, and one evaluator."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest

from evaluators import registry
from evaluators.registry import Entry
from soar_bench.core import digests
from soar_bench.core.files import HOME_VARIABLE


def test_a_pipe_gets_a_line_a_metric_with_tabs(soar_bench, plug_ins):
    code, out, _ = soar_bench("evaluators")
    assert code == 0
    rows = [line.split("\t") for line in out.splitlines()]
    assert rows[0] == ["evaluator", "metric", "unit", "range", "better", "version", "licence",
                       "weights", "runs here"]  # fmt: skip
    assert {len(row) for row in rows} == {9}
    by_name = {(row[0], row[1]): row[2:] for row in rows[1:]}
    assert by_name["shapes-geneval", "shapes_geneval"][:3] == [
        "share of images that are right", "0 to 1", "higher"]  # fmt: skip
    assert by_name["shapes-geneval", "shapes_geneval"][-1] == "yes"
    headed = by_name["headed", "one"]
    assert headed[:6] == [
        "points; about 3",
        "at least 0",
        "lower",
        "7",
        "CC0",
        "head 3 MB (missing)",
    ]
    assert headed[6].startswith("no: the weights head are not here")
    assert "run `soar-bench fetch head`" in headed[6]
    assert by_name["headed", "two"][1] == "any number"
    assert "broken: the evaluator 'off-key'" in by_name["off-key", ""][-1]
    assert "SystemExit: out of tune" in by_name["off-key", ""][-1]


def test_a_program_gets_json(soar_bench, plug_ins):
    def strictly(constant):
        raise AssertionError(f"{constant} is no JSON")

    _, out, _ = soar_bench("evaluators", "--json")
    by_name = {entry["name"]: entry for entry in json.loads(out, parse_constant=strictly)}
    assert [by_name[n]["state"] for n in ("shapes-geneval", "headed", "off-key")] == [
        "yes", "no", "broken"]  # fmt: skip
    assert by_name["openclip:MODEL/PRETRAINED"]["state"] == "named"
    assert by_name["cmmd:FOLDER"]["target"] == "evaluators.sets.reference:Cmmd"
    assert by_name["headed"]["metrics"][0]["range"] == [0, None]
    assert by_name["headed"]["metrics"][0]["licence"] == "CC0"
    assert by_name["headed"]["origin"] == "package band"
    files = by_name["headed"]["weights"][0]["files"]
    assert [(f["path"], f["size"], f["here"]) for f in files] == [
        ("a.bin", 3_000_000, False), ("b.bin", 500, False)]  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("width", [80, 140])
def test_a_terminal_gets_a_table_of_its_width(soar_bench, plug_ins, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", "50")  # else a dumb terminal has 80 columns
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    soar_bench("evaluators")
    lines = terminal.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    # head, a line per evaluator and form of a name, an empty one, and what to do next
    assert len(lines) == 2 + 4 + len(registry.FORMS) + 3
    for words in (
        "shapes-geneval shapes_geneval ↑ yes",
        "headed one ↓, two ↑ no: fetch 3 MB",
        "off-key broken: cannot be made: ",
        "Missing weights (3 MB): soar-bench fetch head",  # for all that only lack weights
        "More of one, and what it lacks: soar-bench evaluators show NAME",
    ):
        assert words in text


def test_a_terminal_narrower_than_a_name_has_a_line_for_each(soar_bench, plug_ins, monkeypatch):
    monkeypatch.setenv("COLUMNS", "16")
    monkeypatch.setenv("LINES", "50")
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    soar_bench("evaluators")
    assert any(line.startswith("headed ") for line in terminal.getvalue().splitlines())


@pytest.mark.parametrize("width", [60, 80, 120])
def test_all_built_in_evaluators_fit_on_a_screen(soar_bench, monkeypatch, tmp_path, width):
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", "50")  # else a dumb terminal has 80 columns
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    soar_bench("evaluators")
    lines = terminal.getvalue().splitlines()
    assert len(lines) <= len(registry.names()) + len(registry.FORMS) + 5 + 2 * (width < 80)
    assert max(map(len, lines)) <= width
    assert "…" not in terminal.getvalue()  # no name, size or reason is cut
    assert sum("no: fetch 17.6 GB" in line for line in lines) == 4
    for name in (*registry.BUILT_IN, *registry.FORMS):
        assert sum(line.startswith(f"{name} ") for line in lines) == 1


def test_weights_that_are_here_are_read_once_for_all_evaluators(
    soar_bench, plug_ins, tmp_path, monkeypatch
):
    plug_ins.mkdir(parents=True)
    (plug_ins / "a.bin").write_bytes(b"a" * 1000)
    (plug_ins / "b.bin").write_bytes(b"b" * 234)
    reads = []
    digest_file = digests.digest_file
    monkeypatch.setattr(
        digests, "digest_file", lambda file: reads.append(file.name) or digest_file(file)
    )
    _, out, _ = soar_bench("evaluators")
    assert sorted(reads) == ["a.bin", "b.bin"]
    assert out.count("head 1.23 kB\tyes") == 4


def test_what_a_plug_in_prints_does_not_spoil_the_output(soar_bench, plug_ins, monkeypatch):
    monkeypatch.setattr(
        registry, "_plugged_in", lambda: [Entry("headed", "cli_plug_ins:talks", "package band")]
    )
    for arguments in (["--json"], ["show", "headed", "--json"]):
        _, out, err = soar_bench("evaluators", *arguments)
        json.loads(out)
        assert "hello from a plug-in" in err


def test_every_built_in_evaluator_is_listed_without_torch():
    code = (
        "import sys\nfrom soar_bench.cli import app\nsys.argv = ['soar-bench', 'evaluators']\n"
        "try:\n    app()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'pandas'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    listed = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert set(registry.BUILT_IN) <= set(listed)


def test_one_evaluator_is_shown_with_all_it_declares(soar_bench, plug_ins):
    code, out, _ = soar_bench("evaluators", "show", "headed")
    assert code == 0
    for words in (
        "headed (package band,", "runs here: no: the weights head are not here", "All of it.",
        "metric one: at least 0, lower is better", "points; about 3", "a paper", "CC0",
        "metric two: any number, higher is better", "not stated",
        "missing:  a.bin", "https://here.example/b.bin", str(plug_ins),
    ):  # fmt: skip
        assert words in out
    assert json.loads(soar_bench("evaluators", "show", "headed", "--json")[1])["state"] == "no"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("haeded", "did you mean headed?"),
        ("off-key", "SystemExit: out of tune"),
        ("nowhere.py", "there is no file nowhere.py"),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(soar_bench, plug_ins, name, words):
    code, out, err = soar_bench("evaluators", "show", name)
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.strip().splitlines()) == 1

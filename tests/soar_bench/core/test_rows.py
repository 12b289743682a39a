"""One reader of TXT, CSV, TSV and JSONL: every form gives the same rows, every fault its line."""

from __future__ import annotations

import os
import re
import sys

import pytest

from soar_bench.core.errors import SoarBenchError
from soar_bench.core.rows import cell_value, read_rows, read_text, scan_rows


@pytest.fixture()
def write(tmp_path):
    def put(name, content):
        file = tmp_path / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    return put


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "a cat\n\n  a \u2028 dog \n"),
        ("a.txt", b"\xef\xbb\xbfa cat\r\n\r\na \xe2\x80\xa8 dog"),
        ("a.csv", "\n prompt \na cat\n\n,\na \u2028 dog\n".replace(",", '""')),
        ("a.CSV", b"\xef\xbb\xbfprompt\r\na cat\r\na \xe2\x80\xa8 dog\r\n"),
        ("a.tsv", '"prompt"\na cat\n"a \u2028 dog"\n'),
        ("a.jsonl", '{"prompt": "a cat"}\n\n{"prompt": "a \u2028 dog"}\n'),
        ("a.ndjson", b'\xef\xbb\xbf{"prompt": "a cat"}\r\n{"prompt": "a \\u2028 dog"}'),
    ],
)
def test_every_form_gives_the_same_rows(write, name, content):
    values = [row.values for row in read_rows(write(name, content))]
    assert values == [{"prompt": "a cat"}, {"prompt": "a \u2028 dog"}]


def test_a_row_is_named_by_its_file_and_first_line(write):
    file = write("a.csv", '\nprompt,style\n"a\ncat",oil\n\na dog,ink\n')
    assert [(row.line, row.where) for row in read_rows(file)] == [
        (3, f"{file}, line 3"),
        (6, f"{file}, line 6"),
    ]
    lines = write("a.jsonl", '\n{"a": 1}\n\n{"a": 2}')
    assert [row.line for row in read_rows(lines)] == [2, 4]


FAULTS = [
    ("a.txt", b"a\nb\0\n", "line 2 holds a NUL character"),
    ("a.txt", b"a\nb\rc\n", "line 2 holds a carriage return"),
    ("a.csv", b"a,b\n1,2,3\n", "line 2 has 3 cells where the header has 2"),
    ("a.csv", b"a,b\n1\n", "line 2 has 1 cells where the header has 2"),
    ("a.csv", b"a,b\n1,\0\n", "line 2 holds a NUL character"),
    ("a.jsonl", b'{"a": 1}\n{"a": \n', r"line 2 is not JSON: .* \(at character 6\)"),
    ("a.jsonl", b"[1]\n", r"line 1 must be one JSON object, such as .*; it is \[1\]"),
    ("a.jsonl", b'{"a": ' + b"[" * 100_000 + b"\n", "line 1 is not JSON"),
    ("a.jsonl", b'{"a": ' + b"1" * 5000 + b"}\n", "line 1 is not JSON: .*digits"),
    ("a.jsonl", '{"a": 1}\n'.encode("utf-16-le"), "line 1 holds a NUL character"),
]
TABLES = [
    ("a.csv", b"a,a\n1,2\n", "line 1 has more than one column a"),
    ("a.csv", b'a\n"1\n', "line 2 is not CSV"),
    ("a.csv", b"a\0\n1\n", "line 1 holds a NUL character"),
    ("a.csv", b"a\n\n\xff\n", "line 3 is not UTF-8 text .*: save the file as UTF-8"),
]


@pytest.mark.parametrize(("name", "content", "words"), FAULTS + TABLES)
def test_what_is_not_whole_is_refused_with_file_and_line(write, name, content, words):
    with pytest.raises(SoarBenchError, match=rf"{name}, {words}"):
        list(read_rows(write(name, content)))


@pytest.mark.parametrize(("name", "content", "words"), FAULTS)
def test_a_scan_goes_on_behind_a_row_with_a_fault(write, name, content, words):
    broken = list(scan_rows(write(name, content)))
    faults = [f"{row.where} {row.fault}" for row in broken if row.fault]
    assert faults and re.search(words, faults[0])
    more = list(scan_rows(write(name, content + content)))
    assert len(more) > len(broken) and more[-1].line > broken[-1].line


def test_cells_of_a_row_that_has_too_few_are_kept_and_of_one_with_too_many_none(write):
    rows = list(scan_rows(write("a.csv", "a,b\n1\n1,2,3\n,\n")))
    assert [row.values for row in rows] == [{"a": "1"}, {}, {}]
    assert [bool(row.fault) for row in rows] == [True, True, False]


def test_a_column_without_a_name_is_passed_over(write):
    (row,) = read_rows(write("a.csv", ",a\n0,x\n"))
    assert row.values == {"a": "x"}


@pytest.mark.parametrize("value", ["NaN", "-Infinity", '"\\ud800"'])
def test_json_that_cannot_be_written_again_is_refused_unless_allowed(write, value):
    file = write("a.jsonl", f'{{"a": {value}}}\n')
    with pytest.raises(SoarBenchError, match="line 1 is not JSON"):
        list(read_rows(file))
    assert len(list(read_rows(file, writable=False))) == len(list(scan_rows(file))) == 1


def test_a_table_must_have_the_column_that_is_asked_for(write):
    with pytest.raises(
        SoarBenchError, match=r"line 1 must be a header with the column c; its .* a, b"
    ):
        list(read_rows(write("a.csv", "a,b\n"), column="c"))


def test_a_cell_may_hold_a_list_or_an_object():
    assert cell_value('[1, {"a": 2}]') == [1, {"a": 2}]
    for text in ("", "1", "[NaN]", "[red] star", '{"a": "\\ud800"}'):
        assert cell_value(text) == text


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(write):
    file = write("a.txt", "a")
    file.chmod(0)
    with pytest.raises(SoarBenchError, match=r"a\.txt cannot be read: Permission denied"):
        read_text(file)


def test_reading_imports_no_torch():
    import subprocess

    code = "import sys, soar_bench.core.rows; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_form_of_a_file_may_be_said_where_its_name_does_not(write):
    file = write("results", '{"a": 1}\n')
    assert [row.values for row in read_rows(file, suffix=".jsonl")] == [{"a": 1}]
    assert [row.values for row in read_rows(write("b", "x\ty\n1\t2\n\t\n"), suffix=".tsv")] == [
        {"x": "1", "y": "2"}
    ]


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(SoarBenchError, match=r"a\.txt is no file"):
        list(read_rows(tmp_path / "a.txt"))

"""A user's own suite: what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from suite_by_hand import BENCH, COWS, lines

from soar_bench.core.errors import SoarBenchError
from soar_bench.suites import get_suite


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"include": []}, "no include clauses"),
        ({"include": "bench"}, "no include clauses"),
        (
            {"include": [{"class": "bnech", "count": 1}]},
            "unknown class 'bnech'.*did you mean bench",
        ),
        ({"include": [{"class": "bench", "count": 0}]}, "the count 0"),
        ({"exclude": 3}, "exclude is no list"),
        ({"tag": "other"}, "its tag is 'other', none of single_object"),
    ],
)
def test_a_malformed_geneval_record_is_refused_at_once(write, change, message):
    name = write("p.jsonl", lines(COWS, {**BENCH, **change}))
    with pytest.raises(SoarBenchError, match=f"p.jsonl, line 2 has include but .*{message}"):
        get_suite(name)


def test_a_typo_is_told_for_the_objects_that_the_file_is_about(write):
    records = [
        {"prompt": name, "tag": "single_object", "include": [{"class": name, "count": 1}]}
        for name in ("circle", "star", "cirle")
    ]
    name = write("p.jsonl", lines(*records))
    with pytest.raises(SoarBenchError, match=r"line 3 has .*'cirle' \(did you mean circle\?\)"):
        get_suite(name)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["a", "a"], "line 2 has the id 'a', which is that of p.jsonl, line 1"),
        (["7", 7], "line 2 has the id '7', which is that of"),
        (["a", None], "line 2 has no id, as others have"),
        (["a", " "], "line 2 has an empty id"),
        (["a", "x" * 201], "line 2 has an id of 201 characters; up to 200"),
        (["a", True], "line 2: id must be a text or a whole number, not true"),
        (["a", [1]], "line 2: id must be a text or a whole number"),
        (["a", "b\0"], "line 2 holds a NUL character"),
    ],
)
def test_ids_must_be_unique_and_said_of_all(write, ids, message):
    records = [{"prompt": f"p{i}", "id": id} for i, id in enumerate(ids)]
    with pytest.raises(SoarBenchError, match=message):
        get_suite(write("p.jsonl", lines(*records)))


def test_an_empty_id_in_a_table_is_refused(write):
    with pytest.raises(SoarBenchError, match=r"p.csv, line 3 has an empty id"):
        get_suite(write("p.csv", "id,prompt\na,a cat\n,a dog\n"))


# What is refused


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.txt", b"a cat\na \xff dog\n", "p.txt, line 2 is not UTF-8"),
        ("p.txt", "a cat\n".encode("utf-16"), "p.txt, line 1 is not UTF-8"),
        ("p.txt", "a cat\n".encode("utf-16-le"), "p.txt, line 1 holds a NUL"),
        ("p.txt", "", "p.txt holds no prompts"),
        ("p.txt", "\n \r\n\t\n", "p.txt holds no prompts"),
        ("p.txt", "a cat\na\0dog\n", "p.txt, line 2 holds a NUL"),
        ("p.txt", "a cat\ra dog\r", "p.txt, line 1 holds a carriage return"),
        ("p.txt", "a cat\n" + "x" * 10_001, "line 2 has a prompt of 10,001 characters"),
        ("p.csv", "", "p.csv holds no prompts"),
        ("p.csv", "prompt\n", "p.csv holds no prompts"),
        ("p.csv", "Prompt,Style\na,b\n", "line 1 must be a header with the column prompt; its "
         "columns are Prompt, Style"),
        ("p.csv", "prompt,prompt\na,b\n", "line 1 has more than one column prompt"),
        ("p.csv", "prompt,style\na cat,oil\na dog, big,ink\n",
         "line 3 has 3 cells where the header has 2"),
        ("p.csv", 'prompt,style\n"a\ncat",oil\na dog\n', "line 4 has 1 cells"),
        ("p.csv", "prompt,style\n,oil\n", "line 2 has an empty prompt"),
        ("p.csv", 'prompt\n"a cat\n', "line 2 is not CSV"),
        ("p.csv", b"prompt\na cat\n\xe9\n", "line 3 is not UTF-8"),
        ("p.jsonl", "\n", "p.jsonl holds no prompts"),
        ("p.jsonl", '{"prompt": "a"}\n{"prompt": \n', "line 2 is not JSON: Expecting value"),
        ("p.jsonl", '["a cat"]\n', r"line 1 must be one JSON object, such as .*; it is \["),
        ("p.jsonl", '"a cat"\n', "line 1 must be one JSON object"),
        ("p.jsonl", '{"text": "a cat"}\n', "line 1 has no prompt"),
        ("p.jsonl", '{"prompt": null}\n', "line 1 has no prompt"),
        ("p.jsonl", '{"prompt": 3}\n', "line 1: prompt must be a text, not 3"),
        ("p.jsonl", '{"prompt": "  "}\n', "line 1 has an empty prompt"),
        ("p.jsonl", '{"prompt": "a\\u0000b"}\n', "line 1 holds a NUL"),
        ("p.jsonl", '{"prompt": "a\\ud800b"}\n', "line 1 is not JSON"),
        ("p.jsonl", '{"prompt": "a", "x": NaN}\n', "line 1 is not JSON"),
        ("p.jsonl", "[" * 100_000, "line 1 is not JSON"),
        ("p.jsonl", '{"prompt": "a", "metadata": "x"}\n', "metadata must be an object, not \"x\""),
        ("p.jsonl", '{"prompt": "a", "metadata": {"s": 1}, "s": 2}\n', "line 1 has s twice"),
        ("p.jsonl", '{"prompt": "a", "tag": 3}\n', "tag must be a text, not 3"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_file_and_line(write, name, content, message):
    with pytest.raises(SoarBenchError, match=message):
        get_suite(write(name, content))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_refused(write):
    Path(write("p.txt", "a cat\n")).chmod(0)
    with pytest.raises(SoarBenchError, match=r"p.txt cannot be read: Permission denied"):
        get_suite("p.txt")


def test_a_file_that_the_system_cannot_read_is_refused(write, monkeypatch):
    name = write("p.txt", "a cat\n")

    def fail(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(SoarBenchError, match=r"p.txt cannot be read: Permission denied"):
        get_suite(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shaps", "no suite is named 'shaps'; did you mean shapes.*a file of prompts that ends in"),
        ("my/promts.txt", "no file of prompts at my/promts.txt; did you mean my/prompts.txt"),
        ("my/prompts", "did you mean my/prompts.txt"),
        ("my", "my is a folder"),
        ("my/list.json", "its name must end in .txt, .csv or .jsonl"),
        ("elsewhere/p.csv", "no file of prompts at elsewhere/p.csv .known: shapes"),
        ("", "is a folder|no suite is named"),
    ],
)
def test_a_name_that_is_neither_suite_nor_file_is_refused_with_what_was_meant(write, name, message):
    write("my/prompts.txt", "a cat\n")
    write("my/list.json", "[]")
    with pytest.raises(SoarBenchError, match=message):
        get_suite(name)

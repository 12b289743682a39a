"""A user's own suite: what is read from a file, and what is refused."""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path

import pytest

from soar_bench.core.errors import SoarBenchError
from soar_bench.sampling.noise import initial_noise
from soar_bench.suites import get_suite
from soar_bench.suites.protocols import default_protocol
from soar_bench.suites.types import plan

BENCH = {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a bench"}
COWS = {
    "tag": "counting",
    "include": [{"class": "cow", "count": 2}],
    "exclude": [{"class": "cow", "count": 3}],
    "prompt": "two cows",
}
LEFT = {
    "tag": "position",
    "include": [
        {"class": "cup", "count": 1},
        {"class": "dog", "count": 1, "position": ["left of", 0]},
    ],
    "prompt": "a dog left of a cup",
}


@pytest.fixture()
def write(tmp_path, monkeypatch):
    """write(name, content) -> the file's name, in the current folder."""
    monkeypatch.chdir(tmp_path)

    def put(name: str, content: str | bytes) -> str:
        data = content.encode() if isinstance(content, str) else content
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(data)
        return name

    return put


def lines(*records: object) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def texts(suite):
    return [p.text for p in suite.prompts]


# What is read


def test_a_text_file_has_one_prompt_a_line(write):
    name = write("my/prompts.txt", "a cat\n\n  a dog \nein Schild „Größe\u2028zwei“\n")
    suite = get_suite(name)
    assert texts(suite) == ["a cat", "a dog", "ein Schild „Größe\u2028zwei“"]
    assert [p.id for p in suite.prompts] == ["prompts-00000", "prompts-00001", "prompts-00002"]
    assert (suite.name, suite.source, suite.seed) == ("prompts", name, 0)
    assert suite.description == f"3 prompts from {name}"
    assert suite.images_per_prompt == 1
    assert suite.evaluators == ("pickscore", "clipscore", "hpsv21", "aesthetic", "image-reward")


def test_a_table_has_prompts_ids_tasks_and_metadata(write):
    name = write(
        "a.csv",
        'id,prompt,task,style,empty\nx,"a cat, asleep",animals,,\n"y","a ""big"" dog\nrunning",'
        "animals,oil,\n",
    )
    suite = get_suite(name)
    assert [(p.id, p.text, p.task, dict(p.metadata)) for p in suite.prompts] == [
        ("x", "a cat, asleep", "animals", {"tag": "animals"}),
        ("y", 'a "big" dog\nrunning', "animals", {"tag": "animals", "style": "oil"}),
    ]


def test_json_lines_have_prompts_ids_and_metadata_inside_or_beside(write):
    name = write(
        "a.jsonl",
        lines(
            {"prompt": "a cat", "id": 7, "metadata": {"style": "oil", "n": 3}},
            {"prompt": "a dog", "id": "d", "style": "ink", "tag": "animals"},
        ),
    )
    suite = get_suite(name)
    assert [(p.id, p.text, dict(p.metadata)) for p in suite.prompts] == [
        ("7", "a cat", {"style": "oil", "n": 3}),
        ("d", "a dog", {"style": "ink", "tag": "animals"}),
    ]
    assert [p.task for p in suite.prompts] == ["", "animals"]


def test_the_same_prompts_are_the_same_suite_in_every_form_and_with_every_line_end(write):
    plain = get_suite(write("1/p.txt", "a cat\na dog\n"))
    others = [
        write("2/p.txt", b"\xef\xbb\xbfa cat\r\n\r\na dog"),
        write("3/p.csv", "prompt\na cat\na dog\n"),
        write("4/p.CSV", b"\xef\xbb\xbf prompt ,style\r\na cat,\r\n\r\n a dog,\r\n"),
        write("5/p.jsonl", lines({"prompt": "a cat"}, {"prompt": "a dog", "metadata": {}})),
        write("6/p.jsonl", b'\xef\xbb\xbf{"prompt": "a cat", "id": null}\r\n{"prompt":"a dog"}'),
    ]
    assert {get_suite(name).digest() for name in others} == {plain.digest()}


def test_tasks_and_metadata_are_the_same_in_a_table_and_in_json_lines(write):
    table = get_suite(write("1/p.csv", "prompt,task,style\na cat,animals,oil\n"))
    assert table.digest() == get_suite(
        write("2/p.jsonl", lines({"prompt": "a cat", "task": "animals", "style": "oil"}))
    ).digest()  # fmt: skip


def test_the_content_decides_the_digest(write):
    first = get_suite(write("p.txt", "a cat\na dog\n"))
    digests = {
        first.digest(),
        get_suite("p.txt", seed=5).digest(),
        get_suite(write("q/p.txt", "a dog\na cat\n")).digest(),
        get_suite(write("r/p.csv", "prompt,style\na cat,oil\na dog,oil\n")).digest(),
    }
    assert len(digests) == 4


def test_a_seed_replaces_the_suites_own(write):
    assert get_suite(write("p.txt", "a cat\n"), seed=5).seed == 5
    assert get_suite("shapes", seed=0).seed == 0 and get_suite("shapes").seed == 2026


# Repeats


@pytest.mark.parametrize("order", [[0, 0, 1, 1, 2, 2], [0, 1, 2, 2, 1, 0]])
def test_lines_that_are_all_repeated_equally_often_are_samples_of_one_prompt(write, order):
    prompts = ["a cat", "a dog", "a cow"]
    suite = get_suite(write("p.txt", "\n".join(prompts[i] for i in order)))
    assert texts(suite) == prompts and suite.images_per_prompt == 2
    assert suite.description == "3 prompts from p.txt"
    assert len(plan(suite, suite.images_per_prompt)) == len(order)


def test_lines_that_are_repeated_unevenly_count_once_and_the_description_says_so(write):
    suite = get_suite(write("p.txt", "a cat\na dog\na cat\na cat\n"))
    assert texts(suite) == ["a cat", "a dog"] and suite.images_per_prompt == 1
    assert suite.description == "2 prompts from p.txt; 2 lines that repeat others do not count"


def test_flow_grpos_form_of_geneval_is_each_prompt_with_as_many_images_as_repeats(write):
    suite = get_suite(write("test_metadata.jsonl", lines(BENCH, COWS, LEFT, COWS, LEFT, BENCH)))
    assert texts(suite) == ["a bench", "two cows", "a dog left of a cup"]
    assert suite.images_per_prompt == 2 and suite.evaluators == ("geneval",)
    assert dict(suite.prompts[1].metadata) == {k: v for k, v in COWS.items() if k != "prompt"}


def test_one_text_with_two_metadata_is_two_prompts(write):
    suite = get_suite(write("p.csv", "prompt,style\na cat,oil\na cat,ink\n"))
    assert [(p.id, p.metadata["style"]) for p in suite.prompts] == [
        ("p-00000", "oil"), ("p-00001", "ink")
    ]  # fmt: skip


# GenEval


def test_genevals_own_file_is_judged_by_geneval_with_four_images(write):
    suite = get_suite(write("mine.jsonl", lines(BENCH, COWS, LEFT)))
    assert suite.evaluators == ("geneval",) and suite.images_per_prompt == 4
    assert [p.task for p in suite.prompts] == ["single_object", "counting", "position"]
    assert default_protocol(suite).name == "soar-paper"


def test_genevals_records_are_read_from_a_table_too(write):
    with Path(write("a.csv", "")).open("w", newline="") as stream:
        table = csv.DictWriter(stream, ["tag", "include", "exclude", "prompt"])
        table.writeheader()
        for record in (BENCH, COWS):
            table.writerow(
                {k: v if isinstance(v, str) else json.dumps(v) for k, v in record.items()}
            )
    assert get_suite("a.csv").digest() == get_suite(write("b/a.jsonl", lines(BENCH, COWS))).digest()


def test_where_only_some_are_geneval_records_the_preference_scorers_judge(write):
    suite = get_suite(write("p.jsonl", lines(BENCH, {"prompt": "a cat"})))
    assert suite.evaluators[0] == "pickscore" and suite.images_per_prompt == 1


def test_records_of_the_embedded_world_are_judged_by_its_own_evaluator(write):
    chosen = get_suite("shapes").prompts[::40]
    suite = get_suite(
        write("world.jsonl", lines(*({"prompt": p.text, **p.metadata} for p in chosen)))
    )
    assert texts(suite) == [p.text for p in chosen]
    assert suite.evaluators == ("shapes-geneval",) and default_protocol(suite).name == "shapes"


@pytest.mark.parametrize(
    ("change", "said"),
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
def test_a_malformed_geneval_record_is_refused_at_once(write, change, said):
    name = write("p.jsonl", lines(COWS, {**BENCH, **change}))
    with pytest.raises(SoarBenchError, match=f"p.jsonl, line 2 has include but .*{said}"):
        get_suite(name)


def test_a_typo_is_told_for_the_objects_that_the_file_is_about(write):
    records = [
        {"prompt": name, "tag": "single_object", "include": [{"class": name, "count": 1}]}
        for name in ("circle", "star", "cirle")
    ]
    name = write("p.jsonl", lines(*records))
    with pytest.raises(SoarBenchError, match=r"line 3 has .*'cirle' \(did you mean circle\?\)"):
        get_suite(name)


# Ids


STRANGE = [
    "../../etc/passwd",
    "a b",
    "Größe",
    "/abs",
    ".",
    "x" * 200,
    "a\nb",
    "猫",
    "C:\\x",
    "a%2Fb",
]


def test_ids_may_hold_anything_and_name_no_file(write, tmp_path):
    name = write("p.jsonl", lines(*({"prompt": "a cat", "id": id} for id in STRANGE)))
    suite = get_suite(name)
    assert [p.id for p in suite.prompts] == STRANGE

    from soar_bench.cache.images import ImageStore

    folder = tmp_path / "images"
    files = [ImageStore(folder).file(sample) for sample in plan(suite, 2)]
    assert len(set(files)) == 2 * len(STRANGE)
    assert all(f.resolve().is_relative_to(folder.resolve()) for f in files)
    assert all(f.name.isascii() and f.name.count(".") == 1 for f in files)
    noise = {initial_noise(0, p.id, 0, (1, 2, 2)).tobytes() for p in suite.prompts}
    assert len(noise) == len(STRANGE)


@pytest.mark.parametrize(
    ("ids", "said"),
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
def test_ids_must_be_unique_and_said_of_all(write, ids, said):
    records = [{"prompt": f"p{i}", "id": id} for i, id in enumerate(ids)]
    with pytest.raises(SoarBenchError, match=said):
        get_suite(write("p.jsonl", lines(*records)))


def test_an_empty_id_in_a_table_is_refused(write):
    with pytest.raises(SoarBenchError, match=r"p.csv, line 3 has an empty id"):
        get_suite(write("p.csv", "id,prompt\na,a cat\n,a dog\n"))


# What is refused


@pytest.mark.parametrize(
    ("name", "content", "said"),
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
def test_what_is_wrong_is_said_with_file_and_line(write, name, content, said):
    with pytest.raises(SoarBenchError, match=said):
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
    ("name", "said"),
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
def test_a_name_that_is_neither_suite_nor_file_is_refused_with_what_was_meant(write, name, said):
    write("my/prompts.txt", "a cat\n")
    write("my/list.json", "[]")
    with pytest.raises(SoarBenchError, match=said):
        get_suite(name)


def test_a_known_name_is_the_suite_whatever_files_there_are(write):
    write("shapes", "a cat\n")
    write("shapes.txt", "a cat\n")
    assert get_suite("shapes").source == ""
    assert texts(get_suite("shapes.txt")) == ["a cat"]


def test_a_file_may_have_any_name_that_can_be_shown(write):
    assert get_suite(write("Größe (2).txt", "a cat\n")).prompts[0].id == "Größe (2)-00000"
    with pytest.raises(SoarBenchError, match="rename the file"):
        get_suite(write("a\x1b[31m.txt", "a cat\n"))


# The command


@pytest.fixture()
def command(monkeypatch, capsys):
    """command(*arguments) -> exit code, output, errors."""
    from soar_bench import cli

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["soar-bench", "suites", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return (end.value.code or 0, *capsys.readouterr())

    return run


def test_a_suites_page_says_what_a_run_of_it_would_be(write, command):
    write("my/a b.jsonl", lines(BENCH, COWS, LEFT))
    code, said, _ = command("my/a b.jsonl")
    assert code == 0
    for part in (
        "3 prompts from my/a b.jsonl", "12 in all", "geneval", "soar-paper: 40 steps",
        get_suite("my/a b.jsonl").digest(), "single_object 1, counting 1, position 1",
        "a b-00002  a dog left of a cup", "--suite 'my/a b.jsonl'",
    ):  # fmt: skip
        assert part in said


def test_what_a_prompt_holds_cannot_move_the_cursor(write, command):
    _, said, _ = command(write("p.txt", "a \x1b[2J cat\n"))
    assert "\x1b" not in said and "a \\x1b[2J cat" in said


def test_a_suite_is_given_to_programs_with_all_its_prompts(write, command):
    name = write("p.jsonl", lines(BENCH, COWS))
    code, said, _ = command(name, "shapes", "--json")
    first, second = json.loads(said)["suites"]
    assert code == 0 and second["name"] == "shapes" and second["prompts"] == 218
    assert first["source"] == name and first["digest"] == get_suite(name).digest()
    assert first["tasks"] == {"single_object": 1, "counting": 1}
    assert first["prompt_list"][0] == {
        "id": "p-00000", "prompt": "a bench",
        "metadata": {k: v for k, v in BENCH.items() if k != "prompt"},
    }  # fmt: skip


def test_the_list_is_given_to_programs_with_the_protocols(command, tmp_path, monkeypatch):
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path))
    said = json.loads(command("--json")[1])
    suites = {s["name"]: s for s in said["suites"]}
    assert suites["shapes"]["prompts"] == 218 and suites["shapes"]["state"] == "here"
    assert suites["geneval"]["prompts"] is None and suites["geneval"]["state"] == "not fetched"
    protocols = {p["name"]: p["settings"] for p in said["protocols"]}
    assert protocols["geneval-official"]["resolution"] is None
    assert protocols["soar-paper"]["vae_dtype"] == "float32"


def test_a_suite_that_is_not_fetched_is_shown_with_how_to_fetch_it(command, tmp_path, monkeypatch):
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path))
    code, said, _ = command("ocr")
    assert code == 0 and "not fetched: run `soar-bench fetch --suite ocr`" in said


def test_a_wrong_name_ends_with_one_sentence_and_exit_code_2(command):
    code, said, error = command("shaps")
    assert code == 2 and said == ""
    assert error.startswith("soar-bench: no suite is named 'shaps'; did you mean shapes?")
    assert error.count("\n") == 1


def test_suites_are_listed_without_torch():
    import subprocess

    code = (
        "import sys; sys.argv = ['soar-bench', 'suites']\n"
        "from soar_bench import cli\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0

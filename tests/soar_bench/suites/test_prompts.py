"""The published prompt sets' forms, on small files of the same form, and the suites of them."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace

import pytest

from soar_bench import cli, suites
from soar_bench.core.errors import SoarBenchError
from soar_bench.fetch import file_sets
from soar_bench.suites import protocols

RECORDS = [
    {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a bench"},
    {
        "tag": "counting",
        "include": [{"class": "cow", "count": 2}],
        "exclude": [{"class": "cow", "count": 3}],
        "prompt": "two cows",
    },
]
TOYS = {
    "prompt": "two toys", "atom_count": 3, "vqa_list": [["How many?", "two"]],
    "skills": ["count"],
}  # fmt: skip
FILES = {
    "geneval": "".join(json.dumps(r) + "\n" for r in RECORDS),
    # no line end at the end, as published; a line may hold characters that only look like its end
    "ocr": 'A sign saying "Hello"\nA card with "one\u2028two" on it',
    "drawbench": "\n".join(["A red car.", "Lego cat.", " Lego cat. "] * 5),
    "pickscore": "a cat\na dog\n",
    "geneval2": json.dumps(TOYS) + "\n",
    "parti": 'Prompt\tCategory\tChallenge\tNote\nbond\tAbstract\tBasic\tmeanings\n'
             '"G I" in paint\tIllustrations\tWriting & Symbols\t\n',
    "t2i-compbench": "a green bench\n",
    # quoted texts with a comma and a line break, rows of one prompt apart, a row twice
    "dpg": "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,"
    "question_natural_language\n"
    '7,"Two red birds, perched. ",,1,0,entity,whole,entity - whole (birds),Are there birds?\n'
    '7,"Two red birds, perched. ",,2,1,other,count,"other - count (birds, ==2)",Are there two?\n'
    'whoops3,"A ""fish""\nreads.",,1,0,entity,whole,entity - whole (fish),Is there a fish?\n'
    '7,"Two red birds, perched. ",,3,"1, 2",attribute,color,"attribute - color (birds, red)",Red?\n'
    'whoops3,"A ""fish""\nreads.",,1,0,entity,whole,entity - whole (fish),Is a fish there?\n',
}  # fmt: skip

#: of the table above, by ``git hash-object``
BLOB = "d0a12f34dfaa43f5b807f885bfa7266d4b023923"


@pytest.fixture()
def fetched(tmp_path, monkeypatch):
    """fetched(name) puts a small file in the place of the published one."""
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path))

    def put(name):
        published, content = file_sets.PROMPT_SETS[name], FILES[name].encode()
        digest = hashlib.sha256(content).hexdigest()
        pin = {"git_blob": BLOB} if published.files[0].git_blob else {"sha256": digest}
        pinned = tuple(replace(file, **pin) for file in published.files)
        monkeypatch.setitem(file_sets.PROMPT_SETS, name, replace(published, files=pinned))
        for part in pinned:
            file = tmp_path / published.place / part.path
            file.parent.mkdir(exist_ok=True, parents=True)
            file.write_bytes(content)
        return file

    return put


def test_genevals_record_is_the_metadata_and_its_tag_the_task(fetched):
    fetched("geneval")
    prompts = suites.get_suite("geneval").prompts
    assert [p.id for p in prompts] == ["geneval-00000", "geneval-00001"]
    assert [p.text for p in prompts] == ["a bench", "two cows"]
    assert [dict(p.metadata) for p in prompts] == RECORDS
    assert [p.task for p in prompts] == ["single_object", "counting"]


def test_a_text_file_has_one_prompt_a_line(fetched):
    for name in ("ocr", "pickscore"):
        fetched(name)
    ocr = suites.get_suite("ocr").prompts
    assert [p.text for p in ocr] == ['A sign saying "Hello"', 'A card with "one\u2028two" on it']
    assert [p.id for p in suites.get_suite("pickscore").prompts] == [
        "pickscore-00000", "pickscore-00001"
    ]  # fmt: skip


def test_drawbenchs_repeated_prompts_are_one_prompt_with_five_images(fetched):
    fetched("drawbench")
    suite = suites.get_suite("drawbench")
    assert [p.text for p in suite.prompts] == ["A red car.", "Lego cat."]
    assert suite.images_per_prompt == 5


@pytest.mark.parametrize("name", suites.FETCHED)
def test_a_suite_that_is_not_fetched_says_how_to_fetch_it(name, tmp_path, monkeypatch):
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path))
    with pytest.raises(SoarBenchError, match=f"run `soar-bench fetch --suite {name}`"):
        suites.get_suite(name)


def test_a_changed_prompt_file_is_not_read(fetched):
    file = fetched("geneval")
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(SoarBenchError, match="damaged or another file"):
        suites.get_suite("geneval")


@pytest.mark.parametrize("name", suites.FETCHED)
def test_every_fetched_suite_has_a_pinned_set_and_the_papers_protocol(name):
    for published in file_sets.PROMPT_SETS[name].files:
        pinned = len(published.sha256 or "") == 64 and published.size
        assert pinned or len(published.git_blob) == 40
        repository, commit, _ = published.url.removeprefix(
            "https://raw.githubusercontent.com/"
        ).split("/", 3)[1:4]  # fmt: skip
        assert repository and len(commit) == 40
    expected = {"geneval2": "geneval2-512", "dpg": "dpg-1024"}
    assert protocols.DEFAULT_PROTOCOL[name] == expected.get(name, "soar-paper")
    assert suites.declared(name).evaluators


def test_geneval_has_four_images_a_prompt_as_its_authors_ask():
    assert suites.declared("geneval").images_per_prompt == 4


def test_all_suites_are_listed_whether_fetched_or_not(fetched, monkeypatch, capsys):
    fetched("ocr")
    fetched("pickscore").write_text("damaged")
    monkeypatch.setattr(sys, "argv", ["soar-bench", "suites"])
    with pytest.raises(SystemExit):
        cli.main()
    listed, _, settings = capsys.readouterr().out.partition("\n\n")
    rows = {line.split("\t")[0]: line.split("\t") for line in listed.splitlines()[1:]}
    assert list(rows) == suites.names()
    assert (rows["shapes"][1], rows["geneval"][1], rows["ocr"][1]) == ("218", "not fetched", "2")
    assert rows["pickscore"][1] == "damaged" and "soar-bench fetch" in rows["pickscore"][-1]
    assert [line.split("\t")[0] for line in settings.splitlines()[1:]] == list(protocols.PROTOCOLS)


def test_geneval_2s_questions_are_the_metadata_and_its_atoms_the_task(fetched):
    fetched("geneval2")
    (prompt,) = suites.get_suite("geneval2").prompts
    assert prompt.task == "03 atoms" and prompt.metadata["vqa_list"] == [["How many?", "two"]]
    assert suites.get_suite("geneval2").images_per_prompt == 1


def test_partis_quotation_marks_are_its_prompts_and_its_categories_the_tasks(fetched):
    fetched("parti")
    prompts = suites.get_suite("parti").prompts
    assert [(p.text, p.task) for p in prompts] == [
        ("bond", "Abstract"), ('"G I" in paint', "Illustrations")
    ]  # fmt: skip
    assert prompts[1].metadata["challenge"] == "Writing & Symbols"


def test_t2i_compbenchs_files_are_its_tasks(fetched):
    file = fetched("t2i-compbench")
    prompts = suites.get_suite("t2i-compbench").prompts
    assert len(prompts) == 8 and prompts[0].id == "t2i-compbench-color-00000"
    assert {p.task for p in prompts} >= {"color", "3d_spatial", "complex"}
    file.unlink()
    with pytest.raises(SoarBenchError, match="soar-bench fetch --suite t2i-compbench"):
        suites.get_suite("t2i-compbench")


def test_dpg_benchs_rows_are_the_questions_of_their_prompts(fetched):
    """A prompt keeps its published id; a question that comes twice counts once, as its last."""
    file = fetched("dpg")
    suite = suites.get_suite("dpg")
    assert suite.images_per_prompt == 4 and suite.evaluators == ("dpg",)
    assert [(p.id, p.text) for p in suite.prompts] == [
        ("7", "Two red birds, perched."), ("whoops3", 'A "fish"\nreads.')
    ]  # fmt: skip
    assert [dict(p.metadata) for p in suite.prompts] == [
        {"questions": [
            {"id": 1, "question": "Are there birds?", "parents": [0], "category": "entity - whole"},
            {"id": 2, "question": "Are there two?", "parents": [1], "category": "other - count"},
            {"id": 3, "question": "Red?", "parents": [1, 2], "category": "attribute - color"},
        ]},
        {"questions": [
            {"id": 1, "question": "Is a fish there?", "parents": [0], "category": "entity - whole"}
        ]},
    ]  # fmt: skip
    file.write_bytes(file.read_bytes().replace(b"Red?", b"red?"))
    with pytest.raises(SoarBenchError, match="damaged or another file"):
        suites.get_suite("dpg")

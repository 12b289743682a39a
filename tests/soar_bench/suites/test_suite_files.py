"""A user's own suite: what is read from a file."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from suite_by_hand import BENCH, COWS, LEFT, lines

from soar_bench.core.errors import SoarBenchError
from soar_bench.sampling.noise import initial_noise
from soar_bench.suites import get_suite
from soar_bench.suites.protocols import default_protocol
from soar_bench.suites.types import plan


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


def test_a_known_name_is_the_suite_whatever_files_there_are(write):
    write("shapes", "a cat\n")
    write("shapes.txt", "a cat\n")
    assert get_suite("shapes").source == ""
    assert texts(get_suite("shapes.txt")) == ["a cat"]


def test_a_file_may_have_any_name_that_can_be_shown(write):
    assert get_suite(write("Größe (2).txt", "a cat\n")).prompts[0].id == "Größe (2)-00000"
    with pytest.raises(SoarBenchError, match="rename the file"):
        get_suite(write("a\x1b[31m.txt", "a cat\n"))

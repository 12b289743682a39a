"""Names of ``soar-bench fetch``: what each brings, and the list of all."""

from __future__ import annotations

import io
import json
import sys
import types

import pytest
from file_server import is_right, leftovers, sha256, some_bytes
from rich.console import Console

from evaluators import catalogue, registry
from evaluators.types import Evaluator, EvaluatorError, Metric
from evaluators.weights import WeightFile
from soar_bench import suites
from soar_bench.core import digests
from soar_bench.fetch import file_sets
from soar_bench.output.fetch import listing, table


def test_a_fetched_set_is_whole_and_is_not_read_again(catalogued, run, server, monkeypatch):
    file_set = catalogued(files={"a.bin": some_bytes(300_000), "deep/b.txt": b"words"})
    code, output = run("set")
    assert code == 0, output
    assert (file_set.folder / "a.bin").read_bytes() == some_bytes(300_000)
    assert (file_set.folder / "deep" / "b.txt").read_bytes() == b"words"
    assert output.index("a.bin  300.0 kB") < output.index("2 files to fetch: 300.0 kB")
    assert output.index("2 files to fetch") < output.index("set/a.bin: fetched")
    assert leftovers(file_set.folder) == []

    monkeypatch.setattr(digests, "digest_file", lambda _: pytest.fail("a file was read again"))
    assert file_set.digests() == {
        "a.bin": sha256(some_bytes(300_000)),
        "deep/b.txt": sha256(b"words"),
    }
    asked = len(server.requests)
    code, output = run("set")
    assert code == 0 and "Nothing to fetch." in output and len(server.requests) == asked


def test_without_names_everything_is_listed_and_nothing_is_fetched(catalogued, run, server):
    here = catalogued("here")
    run("here")
    catalogued("gone", known=False, sized=False)
    server.requests.clear()
    code, output = run()
    assert code == 0 and server.requests == []
    lines = {line.split("\t")[0]: line.split("\t") for line in output.splitlines()}
    assert lines["here"] == ["here", "weights", "300.0 kB", "yes", "MIT", ""]
    assert lines["gone"] == ["gone", "weights", "?", "no", "MIT", ""]
    assert {"geneval", "ocr", "drawbench", "pickscore"} <= set(lines)
    (here.folder / "a.bin").write_bytes(b"cut")
    code, output = run("here", "--json")
    row = {"name": "here", "what": "weights", "bytes": 300_000, "here": "damaged"}
    assert json.loads(output) == [{**row, "licence": "MIT", "evaluators": []}]
    assert len(json.loads(run("--json")[1])) > 5 and server.requests == []


def test_the_list_in_80_columns_has_a_line_per_set_with_its_whole_name(catalogued):
    catalogued("a-name-of-twenty-four-ch")
    lines = []
    for width in (80, 140):
        rows = listing(file_sets.everything(), pytest.fail)
        console = Console(width=width, file=io.StringIO())
        console.print(table(rows, width))
        lines = console.file.getvalue().splitlines()
        assert len(lines) == 2 + len(rows)
        assert all(line.startswith(row.name) for line, row in zip(lines[2:], rows, strict=True))
        assert [row.what for row in rows] == sorted((r.what for r in rows), reverse=True)
    assert "for the evaluators" in lines[0]


def test_models_that_a_package_keeps_are_named_where_they_are_lacking(home, run, monkeypatch):
    """As PaddleOCR's: no file of them is pinned, so a plan of files alone would say "nothing"."""

    class Judge(Evaluator):
        name, here = "judge", False
        metrics = (Metric("judgement", "share", (0.0, 1.0), True, "1", "here", "A test's."),)

        def score(self, samples):
            return []

        def check(self):
            if not self.here:
                raise EvaluatorError("the models of the package are not here")

        def bring(self):
            self.check()
            return ""

    module = types.ModuleType("judge_of_a_package")
    module.Judge = Judge
    monkeypatch.setitem(sys.modules, "judge_of_a_package", module)
    monkeypatch.setitem(registry.BUILT_IN, "judge", "judge_of_a_package:Judge")
    for words, code in (("judge", 1), ("judge --offline", 1), ("judge --dry-run", 0)):
        assert run(*words.split()) == (
            code,
            "No files to fetch.\nnote: judge: the models of the package are not here\n",
        )
    Judge.here = True
    assert run("judge") == (0, "Nothing to fetch.\n")


def test_the_list_of_what_there_is_reads_no_large_file(catalogued, run, monkeypatch):
    file_set = catalogued()
    file_set.folder.mkdir(parents=True)
    (file_set.folder / "a.bin").write_bytes(some_bytes(300_000))
    monkeypatch.setattr(digests, "digest_file", lambda _: pytest.fail("a file was read"))
    assert "not verified" in run()[1]


@pytest.fixture()
def judge(monkeypatch):
    """judge(weights) makes ``judge`` an evaluator that needs them."""

    def make(*needed):
        class Judge(Evaluator):
            name, weights = "judge", needed
            metrics = (Metric("judgement", "share", (0.0, 1.0), True, "1", "here", "A test's."),)

            def score(self, samples):
                return []

        module = types.ModuleType("judge_of_a_test")
        module.Judge = Judge
        monkeypatch.setitem(sys.modules, "judge_of_a_test", module)
        monkeypatch.setitem(registry.BUILT_IN, "judge", "judge_of_a_test:Judge")

    return make


def test_an_evaluator_names_the_weights_that_it_needs(catalogued, run, judge):
    file_set, other = catalogued("one"), catalogued("other", {"o.bin": b"other"})
    judge(file_set, other)
    line = next(line for line in run()[1].splitlines() if line.startswith("one\t"))
    assert line.endswith("\tjudge")
    assert run("judge")[0] == 0
    assert file_set.digests() and other.digests()


def test_weights_of_a_plug_in_are_fetched_by_their_own_name(catalogued, run, judge, monkeypatch):
    file_set = catalogued("brought-along")
    judge(file_set)
    monkeypatch.setattr(catalogue, "ALL", ())
    assert run("brought-along")[0] == 0
    assert file_set.digests()


def test_an_evaluator_in_a_file_names_its_weights(catalogued, run, judge):
    file_set = catalogued()
    judge(file_set)
    assert run("judge_of_a_test:Judge")[0] == 0
    assert file_set.digests()


def test_a_suite_names_its_prompts_and_its_evaluators_weights(
    catalogued, run, judge, monkeypatch, server
):
    file_set = catalogued("one")
    judge(file_set)
    server.files["/p.txt"] = text = b"a cat\n"
    file = WeightFile("cats.txt", f"{server.address}/p.txt", sha256(text), 6)
    published = file_sets.FileSet("cats", "prompts", "prompts", (file,), "MIT", "here")
    monkeypatch.setitem(file_sets.PROMPT_SETS, "cats", published)
    monkeypatch.setitem(suites.FETCHED, "cats", suites.Suite("cats", "", (), ("judge",)))
    code, output = run("--suite", "cats")
    assert code == 0, output
    assert suites.get_suite("cats").prompts[0].text == "a cat"
    assert file_set.digests()
    code, output = run("--suite", "cat")
    assert code == 2 and "did you mean cats?" in output


def test_weights_that_a_user_brought_are_not_fetched(catalogued, judge, tmp_path):
    judge(catalogued().at(tmp_path / "mine"))
    assert file_sets.named("judge") == []


def test_all_is_every_weight_set_and_every_prompt_set(catalogued, home):
    catalogued("one")
    names = [(s.kind, s.name) for s in file_sets.everything()]
    assert names[0] == ("weights", "one")
    assert {("prompts", name) for name in file_sets.PROMPT_SETS} <= set(names)


def test_an_unknown_name_is_named_with_the_nearest(catalogued, run):
    catalogued("clip-vit-l-14")
    code, output = run("clip-vit-14")
    assert code == 2 and "did you mean clip-vit-l-14?" in output


def test_a_name_of_several_things_fetches_them_all(catalogued):
    catalogued("pickscore")
    assert [s.kind for s in file_sets.named("pickscore")] == ["weights", "prompts"]


def test_sizes_are_told_for_files_of_unknown_size_too(catalogued, run):
    catalogued(known=False, sized=False, structure=is_right, about=3_944_500_000)
    assert "about 3.9 GB" in run()[1]
    assert "?" not in run("set", "--offline")[1]


def test_prompts_of_the_same_name_do_not_make_a_fetch_of_weights_fail(
    catalogued, run, server, monkeypatch, tmp_path
):
    pickscore = catalogued("pickscore", files={"a.bin": b"a"})
    prompts = file_sets.FileSet(
        "pickscore", "prompts", "prompts",
        (WeightFile("pickscore.txt", f"{server.address}/prompts.txt", sha256(b"p"), 1),), "", "",
    )  # fmt: skip
    monkeypatch.setitem(file_sets.PROMPT_SETS, "pickscore", prompts)
    code, output = run("pickscore")
    assert code == 0 and not pickscore.missing()
    assert "soar-bench fetch --suite pickscore" in output
    assert run("pickscore", "--offline")[0] == 0
    assert run("prompts/pickscore")[0] == 1
    assert run("weights/pickscore") == (0, "pickscore/a.bin: here and whole\nNothing to fetch.\n")
    assert run("prompts/nothing")[0] == 2
    server.files["/prompts.txt"] = b"p"
    assert run("pickscore")[0] == 0 and "pickscore.txt: here and whole" in run("pickscore")[1]


# Offline


@pytest.mark.parametrize("how", ["option", "variable"])
def test_offline_touches_no_network_and_says_what_is_missing(
    catalogued, run, server, monkeypatch, how
):
    arguments = ["--offline"] if how == "option" else []
    if how == "variable":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    file_set = catalogued(files={"a.bin": b"a", "b.bin": b"b"}, known=False, sized=False)
    file_set.folder.mkdir(parents=True)
    (file_set.folder / "a.bin").write_bytes(b"a")
    code, output = run("set", *arguments)
    assert code == 1 and server.requests == []
    assert "set/a.bin: here and whole" in output and "set/b.bin" in output
    assert "run `soar-bench fetch set` where there is internet" in output
    (file_set.folder / "b.bin").write_bytes(b"b")
    assert run("set", *arguments)[0] == 0 and server.requests == []


def test_offline_checkpoints_and_files_that_are_missing_are_named_at_once(
    catalogued, run, monkeypatch
):
    from soar_bench.checkpoints import hub

    monkeypatch.setattr(hub, "is_here", lambda hub_id: False)
    catalogued()
    code, output = run("set", "--checkpoint", "org/tiny,org/other", "--offline")
    assert code == 1 and "set/a.bin" in output
    assert "run `soar-bench fetch set --checkpoint org/tiny --checkpoint org/other` where" in output
    assert "the files here with --mirror and the hub's cache here" in output

"""Records found, listed, shown and deleted, as a user does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from records_by_hand import SETTINGS, SUITE, few_scores, id_of, record, whole_run, write_run

from soar_bench.cache.images import ImageStore
from soar_bench.cache.scores import Journal
from soar_bench.core.errors import SoarBenchError
from soar_bench.records import RUN_FILE, SCORES_FILE, read_run, read_runs
from soar_bench.records.delete import delete
from soar_bench.records.folders import find, select, survey
from soar_bench.suites.types import plan

# Finding a run


def test_a_run_is_found_by_anything_that_only_it_has(places, run):
    other = whole_run(*places, digest="tuned", label="tuned", name="outputs/tuned run")
    for name in (
        id_of(other),
        other.folder.name,
        str(other.folder),
        "tuned",
        "outputs/tuned run",
        "shapes/tuned",
    ):
        assert select(places[0], name).folder == other.folder, name


def test_a_name_that_means_several_runs_lists_them(places, run):
    other = whole_run(*places, digest="other weights")
    with pytest.raises(SoarBenchError, match="means 2 runs") as raised:
        select(places[0], "base")
    assert run.folder.name in str(raised.value)
    assert other.folder.name in str(raised.value)


@pytest.mark.parametrize("name", ["nothing", "", "../..", "x" * 5000, "a\0b"])
def test_a_name_that_means_nothing_is_refused(places, run, name):
    with pytest.raises(SoarBenchError, match=r"is named|has a name"):
        select(places[0], name)


def test_a_name_that_means_nothing_is_answered_with_the_near_ones(tmp_path, monkeypatch, places):
    """A look with ``--limit`` writes into ``SUITE+limit=N``: the folder without it is not there."""
    run = whole_run(*places)
    run.folder.parent.parent.rename(places[0] / "shapes-signs+limit=2")
    monkeypatch.chdir(tmp_path)
    results = Path("results")
    here = Path(*run.folder.parts[-3:])
    for name, near in {
        "results/shapes-signs": "results/shapes-signs+limit=2",
        "results/shapes-signs/shapes": "results/shapes-signs+limit=2/shapes",
        f"results/{here}": f"results/shapes-signs+limit=2/{Path(*here.parts[1:])}",
        "results/shapes-signs+limit=3": "results/shapes-signs+limit=2",
        "shapes-sings": "shapes-signs+limit=2",
        "bsae": "base",
    }.items():
        with pytest.raises(SoarBenchError, match="is named") as refused:
            find(name, results)
        assert f"did you mean {near}" in str(refused.value)
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")  # where there are no results
    for name in (f"{tmp_path}/results/shapes-signs", "../results/shapes-signs"):
        with pytest.raises(SoarBenchError, match="there is no run in") as refused:
            find(name, results)
        assert f"did you mean {name}+limit=2?" in str(refused.value)


def test_runs_whose_ids_are_alike_are_told_apart_by_their_path(places, run):
    copy = places[0] / "copies" / run.folder.name
    copy.parent.mkdir()
    run.folder.rename(copy)
    whole_run(*places)
    assert len({entry.id for entry in survey(places[0])}) == 2
    for entry in survey(places[0]):
        assert select(places[0], entry.id).folder == entry.folder


def test_weights_judged_under_two_labels_are_told_apart_by_the_folders_names(places, run):
    """Both end in one id, and no path is needed, which a terminal would have no room for."""
    label, _, end = run.folder.name.rpartition("-")
    run.folder.rename(run.folder.parent / f"again-{end}")
    whole_run(*places)
    entries = survey(places[0])
    ids = [entry.id for entry in entries]
    assert sorted(ids) == sorted([f"again-{end}", f"{label}-{end}"])
    for entry in entries:
        assert select(places[0], entry.id).folder == entry.folder


# List and show


def test_the_list_has_the_value_by_hand_and_what_it_is_of(command, places):
    contents = record()
    contents["metrics"]["quality"] = {
        "value": 0.25, "standard_error": 0.125, "scored": 4, "unscored": 1, "tasks": {},
    }  # fmt: skip
    run = write_run(places[0], contents, few_scores(0.5))
    code, out = command("list")
    header, line = out.splitlines()
    assert code == 0
    assert dict(zip(header.split("\t"), line.split("\t"), strict=True)) == {
        "run": id_of(run), "checkpoint": "base", "suite": SUITE.name, "protocol": "shapes",
        "metric": "quality", "value": "0.25", "standard error": "0.125", "n": "4",
        "unscored": "1", "date": "2026-11-20",
    }  # fmt: skip
    code, out = command("list", "--json")
    [row] = json.loads(out)
    assert (row["value"], row["folder"], row["fault"]) == (0.25, str(run.folder), "")


def test_the_list_on_a_terminal_keeps_names_whole_in_60_columns(places):
    from rich.console import Console

    from soar_bench.output.runs import table

    contents = record(label="sft-seed0, step 6", digest="d")
    contents["suite"]["name"] = "a-suite-of-a-long-name+limit=12"
    write_run(places[0], contents, few_scores(0.25, 0.5))
    broken = write_run(places[0], record(label="other"), few_scores(0.5))
    (broken.folder / "scores.parquet").unlink()
    console = Console(width=60)
    with console.capture() as printed:
        console.print(table(survey(places[0])))
    lines = [line.rstrip() for line in printed.get().splitlines()]
    assert "a-suite-of-a-long-name+limit=12 under shapes: quality" in lines
    (row,) = [line for line in lines if "sft-seed0, step 6" in line]
    assert row.split("  ")[1:3] == ["sft-seed0, step 6", "-"] and row.endswith("2026-11-20")
    assert lines[-1] == f"{id_of(broken)}  other       broken"


def test_the_list_of_one_suite_has_no_others(command, run):
    assert len(command("list", "--suite", SUITE.name)[1].splitlines()) == 2
    assert len(command("list", "--suite", "geneval")[1].splitlines()) == 1
    with pytest.raises(SoarBenchError, match=f"did you mean {SUITE.name}"):
        command("list", "--suite", f"{SUITE.name}x")


def test_a_broken_record_is_listed_as_broken_beside_the_others(command, places, run):
    broken = whole_run(*places, digest="other", label="two words")
    (broken.folder / SCORES_FILE).write_bytes(b"PAR1")
    code, out = command("list")
    assert code == 1
    lines = {line.split("\t")[0]: line for line in out.splitlines()}
    assert "run that eval again" in lines[id_of(broken)]
    assert "broken" not in lines[id_of(run)]
    (broken.folder / RUN_FILE).write_text("{")
    code, out = command("list", "--json")
    assert code == 1
    assert {row["fault"] == "" for row in json.loads(out)} == {True, False}


def test_show_says_everything_of_the_record(command, places):
    base = {"name": "some/base", "digest": "0123"}
    run = whole_run(*places, unscored=2, form="lora", base=base, revision="abc123", label="my lora")
    code, out = command("show", id_of(run))
    assert code == 0
    for words in (
        "my lora", "lora", "some/base", "0123", "abc123", SUITE.digest(), "guidance 3.0",
        "judge 1.2, given as judge.py", "higher is better", "n 28, unscored 2", "2 × too dark",
        "torch 0.0.1", "2026-11-20T11:00:00+00:00",
    ):  # fmt: skip
        assert words in out, words
    shown = json.loads(command("show", id_of(run), "--json")[1])
    assert shown["unscored"] == {"quality": {"too dark": 2}}
    assert shown["record"]["checkpoint"] == run.record.as_json()["checkpoint"]


def test_show_of_a_broken_record_says_what_it_can_and_fails(command, run):
    (run.folder / SCORES_FILE).unlink()
    with pytest.raises(SoarBenchError, match="is missing"):
        command("show", id_of(run))
    with pytest.raises(SoarBenchError, match="is missing"):
        command("show", id_of(run), "--json")


# Delete


def test_delete_takes_the_record_and_leaves_the_images(command, places, run):
    other = whole_run(*places, digest="other")
    code, out = command("delete", id_of(run), "--yes")
    assert (code, out.strip()) == (0, str(run.folder))
    assert [r.folder for r in read_runs(places[0])] == [other.folder]
    assert len(list(places[1].rglob("*.png"))) == 2 * len(SUITE.prompts)
    assert not list(places[0].rglob(".*"))


def test_delete_asks_and_without_a_terminal_wants_yes(command, run):
    with pytest.raises(SoarBenchError, match="--yes"):
        command("delete", id_of(run), typed="")
    assert run.folder.exists()


def test_the_last_record_of_a_suite_takes_its_empty_folders_along(command, places, run):
    command("delete", "base", "--yes")
    assert list(places[0].iterdir()) == []


def journal_of(run, cache):
    store = ImageStore.of(cache, run.record.checkpoint.digest, SETTINGS, SUITE.seed)
    judge = run.record.evaluators["judge"].decides
    journal = Journal.of(cache, "judge", judge, store.folder.name, {})
    journal.add([("key", {})])
    return journal.folder


def test_delete_with_images_leaves_what_another_record_needs(command, places, run):
    results, cache = places
    other = whole_run(*places, digest="other")
    journals = [journal_of(run, cache), journal_of(other, cache)]
    # A second record of the same images, but of the first ten samples alone.
    few = run.scores().head(10)
    contents = record()
    contents["suite"]["digest"] = "ten of them"
    ten = write_run(results, contents, few)
    command("delete", id_of(run), "--images", "--yes")
    store = ImageStore.of(cache, "weights", SETTINGS, SUITE.seed)
    left = [s for s in plan(SUITE, 1) if store.file(s).exists()]
    assert left == plan(SUITE, 1)[:10]
    assert journals[0].exists(), "the ten samples' scores are in it too"
    command("delete", id_of(ten), "--images", "--yes")
    assert not store.folder.exists()
    assert [journal.exists() for journal in journals] == [False, True]
    assert len(list(cache.rglob("*.png"))) == len(SUITE.prompts)


def test_images_are_not_deleted_while_a_broken_record_may_need_them(command, places, run):
    broken = whole_run(*places, digest="other")
    (broken.folder / SCORES_FILE).unlink()
    with pytest.raises(SoarBenchError, match="cannot be told which images"):
        command("delete", id_of(run), "--images", "--yes")
    assert run.folder.exists()
    command("delete", id_of(broken), "--yes")  # a broken record itself can always go
    assert not broken.folder.exists()


def test_a_folder_that_holds_more_than_a_record_is_not_deleted(places, run):
    (run.folder / "thesis.tex").write_text("years of work")
    with pytest.raises(SoarBenchError, match=r"thesis\.tex"):
        delete(select(places[0], str(run.folder)), places[0])
    assert (run.folder / "thesis.tex").exists()
    read_run(run.folder).check()


def test_managing_runs_imports_no_torch(places, run):
    code = f"""
import sys
from pathlib import Path
from soar_bench.output import runs as run_view
from soar_bench.records import delete, folders, verify
results, cache = map(Path, {list(map(str, places))})
found = folders.survey(results)
list(run_view.page(found[0], found[0].run, found[0].run.scores()))
run_view.table(found)
verify.verify(found[0], cache)
delete.delete_cached(delete.only_needed_by(found, found, cache))
delete.delete(found[0], results)
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

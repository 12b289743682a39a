"""Records on a board: read, refused, grouped by seed, compared."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from board_records import record, scores, story
from records_by_hand import write_run

from soar_bench.boards import compare, group_seeds
from soar_bench.boards.rows import verdict
from soar_bench.boards.standings import standings
from soar_bench.core.errors import SoarBenchError
from soar_bench.output.leaderboard import leaderboard, load
from soar_bench.records import COLUMNS, RUN_FILE, SCORES_FILE, read_run, read_runs
from soar_bench.stats import Estimate


def test_a_record_is_one_folder_that_pandas_reads_in_one_line(results):
    folder = next(results.rglob(RUN_FILE)).parent
    assert {f.name for f in folder.iterdir()} == {RUN_FILE, SCORES_FILE}
    assert list(pd.read_parquet(folder / SCORES_FILE).columns) == list(COLUMNS)


def test_names_cannot_leave_the_results(tmp_path):
    run = write_run(tmp_path / "r", record("../../evil", "x", suite="../up"), scores(0.5))
    assert (tmp_path / "r") in run.folder.resolve().parents


def test_the_same_run_replaces_its_record(results):
    before = len(read_runs(results))
    write_run(results, record("shapes", "base"), scores(0.4))
    assert len(read_runs(results)) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [("{broken", "cannot be read"), ('{"schema": 99}', "schema 99"), ("[]", "schema")],
)
def test_a_damaged_or_newer_record_is_refused_by_name(results, content, message):
    file = next(results.rglob(RUN_FILE))
    file.write_text(content)
    with pytest.raises(SoarBenchError, match=message):
        read_runs(results)


def test_damaged_scores_are_refused_by_name(results):
    run = read_runs(results)[0]
    (run.folder / SCORES_FILE).write_bytes(b"PAR1 nothing")
    with pytest.raises(SoarBenchError, match=r"scores\.parquet cannot be read"):
        read_run(run.folder).scores()


def test_seeds_become_one_entrant_and_a_copy_counts_once(results):
    runs = read_runs(results)
    board = {e.name: e for e in group_seeds([*runs, runs[0]])}
    assert {name: len(e.runs) for name, e in board.items()} == {"shapes": 1, "sft": 2, "soar": 3}


def test_two_checkpoints_of_one_seed_do_not_pass_for_two_seeds(results):
    write_run(results, record("soar-again", "other weights", story("soar", 1)), scores(0.9))
    with pytest.raises(SoarBenchError, match="two checkpoints of one training and seed"):
        group_seeds(read_runs(results))


def test_entrants_of_one_name_are_told_apart(tmp_path):
    for digest, step in (("a", 200), ("b", 400)):
        write_run(tmp_path, record("sft", digest, story("sft", 0, step=step)), scores(0.5))
    assert {e.name for e in group_seeds(read_runs(tmp_path))} == {"sft, step 200", "sft, step 400"}
    write_run(tmp_path, record("sft", "c", story("sft", 0, base="another")), scores(0.5))
    names = [e.name for e in group_seeds(read_runs(tmp_path))]
    assert len(set(names)) == 3


def test_what_was_not_trained_comes_first(results):
    assert group_seeds(read_runs(results))[0].name == "shapes"


def test_compare_gives_values_differences_and_plain_words(results):
    rows = {row.entrant: row for row in compare(read_runs(results)).rows}
    assert rows["shapes"].difference is None
    assert rows["soar"].verdict == "better"
    assert rows["soar"].value.seeds == 3
    assert rows["soar"].difference.value == pytest.approx(
        rows["soar"].value.value - rows["shapes"].value.value
    )


@pytest.mark.parametrize(
    ("value", "error", "higher", "words"),
    [
        (0.1, 0.01, True, "better"),
        (0.1, 0.01, False, "worse"),
        (-0.1, 0.01, True, "worse"),
        (0.1, 0.2, True, "no evidence of a difference at this size"),
        (0.1, math.nan, True, "too few prompts or seeds to tell"),
    ],
)
def test_the_verdict_follows_interval_and_direction(value, error, higher, words):
    freedom = math.nan if error != error else 50.0
    assert verdict(Estimate(value, error, freedom, 10, 0, 10), higher) == words


def test_nothing_scored_gives_no_misleading_number(tmp_path):
    empty = scores(0.5)
    empty["value"] = math.nan
    write_run(tmp_path, record("a", "a"), empty)
    write_run(tmp_path, record("b", "b", story("b", 0)), scores(0.5))
    rows = compare(read_runs(tmp_path)).rows
    assert {row.verdict for row in rows} == {"", "nothing in common to compare"}
    page = leaderboard(read_runs(tmp_path), tmp_path, tmp_path / "leaderboard.md")
    assert "nan" not in page.lower().replace("unscored", "")


def test_an_interval_ends_where_the_metric_does(tmp_path):
    nearly = scores(1.0)
    nearly.loc[0, "value"] = 0.0
    write_run(tmp_path, record("a", "a"), nearly)
    (board,) = standings(read_runs(tmp_path))
    value = board.rows[0].cells["shapes_geneval"].value
    assert 0 <= value.low < value.value < value.high <= 1.0


def test_the_date_is_the_newest_records_day_in_utc(tmp_path):
    for seed, finished in enumerate(["2026-11-20T10:00:00+00:00", "2026-11-22T23:30:00-02:00"]):
        made = record(f"a{seed}", f"a{seed}", story("a", seed))
        made["made"] = {"finished": finished}
        write_run(tmp_path, made, scores(0.5, seed))
    (board,) = standings(read_runs(tmp_path))
    assert board.rows[0].date == "2026-11-23"


def test_every_broken_record_is_named(results):
    first, second, *_ = sorted(results.rglob(RUN_FILE))
    first.write_text("{broken")
    (second.parent / SCORES_FILE).write_bytes(b"PAR1")
    with pytest.raises(SoarBenchError, match="2 records are broken") as raised:
        load(results)
    assert str(first) in str(raised.value)
    assert str(second.parent / SCORES_FILE) in str(raised.value)
    empty = results.parent / "empty"
    empty.mkdir()
    with pytest.raises(SoarBenchError, match="there are no runs in"):
        load(empty)

"""The run record on disk: whole, the same bytes for the same scores, and refused where damaged."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from records_by_hand import SETTINGS, few_scores, record, score_row, write_run

from soar_bench.core import temporary
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.text import json_text
from soar_bench.output.leaderboard import leaderboard
from soar_bench.records import (
    RUN_FILE,
    SCORES_FILE,
    RunDraft,
    folder_of,
    read_run,
    read_runs,
    run_folders,
    score_frame,
)
from soar_bench.records.assembly import summaries

ROOT = Path(__file__).parents[3]
draft = RunDraft.model_validate
#: Commits whose records were written before soar_bench.stats.
BEFORE_THE_ENGINE = ("7c8f907", "f851166", "31a1f24", "cdb9abe")


@pytest.fixture()
def run(tmp_path):
    return write_run(tmp_path / "results", record(), few_scores(0.25, 0.5, None))


def identity(file):
    """Changes whenever the file is written."""
    return file.stat().st_ino, file.stat().st_mtime_ns, file.read_bytes()


def test_the_same_scores_are_the_same_bytes_and_are_not_written_again(tmp_path, run):
    before = identity(run.folder / SCORES_FILE)
    write_run(tmp_path / "results", record(), few_scores(0.25, 0.5, None))
    assert identity(run.folder / SCORES_FILE) == before
    elsewhere = write_run(tmp_path / "other", record(), few_scores(0.25, 0.5, None))
    for file in (RUN_FILE, SCORES_FILE):
        assert (elsewhere.folder / file).read_bytes() == (run.folder / file).read_bytes()


def test_pandas_reads_both_files_in_one_line(run):
    scores = pd.read_parquet(run.folder / SCORES_FILE)
    assert scores["value"].mean() == 0.375
    flat = pd.json_normalize(json.loads((run.folder / RUN_FILE).read_text()))
    assert flat["protocol.settings.steps"].tolist() == [20]


def test_run_json_is_json_for_every_reader(run):
    """An infinite bound, which JSON has not, is null there and infinite again when read."""

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    contents = json.loads((run.folder / RUN_FILE).read_text(), parse_constant=refuse)
    assert contents["evaluators"]["judge"]["metrics"]["quality"]["range"] == [0.0, None]
    assert run.record.evaluators["judge"].metrics["quality"].range == (0.0, math.inf)


@pytest.mark.parametrize("text", ["a\0b\x1b[31m\x7f\n\r\t", "snow ☃ 🦆 \u202e", "half \ud83e"])
def test_any_text_of_prompt_reason_and_details_can_be_written(tmp_path, text):
    details = json.dumps({"read": text}, ensure_ascii=False)
    scores = score_frame(
        [
            score_row("p0", 0, 0.5, text, details=details),
            score_row("p0", 1, None, text, unscored=text, details=details),
        ]
    )
    scores_read = write_run(tmp_path, record(name=text, label=text), scores).scores()
    expected = text.encode("utf-8", "backslashreplace").decode()
    assert scores_read["prompt"].tolist() == [expected] * 2
    assert scores_read["unscored"].tolist() == ["", expected]
    assert json.loads(scores_read["details"][0]) == {"read": text}
    assert read_runs(tmp_path)[0].record.checkpoint.name == text


@pytest.mark.parametrize(
    "name", ["two words", "絵", "..", "", "../../up", "a/b\\c:d", ".hidden", "x" * 400]
)
def test_every_name_gets_a_visible_folder_inside_the_results(tmp_path, name):
    contents = record(label=name)
    contents["suite"]["name"] = contents["protocol"]["name"] = name
    run = write_run(tmp_path, contents, few_scores(0.5))
    assert run.folder.resolve().parents[2] == tmp_path.resolve()
    assert [r.folder for r in read_runs(tmp_path)] == [run.folder]


def changed(*path, value):
    contents = record()
    part = contents
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return contents


def test_the_folder_depends_on_what_decides_the_numbers_and_on_nothing_else(tmp_path):
    home = folder_of(tmp_path, draft(record()))
    for contents in (
        changed("checkpoint", "name", value="elsewhere"),
        changed("suite", "source", value="prompts.txt"),
        changed("evaluators", "judge", "given", value="other/judge.py"),
        changed("evaluators", "judge", "version", value="9"),
        changed("made", value={}),
    ):
        assert folder_of(tmp_path, draft(contents)) == home
    for contents in (
        changed("checkpoint", "digest", value="other"),
        changed("suite", "digest", value="other"),
        changed("suite", "images_per_prompt", value=2),
        changed("protocol", "settings", "steps", value=21),
        changed("protocol", "settings", "vae_dtype", value="float16"),
        changed("evaluators", "judge", "identity", value={}),
    ):
        assert folder_of(tmp_path, draft(contents)) != home


def test_a_record_that_lacks_something_is_not_written(tmp_path):
    contents = record()
    del contents["checkpoint"]["form"]
    with pytest.raises(ValueError, match=r"checkpoint\.form"):
        write_run(tmp_path, contents, few_scores(0.5))
    assert not list(tmp_path.iterdir())


def test_a_run_json_that_is_cut_off_anywhere_is_refused_and_mended_by_writing_again(tmp_path, run):
    file = run.folder / RUN_FILE
    content = file.read_bytes()
    for length in range(0, len(content) - 1, 97):
        file.write_bytes(content[:length])
        with pytest.raises(SoarBenchError, match="run that eval again"):
            read_run(run.folder)
    write_run(tmp_path / "results", record(), few_scores(0.25, 0.5, None))
    assert file.read_bytes() == content


def cut(file):
    file.write_bytes(file.read_bytes()[:-20])


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def replace(file):
    few_scores(1.0, 1.0, 1.0).to_parquet(file)


@pytest.mark.parametrize("harm", [cut, flip, replace, Path.unlink])
def test_scores_that_are_not_those_of_the_record_are_refused_until_written_again(
    tmp_path, run, harm
):
    harm(run.folder / SCORES_FILE)
    for read in (run.check, run.scores, read_run(run.folder).scores):
        with pytest.raises(SoarBenchError, match="run that eval again"):
            read()
    again = write_run(tmp_path / "results", record(), few_scores(0.25, 0.5, None))
    assert again.scores()["value"].tolist()[:2] == [0.25, 0.5]


def test_a_small_file_of_very_many_scores_is_refused_before_they_fill_the_memory(run):
    import pyarrow as pa
    import pyarrow.parquet as pq

    many = pa.array([0], pa.int8()).take(pa.array([0] * 1_000_000))
    with pq.ParquetWriter(run.folder / SCORES_FILE, pa.schema([("index", pa.int8())])) as writer:
        for _ in range(11):
            writer.write_table(pa.table({"index": many}))
    told = json.loads((run.folder / RUN_FILE).read_text())
    told["scores"]["sha256"] = hashlib.sha256((run.folder / SCORES_FILE).read_bytes()).hexdigest()
    (run.folder / RUN_FILE).write_text(json.dumps(told))
    with pytest.raises(SoarBenchError, match="11,000,000 rows, more than 10,000,000"):
        read_run(run.folder).scores()


@pytest.mark.parametrize("lost", [RUN_FILE, SCORES_FILE])
def test_half_a_record_is_found_and_said_to_be_half(tmp_path, run, lost):
    (run.folder / lost).unlink()
    assert run_folders(tmp_path / "results") == [run.folder]
    with pytest.raises(SoarBenchError, match=f"{lost} is missing"):
        [r.check() for r in read_runs(tmp_path / "results")]


@pytest.mark.parametrize(
    ("schema", "advice"),
    [
        (3, "install a newer"),
        (1, "run that eval again"),
        (0, "run that eval again"),
        (None, "again"),
        ("2", "again"),
    ],
)
def test_schemas_that_are_not_known_are_refused(run, schema, advice):
    file = run.folder / RUN_FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema": schema}))
    with pytest.raises(SoarBenchError, match=advice):
        read_run(run.folder)


@pytest.mark.parametrize("part", ["checkpoint", "suite", "evaluators", "metrics", "made"])
@pytest.mark.parametrize("value", [None, 5, []])
def test_a_record_with_a_wrong_part_is_refused_by_its_name(run, part, value):
    file = run.folder / RUN_FILE
    contents = {**json.loads(file.read_text()), part: value}
    file.write_text(json.dumps(contents))
    with pytest.raises(
        SoarBenchError, match=rf"run\.json is damaged: {part} is .*, not an object"
    ) as raised:
        read_run(run.folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("folder", run_folders(ROOT / "results"), ids=lambda folder: folder.name)
def test_a_committed_record_is_written_as_it_was_read_and_named_as_it_stands(folder):
    run = read_run(folder)
    assert json_text(run.record.as_json()).encode() == (folder / RUN_FILE).read_bytes()
    assert folder_of(ROOT / "results", run.record) == folder


def test_the_committed_records_make_the_committed_leaderboard():
    results = ROOT / "results"
    page = leaderboard(read_runs(results), results, ROOT / "leaderboard.md")
    assert page == (ROOT / "leaderboard.md").read_text("utf-8")


def test_decoding_in_another_precision_is_another_board(run, tmp_path):
    other = changed("protocol", "settings", "vae_dtype", value="float16")
    assert write_run(tmp_path, other, few_scores(0.5)).board != run.board
    page = leaderboard(read_runs(tmp_path), tmp_path, tmp_path / "page.md")
    assert "vae\\_dtype float16" in page
    assert SETTINGS["vae_dtype"] == SETTINGS["dtype"]
    page = leaderboard([run], run.folder.parents[2], tmp_path / "page.md")
    assert "vae" not in page


_WRITER = """
import sys
from records_by_hand import few_scores, record, write_run
from pathlib import Path
value = float(sys.argv[2])
for i in range(40):
    said = record()
    said["made"]["batch_size"] = int(100 * value)
    write_run(Path(sys.argv[1]), said, few_scores(*[value] * 50))
"""


def test_two_writers_at_once_leave_one_of_the_two_whole(tmp_path):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), str(ROOT)]),
    }
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, tmp_path, value], env=environment)
        for value in ("0.25", "0.75")
    ]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    [run] = read_runs(tmp_path)
    assert set(100 * run.scores()["value"]) == {run.record.made.batch_size}
    assert {f.name for f in run.folder.iterdir()} == {RUN_FILE, SCORES_FILE}


def test_what_a_killed_writer_left_aside_goes_with_the_next_one(tmp_path, run):
    code = (
        "import os, pathlib, signal, sys; from soar_bench.core.temporary import temporary\n"
        "with temporary(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    for name in (RUN_FILE, SCORES_FILE):
        subprocess.run([sys.executable, "-c", code, run.folder / name], check=False)
    assert len(list(run.folder.iterdir())) == 3  # the second swept what the first left
    assert len(read_runs(tmp_path / "results")) == 1
    temporary._swept.clear()
    write_run(tmp_path / "results", record(), few_scores(0.5))
    assert {f.name for f in run.folder.iterdir()} == {RUN_FILE, SCORES_FILE}


def test_a_file_in_the_place_of_a_folder_is_said(tmp_path):
    (tmp_path / "results").write_text("not a folder")
    with pytest.raises(SoarBenchError, match="there are no results"):
        read_runs(tmp_path / "results")
    with pytest.raises(OSError, match="results"):
        write_run(tmp_path / "results", record(), few_scores(0.5))


def test_a_folder_in_the_place_of_a_file_is_said(run):
    (run.folder / RUN_FILE).unlink()
    (run.folder / RUN_FILE).mkdir()
    with pytest.raises(SoarBenchError, match="cannot be read"):
        read_run(run.folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_may_not_be_read_is_said(tmp_path, run):
    run.folder.chmod(0)
    try:
        with pytest.raises(SoarBenchError, match="permissions"):
            read_runs(tmp_path / "results")
    finally:
        run.folder.chmod(0o755)


def test_the_metrics_are_a_small_table_of_the_records_values(tmp_path):
    contents = record()
    contents["metrics"] = {
        "quality": {"value": 0.375, "standard_error": 0.125, "scored": 2, "unscored": 1,
                    "tasks": {}},
        "other": {"value": None, "standard_error": None, "scored": 0, "unscored": 3, "tasks": {}},
    }  # fmt: skip
    table = write_run(tmp_path, contents, few_scores(0.25, 0.5, None)).metrics
    assert table.index.name == "metric"
    assert table.loc["quality"].to_dict() == {
        "value": 0.375, "standard_error": 0.125, "n": 2, "unscored": 1,
    }  # fmt: skip
    assert table.loc["other", ["value", "standard_error"]].isna().all()
    assert table.dtypes.astype(str).tolist() == ["float64", "float64", "int64", "int64"]


def test_committed_records_have_the_numbers_of_their_scores_to_the_last_bit():
    """A second identical ``eval`` must leave a record's bytes alone. Records of before the first
    statistics engine summed in another order, so some of theirs differ in the last digit.
    """
    runs = read_runs(ROOT / "results")
    assert len(runs) >= 55
    exact = total = 0
    for run in runs:
        computed = summaries(run.scores(), run.record.evaluators)
        assert computed.keys() == run.record.metrics.keys()
        for metric, recorded in run.record.metrics.items():
            again = computed[metric]
            assert again.tasks == recorded.tasks
            assert (again.scored, again.unscored) == (recorded.scored, recorded.unscored)
            same = again == recorded
            if not same and run.record.made.commit.startswith(BEFORE_THE_ENGINE):
                assert again.value == pytest.approx(recorded.value, rel=1e-14)
                assert again.standard_error == pytest.approx(recorded.standard_error, rel=1e-14)
            else:
                assert same, (run.folder, metric)
            exact, total = exact + same, total + 1
    assert total - exact <= 37

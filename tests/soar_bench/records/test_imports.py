"""Import: other tools' results as records, with the tools' own numbers."""

from __future__ import annotations

import hashlib
import json
import math

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from soar_bench.boards import Board
from soar_bench.boards.comparing import compare_board
from soar_bench.boards.entrants import check_measured_alike
from soar_bench.boards.selection import select_boards
from soar_bench.boards.standings import standings
from soar_bench.cli.export import import_
from soar_bench.core.errors import SoarBenchError
from soar_bench.output.leaderboard import leaderboard
from soar_bench.records import read_runs
from soar_bench.records.imports import import_results, notes
from soar_bench.suites.shapes import shapes, shapes_signs
from soar_bench.suites.types import plan
from tests.soar_bench.records_by_hand import declared, score_row, write_run


def geneval_line(number, index, tag, prompt, correct, reason=""):
    """As pandas' to_json writes a line of evaluate_images.py."""
    return {
        "filename": f"images/{number:05d}/samples/{index:04d}.png",
        "tag": tag,
        "prompt": prompt,
        "correct": correct,
        "reason": reason,
        "metadata": json.dumps({"tag": tag, "prompt": prompt}),
        "details": json.dumps({"bench": [[1.0, 2.0, 30.5, 40.0, 0.97]]}),
    }


LINES = [
    geneval_line(0, 0, "single_object", "a photo of a bench", True),
    geneval_line(0, 1, "single_object", "a photo of a bench", False, "expected bench>=1, found 0"),
    geneval_line(7, 0, "counting", "a photo of two benches", True),
    geneval_line(7, 1, "counting", "a photo of two benches", True),
    geneval_line(9, 0, "counting", "a photo of three cows", False, "one\ntwo"),
    geneval_line(9, 1, "counting", "a photo of three cows", False, "one"),
]


def write(file, lines):
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    file.write_text(text, "utf-8")
    return file


def load(tmp_path, lines, label="theirs", tool=None, suite=None):
    return import_results(
        write(tmp_path / "results.jsonl", lines), label, tool, suite, tmp_path / "results"
    )


def test_genevals_results_give_the_number_its_own_summary_prints(tmp_path):
    """Single object 1/2, counting 2/4: unweighted mean 0.5; by prompt and index as in the names."""
    run = load(tmp_path, LINES)
    summary = run.record.metrics["geneval"]
    assert summary.value == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert summary.tasks == {"single_object": 0.5, "counting": 0.5}
    scores = run.scores().set_index(["prompt", "index"])
    assert scores.loc[("a photo of a bench", 0), "value"] == 1
    details = json.loads(scores.loc[("a photo of three cows", 0), "details"])
    assert details["reasons"] == ["one", "two"]
    assert details["detections"] == [
        {"label": "bench", "score": 0.97, "box": [1.0, 2.0, 30.5, 40.0]}
    ]


def test_the_record_says_where_it_is_from(tmp_path):
    run = load(tmp_path, LINES)
    story = run.record.checkpoint.story["imported"]
    content = (tmp_path / "results.jsonl").read_bytes()
    assert story["sha256"] == hashlib.sha256(content).hexdigest()
    assert (story["tool"], story["file"]) == ("djghosh13/geneval", "results.jsonl")
    assert run.imported
    assert run.record.checkpoint.form == "images"
    assert read_runs(tmp_path / "results")[0].record == run.record


def nft_line(number, prompt, scores, **metadata):
    return {"sample_id": number, "prompt": prompt, "metadata": metadata, "scores": scores}


def test_sentinels_become_unscored_with_a_reason_and_enter_no_mean(tmp_path):
    lines = [
        nft_line(0, "a", {"imagereward": 1.0, "avg": 1.0}),
        nft_line(1, "b", {"imagereward": -10.0, "avg": -10.0}),
        nft_line(2, "c", {"imagereward": math.nan, "avg": 1.0}),
        nft_line(3, "d", {"imagereward": 2.0, "avg": 1.0}),
    ]
    run = load(tmp_path, lines)
    summary = run.record.metrics["image_reward"]
    assert (summary.value, summary.scored, summary.unscored) == (1.5, 2, 2)
    assert set(run.scores()["unscored"]) == {
        "",
        "the tool's sentinel -10",
        "the tool's value is nan",
    }
    assert set(run.record.metrics) == {"image_reward"}, "a sum over unlike units is no metric"
    assert any("left out: avg" in sentence for sentence in notes(run))


def test_pickscore_is_multiplied_back_and_says_so(tmp_path):
    """The family divides by 26; its tables print the product, about 22."""
    run = load(tmp_path, [nft_line(i, f"p{i}", {"pickscore": 22.34 / 26}) for i in range(3)])
    assert run.record.metrics["pickscore"].value == pytest.approx(22.34)
    assert "note: pickscore times 26 is pickscore" in notes(run)
    with pytest.raises(SoarBenchError, match=r"results\.jsonl, line 2: pickscore is 22\.4, which"):
        load(
            tmp_path, [nft_line(0, "a", {"pickscore": 0.8}), nft_line(1, "b", {"pickscore": 22.4})]
        )


def test_the_familys_three_geneval_numbers_and_their_tasks(tmp_path):
    """Its parts by task are -10 for images of other tasks; they repeat ``accuracy``."""
    lines = [
        nft_line(
            i, f"p{i}",
            {
                "accuracy": correct, "strict_accuracy": 0.0, "geneval": 0.25,
                "counting_accuracy": correct if tag == "counting" else -10.0,
                "colors_strict_accuracy": 0.0 if tag == "colors" else -10.0, "avg": 0.25,
            },
            tag=tag,
        )
        for i, (tag, correct) in enumerate(
            [("counting", 1.0), ("counting", 0.0), ("colors", 1.0), ("colors", 1.0)]
        )
    ]  # fmt: skip
    run = load(tmp_path, lines)
    values = {name: summary.value for name, summary in run.record.metrics.items()}
    assert values == {
        "geneval_flow_grpo": 0.75, "geneval_flow_grpo_strict": 0.0, "geneval_flow_grpo_soft": 0.25,
    }  # fmt: skip
    assert run.record.metrics["geneval_flow_grpo"].tasks == {"counting": 0.5, "colors": 1.0}


def test_samples_that_fill_up_processes_count_once(tmp_path):
    """Images of one prompt are numbered in the order of their sample ids."""
    lines = [
        nft_line(2, "b", {"ocr": 0.4}), nft_line(0, "a", {"ocr": 0.0}),
        nft_line(1, "a", {"ocr": 1.0}), nft_line(0, "a", {"ocr": 1.0}),
    ]  # fmt: skip
    run = load(tmp_path, lines)
    scores = run.scores().set_index(["prompt", "index"])["value"]
    assert scores.to_dict() == {("a", 0): 0.0, ("a", 1): 1.0, ("b", 0): 0.4}
    assert run.record.checkpoint.story["imported"]["repeated"] == 1
    assert any("1 lines repeat a sample" in sentence for sentence in notes(run))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["{}", "{}"], "is in no layout that is known"),
        ([LINES[0], "{broken"], "line 2 is not JSON"),
        ([LINES[0], "", "[1]"], "line 3 must be one JSON object"),
        ([LINES[0], {**LINES[1], "correct": "yes"}], 'line 2: correct is "yes", not true or false'),
        ([LINES[0], {"prompt": "a"}], "line 2: filename is missing, not a path"),
        ([LINES[0], LINES[0]], "line 2: image 0 of 'a photo of a bench' stands in line 1 already"),
        ([{**LINES[0], "details": "[1]"}], "line 1: details has no boxes"),
        ([{**LINES[0], "prompt": " "}], "line 1: the prompt is empty"),
        ([nft_line(0, "a", {"ocr": "1"})], 'line 1: the score ocr is "1", not a number'),
        ([nft_line(0, "a", {"ocr": 1.5})], "line 1: ocr is 1.5, outside 0 to 1"),
        ([nft_line(True, "a", {"ocr": 1.0})], "line 1: sample_id is true, not a whole number"),
        (
            [nft_line(0, "a", {"ocr": 1.0}), nft_line(0, "b", {"ocr": 1.0})],
            "line 2: sample 0 has another prompt than in line 1",
        ),
        ([nft_line(0, "a", {})], "has no scores"),
        ([nft_line(0, "a", {"avg": 1.0})], "has no scores"),
        ([], "is empty"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_line_and_nothing_is_written(tmp_path, lines, words):
    with pytest.raises(SoarBenchError) as raised:
        load(tmp_path, lines)
    assert words in str(raised.value)
    assert "results.jsonl" in str(raised.value)
    assert not (tmp_path / "results").exists()


def test_no_file_no_text_and_unknown_tools(tmp_path):
    with pytest.raises(SoarBenchError, match="there is no file"):
        import_results(tmp_path / "none.jsonl", "x", None, None, tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SoarBenchError, match=r"binary, line 1 is not UTF-8 text"):
        import_results(tmp_path / "binary", "x", None, None, tmp_path)
    with pytest.raises(SoarBenchError, match=r"no tool is named 'genval'; did you mean geneval\?"):
        load(tmp_path, LINES, tool="genval")


def of_suite(suite, value=1.0):
    return [nft_line(i, p.text, {"ocr": value}) for i, p in enumerate(suite.prompts)]


def test_prompts_of_a_named_suite_get_its_ids_and_tasks(tmp_path):
    suite = shapes()
    lines = [
        geneval_line(i, 0, "whatever", prompt.text, i % 2 == 0)
        for i, prompt in enumerate(suite.prompts)
    ]
    run = load(tmp_path, lines)
    assert run.record.suite.name == "shapes"
    assert run.record.suite.digest == suite.digest()
    scores = run.scores()
    assert list(scores["prompt_id"]) == [p.id for p in suite.prompts]
    assert list(scores["task"]) == [p.task for p in suite.prompts]


def test_prompts_of_no_suite_become_one_of_their_own(tmp_path):
    run = load(tmp_path, LINES)
    assert run.record.suite.name.startswith("prompts-")
    assert run.record.suite.prompts == 3
    assert run.record.suite.images_per_prompt == 2
    assert any("no named suite that is here" in sentence for sentence in notes(run))


def test_a_suite_that_was_named_must_have_exactly_these_prompts(tmp_path):
    lines = of_suite(shapes_signs())
    with pytest.raises(SoarBenchError, match=r"line 31: shapes-signs has no prompt 'another'"):
        load(tmp_path, [*lines, nft_line(99, "another", {"ocr": 1.0})], suite="shapes-signs")
    with pytest.raises(SoarBenchError, match="29 of the 30 prompts of shapes-signs"):
        load(tmp_path, lines[1:], suite="shapes-signs")
    own = write(tmp_path / "mine.txt", ["a photo of a bench", "a photo of two benches",
                                        "a photo of three cows"])  # fmt: skip
    run = load(tmp_path, LINES, suite=str(own))
    assert run.record.suite.source == str(own)


def measured(results, value, **suite):
    """A measured run of the embedded suite of signs."""
    signs = shapes_signs()
    rows = [
        {**score_row(s.prompt.id, s.index, value, s.prompt.text, task=s.prompt.task),
         "metric": "ocr_accuracy_paddle_flow_grpo"}
        for s in plan(signs, 1)
    ]  # fmt: skip
    rows[0]["value"] = 0.0
    record = {
        "checkpoint": {"label": "ours", "name": "ours", "digest": "w", "form": "pipeline",
                       "base": None, "revision": "", "story": {}},
        "suite": {"name": signs.name, "digest": signs.digest(), "seed": signs.seed, "prompts": 30,
                  "images_per_prompt": 1, "source": ""},
        "protocol": {"name": "shapes", "settings": {"steps": 20}},
        "evaluators": {"ocr": {"given": "ocr", "version": "1", "identity": {}, "metrics": {
            "ocr_accuracy_paddle_flow_grpo": declared(range=[0.0, 1.0])}}},
        "metrics": {},
        "made": {"finished": "2026-11-20T10:00:00+00:00"},
    }  # fmt: skip
    return write_run(results, record, pd.DataFrame(rows))


def test_imported_numbers_stand_beside_measured_ones_marked_and_unranked(tmp_path):
    ours = measured(tmp_path / "results", 0.9)
    theirs = load(tmp_path, of_suite(shapes_signs(), 1.0), label="theirs")
    assert theirs.board != ours.board
    with pytest.raises(SoarBenchError, match="not measured alike"):
        check_measured_alike([ours, theirs])
    runs = read_runs(tmp_path / "results")
    own, imported = sorted(standings(runs), key=lambda board: board.imported)
    assert [r.name for r in own.rows] == ["ours"] and own.rows[0].rank == (1, 1)
    assert [r.name for r in own.beside] == ["theirs (imported: DiffusionNFT or HY-SOAR)"]
    assert [r.name for r in imported.rows] == [r.name for r in own.beside]
    page = leaderboard(runs, tmp_path / "results", tmp_path / "leaderboard.md")
    section = page.split("## shapes-signs under shapes")[1].split("\n## ")[0]
    assert "so not ranked" in section
    assert "theirs (imported: DiffusionNFT or HY-SOAR)" in section
    for form in ("html", "csv"):
        assert "imported" in leaderboard(runs, tmp_path / "results", tmp_path / "l", form)


def test_they_can_be_compared_on_the_same_prompts_by_who_insists(tmp_path):
    ours = measured(tmp_path / "results", 0.5)
    theirs = load(tmp_path, of_suite(shapes_signs(), 1.0))
    (entrants,), _ = select_boards([[ours], [theirs]], anyway=True)
    (value, difference) = compare_board(Board.in_common(entrants)).rows
    assert value.metric == difference.metric == "ocr_accuracy_paddle_flow_grpo"
    assert difference.difference.value == pytest.approx((29 * 0.5 + 1) / 30)
    assert not difference.alike


def test_the_command_prints_the_record_and_its_notes_apart(tmp_path):
    file = write(tmp_path / "results.jsonl", LINES)
    app = typer.Typer()
    app.command()(import_)
    done = CliRunner().invoke(
        app, [str(file), "--label", "../x", "--results", str(tmp_path / "results")]
    )
    assert done.exit_code == 0, done.exception
    folder = done.stdout.strip()
    assert (tmp_path / "results") in (tmp_path / folder).resolve().parents
    assert "6 lines, 3 prompts of prompts-" in done.stderr
    again = CliRunner().invoke(
        app, [str(file), "--label", "../x", "--results", str(tmp_path / "results"), "--json"]
    )
    says = json.loads(again.stdout)
    assert (says["folder"], says["checkpoint"]["label"]) == (folder, "../x")
    assert says["suite"]["prompts"] == 3


def test_a_dry_run_reads_everything_and_writes_nothing(tmp_path):
    file, results = write(tmp_path / "results.jsonl", LINES), tmp_path / "results"
    app = typer.Typer()
    app.command()(import_)
    options = [str(file), "--label", "theirs", "--results", str(results)]
    dry = CliRunner().invoke(app, [*options, "--dry-run"])
    assert dry.exit_code == 0 and not results.exists()
    done = CliRunner().invoke(app, options)
    assert (done.stdout, done.stderr) == (dry.stdout, dry.stderr)
    write(file, [*LINES, "{"])
    refused = CliRunner().invoke(app, [*options, "--dry-run"])
    assert "line 7 is not JSON" in str(refused.exception)

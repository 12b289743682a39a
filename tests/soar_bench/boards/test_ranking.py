"""The metric that a board is ranked by, and when the paper's numbers are on the page."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from records_by_hand import contents, declared, score_row, write_run

from soar_bench.boards import compare
from soar_bench.boards.standings import standings
from soar_bench.output.leaderboard import leaderboard
from soar_bench.records import primary_metric, read_runs


def write(results, suite, evaluators, protocol="soar-paper", **of_suite):
    """A record of three prompts; ``evaluators`` are lists of metrics."""
    names = [name for metrics in evaluators.values() for name in metrics]
    rows = [score_row(f"p{i}", 0, float(i), metric=name) for name in names for i in range(3)]
    draft = contents(
        "a",
        {},
        suite={"name": suite, **of_suite},
        protocol={"name": protocol, "settings": {"steps": 40}},
    )
    draft["evaluators"] = {
        name: {"given": name, "version": "", "identity": {},
               "metrics": dict.fromkeys(metrics, declared(unit="u"))}
        for name, metrics in evaluators.items()
    }  # fmt: skip
    return write_run(results, draft, pd.DataFrame(rows))


@pytest.mark.parametrize(
    ("suite", "evaluators", "more", "primary"),
    [
        ("ocr", {"aesthetic": ["aesthetic"], "ocr-paddle": ["ocr_accuracy"]}, {}, "ocr_accuracy"),
        ("drawbench", {"aesthetic": ["aesthetic"], "pickscore": ["pickscore"]}, {}, "pickscore"),
        ("mine", {"aesthetic": ["aesthetic"], "z": ["z"]}, {"primary": "z"}, "z"),
        ("mine", {"aesthetic": ["aesthetic"], "z": ["z"]}, {}, "aesthetic"),
        ("ocr", {"aesthetic": ["aesthetic"], "z": ["z"]}, {}, "aesthetic"),
    ],
)
def test_a_board_is_ranked_by_the_suites_primary_metric(tmp_path, suite, evaluators, more, primary):
    run = write(tmp_path, suite, evaluators, **more)
    assert primary_metric(run)[0] == primary
    (board,) = standings(read_runs(tmp_path))
    assert board.primary == primary
    comparison = compare([run])  # and every table begins with it
    assert comparison.rows[0].metric == primary
    header = next(line for line in comparison.to_latex().splitlines() if " & " in line)
    assert header.split(" & ")[1].startswith(primary.replace("_", r"\_"))


@pytest.mark.parametrize("form", ["md", "html"])
@pytest.mark.parametrize(
    ("suite", "protocol", "shown"),
    [
        ("drawbench", "soar-paper", True),
        ("drawbench", "soar-paper+steps=20", False),
        ("mine", "soar-paper", False),
    ],
)
def test_the_papers_table_is_where_suite_and_protocol_are_its_own(
    tmp_path, form, suite, protocol, shown
):
    write(tmp_path, suite, {"pickscore": ["pickscore"]}, protocol)
    page = leaderboard(read_runs(tmp_path), tmp_path, Path("page"), form)
    assert ("22.86" in page) == shown


@pytest.mark.parametrize("form", ["md", "html"])
def test_the_page_says_which_tests_are_corrected_together(tmp_path, form):
    write(tmp_path, "mine", {"pickscore": ["pickscore"]})
    page = " ".join(leaderboard(read_runs(tmp_path), tmp_path, Path("page"), form).split())
    assert "over all pairs" in page
    assert "correct over the metrics of one pair" in page

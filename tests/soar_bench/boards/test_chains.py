"""Boards with trainings that went on from the checkpoints of others."""

from __future__ import annotations

from pathlib import Path

import pytest
from records_by_hand import few_scores, record, write_run

from soar_bench.boards.entrants import group_seeds
from soar_bench.boards.standings import standings
from soar_bench.output.runs import page
from soar_bench.records.folders import Entry
from soar_bench.report.made import of_run

BASE = {"name": "base", "digest": "weights"}


def story(name: str, seed: int, base: dict, start: str = "base") -> dict:
    return {
        "name": name, "method": name, "step": 2, "seed": seed, "base": base,
        "data": {"name": "d", "digest": "d"}, "config": {"seed": seed, "base": start},
    }  # fmt: skip


def trained(results, of: dict, value: float):
    """A record of a checkpoint with that story, and one value above its samples' numbers."""
    label = f"{of['name']}-seed{of['seed']}"
    contents = record(
        label=label, name=label, digest=label, form="transformer", base=BASE, story=of
    )
    return write_run(results, contents, few_scores(value, 1 + value, 3 + value))


@pytest.fixture()
def runs(tmp_path):
    made = [write_run(tmp_path, record(), few_scores(0.0, 1.0, 3.0))]
    for seed in (0, 1):
        first = story("soar", seed, BASE)
        made.append(trained(tmp_path, first, 0.5 + seed))
        base = {"name": f"runs/soar-seed{seed}", "digest": f"soar-seed{seed}", "story": first}
        made.append(trained(tmp_path, story("nft", seed, base, "runs/soar-seed{seed}"), 2 + seed))
    return made


def test_seed_by_seed_a_chain_is_one_entrant_with_a_difference_to_the_pipeline(runs):
    (board,) = standings(runs)
    rows = {row.name: row for row in board.rows}
    assert {name: len(row.runs) for name, row in rows.items()} == {"base": 1, "soar": 2, "nft": 2}
    differences = {name: row.cells["quality"].difference for name, row in rows.items()}
    assert differences["base"] is None
    assert differences["soar"].value == pytest.approx(1.0)
    assert differences["nft"].value == pytest.approx(2.5)


def test_a_runs_page_names_every_training_since_the_pipeline(runs):
    entry = Entry(runs[2].folder, "nft", runs[2])
    text = list(page(entry, runs[2], None))
    trained = [line.split() for line in text if line.startswith(("  trained", "  before"))]
    assert trained == [
        ["trained", "nft,", "step", "2,", "seed", "0"],
        ["before", "soar,", "step", "2,", "seed", "0"],
    ]  # fmt: skip
    facts = dict(of_run(runs[2], Path()).facts)
    assert facts["trained from"] == "runs/soar-seed0"


def test_what_a_training_went_on_from_comes_before_it(runs):
    assert [entrant.name for entrant in group_seeds(runs[::-1])] == ["base", "soar", "nft"]
    alone = [run for run in runs if run.seed == 0][::-1]
    assert [entrant.name for entrant in group_seeds(alone)] == ["soar-seed0", "nft-seed0"]

"""The table of objectives, from records by hand."""

import importlib.util
from pathlib import Path

import pandas as pd
import pytest
from records_by_hand import record, score_row, write_run

from soar_bench.core.errors import SoarBenchError

FILE = Path(__file__).parents[3] / "benchmarks" / "objectives_table.py"
#: name -> seed -> how many of the four prompts are right
RIGHT = {
    "shapes": {None: 1},
    "nft-geneval-equal-steps": {0: 2, 1: 4},
    "soar-geneval-equal-steps": {0: 2, 1: 2},
    "nft-after-soar-geneval-equal-steps": {0: 3, 1: 3},
    "nft-after-sft-geneval-equal-steps": {0: 4, 1: 4},
}


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("objectives_table", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(folder, name, seed, right, guidance):
    story = {
        "name": name, "method": name, "step": 48, "seed": seed, "base": {"digest": "b"},
        "data": {"digest": "d"}, "config": {"seed": seed},
    }  # fmt: skip
    said = record(
        label=name if seed is None else f"{name}-seed{seed}", digest=f"{name}-{seed}",
        story={} if seed is None else story,
    )  # fmt: skip
    said["protocol"]["settings"]["guidance"] = guidance
    rows = [score_row(f"p{i}", 0, float(i < right), task="a") for i in range(4)]
    write_run(folder, said, pd.DataFrame(rows))


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_every_objective_stands_by_the_base_and_by_those_it_is_claimed_to_beat(script, tmp_path):
    for name, seeds in RIGHT.items():
        for seed, right in seeds.items():
            write(tmp_path, name, seed, right, 1.0)
            write(tmp_path, name, seed, 4 - right, 3.0)
    lines = [cells(line) for line in script.page(tmp_path, "quality").splitlines() if "|" in line]
    values = {line[0]: line[1:] for line in lines if len(line) == 3}
    assert values["checkpoint"] == ["guidance 1", "guidance 3"]
    assert values["shapes"] == ["0.250", "0.750"]
    assert values["nft-geneval-equal-steps"] == ["0.750 ± 0.354", "0.250 ± 0.354"]
    pairs = {(line[0], line[1]): line[2] for line in lines if len(line) == 5 and " - " in line[0]}
    end = "-geneval-equal-steps"
    assert {pair for pair, _ in pairs if not pair.endswith("shapes")} == {
        f"soar{end} - nft{end}",
        f"nft-after-soar{end} - nft-after-sft{end}",
        f"nft-after-soar{end} - nft{end}",
    }
    assert sum(pair.endswith("- shapes") for pair, _ in pairs) == 2 * 4
    assert pairs[f"soar{end} - nft{end}", "1"].startswith("-0.250 ")
    assert pairs[f"soar{end} - nft{end}", "3"].startswith("+0.250 ")


def test_no_records_are_told(script, tmp_path):
    with pytest.raises(SoarBenchError, match="has no records"):
        script.page(tmp_path, "quality")

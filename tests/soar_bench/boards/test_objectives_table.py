"""The table of objectives, from records by hand."""

import pandas as pd
import pytest
from records_by_hand import score_row, seed_record, write_run

from benchmarks.objectives_table import page
from soar_bench.core.errors import SoarBenchError

#: name -> seed -> how many of the four prompts are right
RIGHT = {
    "shapes": {None: 1},
    "nft-geneval-equal-steps": {0: 2, 1: 4},
    "soar-geneval-equal-steps": {0: 2, 1: 2},
    "soar-geneval-equal-units": {0: 1, 1: 2},
    "nft-after-soar-geneval-equal-steps": {0: 3, 1: 3},
    "nft-after-sft-geneval-equal-steps": {0: 4, 1: 4},
}


def write(folder, name, seed, right, guidance):
    contents = seed_record(name, seed, 48)
    contents["protocol"]["settings"]["guidance"] = guidance
    rows = [score_row(f"p{i}", 0, float(i < right), task="a") for i in range(4)]
    write_run(folder, contents, pd.DataFrame(rows))


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_every_objective_stands_by_the_base_and_by_those_it_is_claimed_to_beat(tmp_path):
    for name, seeds in RIGHT.items():
        for seed, right in seeds.items():
            write(tmp_path, name, seed, right, 1.0)
            write(tmp_path, name, seed, 4 - right, 3.0)
    lines = [cells(line) for line in page(tmp_path, "quality").splitlines() if "|" in line]
    values = {line[0]: line[1:] for line in lines if len(line) == 3}
    assert values["checkpoint"] == ["guidance 1", "guidance 3"]
    assert values["shapes"] == ["0.250", "0.750"]
    assert values["nft-geneval-equal-steps"] == ["0.750 ± 0.354", "0.250 ± 0.354"]
    pairs = {(line[0], line[1]): line[2] for line in lines if len(line) == 5 and " - " in line[0]}
    end = "-geneval-equal-steps"
    assert {pair for pair, _ in pairs if not pair.endswith("shapes")} == {
        f"soar{end} - nft{end}",
        f"soar-geneval-equal-units - nft{end}",
        f"nft-after-soar{end} - nft-after-sft{end}",
        f"nft-after-soar{end} - nft{end}",
    }
    assert sum(pair.endswith("- shapes") for pair, _ in pairs) == 2 * 5
    assert pairs[f"soar{end} - nft{end}", "1"].startswith("-0.250 ")
    assert pairs[f"soar{end} - nft{end}", "3"].startswith("+0.250 ")


def test_what_is_judged_at_one_guidance_alone_stands_there(tmp_path):
    for name, guidances in (("shapes", (1.0, 3.0)), ("nft-geneval-equal-steps", (1.0,))):
        for guidance in guidances:
            write(tmp_path, name, None, 2, guidance)
    lines = [cells(line) for line in page(tmp_path, "quality").splitlines() if "|" in line]
    assert ["nft-geneval-equal-steps", "0.500", ""] in lines
    assert [line[1] for line in lines if line[0].endswith("- shapes")] == ["1"]


def test_no_records_are_told(tmp_path):
    with pytest.raises(SoarBenchError, match="has no records"):
        page(tmp_path, "quality")

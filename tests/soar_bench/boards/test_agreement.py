"""Two judges of right and wrong side by side, and their agreement in words."""

from __future__ import annotations

import json

import numpy as np
import pytest

import soar_bench as sb
from evaluators import Evaluator, Metric, Score
from soar_bench.boards.agreement import agreements
from soar_bench.boards.board import Board
from soar_bench.boards.comparing import compare
from soar_bench.boards.entrants import group_seeds
from soar_bench.output.comparisons import print_comparisons
from soar_bench.report.page import Options, write_report

UNIT = "share of images that are right"


class Bright(Evaluator):
    """Right where the first pixel is bright."""

    name, place = "bright", 0

    @property
    def metrics(self):
        return (Metric(self.name, UNIT, (0.0, 1.0), True, "1", "test", "test", "task_mean"),)

    def score(self, samples):
        values = [sample.image[0, self.place, 0] for sample in samples]
        return [{self.name: Score(float(v > 100)) if v != 7 else Score(None, "7")} for v in values]


class Second(Bright):
    """Right where the second pixel is bright."""

    name, place = "second", 1


#: First and second pixel of each image: 3 right for both, 2 and 1 for one alone, 1 for neither.
PIXELS = [(200, 200)] * 3 + [(200, 0)] * 2 + [(0, 200), (0, 0), (7, 200)]


def run_of(tmp_path, label, seed=0, evaluators=(Bright, Second)):
    images = []
    for number, pixels in enumerate(PIXELS):
        image = np.full((4, 4, 3), 10 * number + seed, np.uint8)
        image[0, :2, 0] = pixels
        images.append(image)
    return sb.score(
        images, [f"prompt {i}" for i in range(len(images))], label=label,
        metadata=[{"tag": "a"}] * len(images), evaluators=[evaluator() for evaluator in evaluators],
        results=tmp_path / "results", cache=tmp_path / "cache",
    )  # fmt: skip


def test_counts_kappa_and_the_images_on_which_they_part(tmp_path):
    run = run_of(tmp_path, "one")
    (agreement,) = agreements(Board.of(group_seeds([run])))
    assert (agreement.both, agreement.neither) == (3, 1)
    assert (agreement.only_first, agreement.only_second) == (2, 1)
    chance = (5 * 4 + 2 * 3) / 49
    assert agreement.share == pytest.approx(4 / 7)
    assert agreement.kappa == pytest.approx((4 / 7 - chance) / (1 - chance))
    names = run.scores().groupby("prompt")["prompt_id"].first()
    assert set(agreement.parted) == {(names[f"prompt {i}"], 0) for i in (3, 4, 5)}
    assert "agree on 57% of the 7 images of one" in str(agreement)
    # Wilson's interval of 4 of 7 prompts, in the form of docs/statistics.md
    p, g, t = 4 / 7, 7, 2.4469
    n = (p * (1 - p) + 1 / (2 * g)) / (p * (1 - p) / (g - 1) + 1 / (2 * g**2))
    r = t**2 / n
    half = np.sqrt(r * p * (1 - p) + r**2 / 4) / (1 + r)
    centre = (p + r / 2) / (1 + r)
    assert agreement.interval == pytest.approx((centre - half, centre + half), abs=1e-4)


def test_a_comparison_says_how_its_judges_agree(tmp_path, capsys):
    runs = [run_of(tmp_path, "one"), run_of(tmp_path, "other", seed=1)]
    comparison = compare(runs)
    notes = [note for note in comparison.notes if "agree on" in note]
    assert len(notes) == 2 and "for bright alone" in notes[0]
    assert notes[0] in comparison.to_markdown()
    assert not [n for n in comparison.only(["bright"]).notes if "agree on" in n]
    assert "| 3 | 2 | 1 | 1 | 57.1% " in comparison.to_markdown()
    first = json.loads(comparison.to_json())["agreements"][0]
    counts = ("both_right", "first_alone", "second_alone", "both_wrong")
    assert [first[name] for name in counts] == [3, 2, 1, 1] and len(first["parted"]) == 3
    print_comparisons([comparison])
    assert "Images that two judges have right" in capsys.readouterr().out


def test_a_report_leads_to_the_pictures_on_which_judges_part(tmp_path):
    """The page's filter takes what the two metrics of ``judges`` say of the chosen checkpoint."""
    runs = [run_of(tmp_path, "one"), run_of(tmp_path, "other", seed=1)]
    write_report(runs, Options(tmp_path / "page", tmp_path / "cache"))
    page = (tmp_path / "page" / "index.html").read_text("utf-8")
    assert "Images that two judges have right" in page and ">57.1% [" in page
    for number in (0, 1):
        assert f'href="#gallery?board=b1&amp;metric=0&amp;a={number}&amp;show=parted"' in page
    text = (tmp_path / "page" / "data" / "b1.js").read_text("ascii")
    data = json.loads(text.partition(", ")[2].removesuffix(");\n"))
    assert data["judges"] == [[0, 1]]
    first, second = (data["values"][0][metric] for metric in data["judges"][0])
    pairs = zip(first, second, strict=True)
    assert sum(None not in pair and pair[0] != pair[1] for pair in pairs) == 3


def test_a_judge_that_not_all_have_is_left_out(tmp_path):
    runs = [run_of(tmp_path, "one"), run_of(tmp_path, "other", 1, [Bright])]
    notes = compare(runs, anyway=True).notes
    assert notes and not [note for note in notes if "agree on" in note]

"""Two judges of right and wrong side by side, and their agreement in words."""

from __future__ import annotations

import numpy as np
import pytest

import soar_bench as sb
from evaluators import Evaluator, Metric, Score
from soar_bench.boards.agreement import agreements
from soar_bench.boards.board import Board
from soar_bench.boards.comparing import compare
from soar_bench.boards.entrants import group_seeds

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
    (found,) = agreements(Board.of(group_seeds([run])))
    assert (found.both, found.only_first, found.only_second, found.neither) == (3, 2, 1, 1)
    chance = (5 * 4 + 2 * 3) / 49
    assert found.share == pytest.approx(4 / 7)
    assert found.kappa == pytest.approx((4 / 7 - chance) / (1 - chance))
    names = run.scores().groupby("prompt")["prompt_id"].first()
    assert set(found.parted) == {(names[f"prompt {i}"], 0) for i in (3, 4, 5)}
    assert "agree on 57% of the 7 images of one" in str(found)


def test_a_comparison_says_how_its_judges_agree(tmp_path):
    runs = [run_of(tmp_path, "one"), run_of(tmp_path, "other", seed=1)]
    comparison = compare(runs)
    notes = [note for note in comparison.notes if "agree on" in note]
    assert len(notes) == 2 and "for bright alone" in notes[0]
    assert notes[0] in comparison.to_markdown()
    assert not [n for n in comparison.only(["bright"]).notes if "agree on" in n]


def test_a_judge_that_not_all_have_is_left_out(tmp_path):
    runs = [run_of(tmp_path, "one"), run_of(tmp_path, "other", 1, [Bright])]
    notes = compare(runs, anyway=True).notes
    assert notes and not [note for note in notes if "agree on" in note]

"""The embedded world's detector against the world's own ground truth."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from evaluators.geneval.rules import judge
from evaluators.geneval.shapes import ShapesGenEval
from evaluators.shapes.detector import detect
from evaluators.shapes.geometry import PALETTE, SHAPES
from evaluators.types import Sample
from soar_bench.shapes.captions import LEAD_INS, SIGN, every_caption, single_object
from soar_bench.shapes.render import BACKGROUNDS, Scene, Thing, render
from soar_bench.shapes.world import BROAD, CLEAN, Distribution, example


def truth(scene):
    return sorted((t.shape, t.color) for t in scene.things)


def seen(image):
    return sorted((d.label, d.color) for d in detect(image))


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_every_shape_colour_and_size_on_every_background(background):
    for shape, color, radius in itertools.product(SHAPES, PALETTE, (8, 9, 10)):
        (detected,) = detect(render(Scene(background, (Thing(shape, color, 28, 36, radius),))))
        assert (detected.label, detected.color) == (shape, color)
        assert detected.score > 0.9
        left, top, right, bottom = detected.box
        assert left >= 28 - radius
        assert right <= 28 + radius
        assert (left + right) / 2 == pytest.approx(28, abs=1)
        assert (top + bottom) / 2 == pytest.approx(36, abs=2)


def test_at_least_99_percent_right_on_thousands_of_clean_scenes():
    sizes = Distribution("detector-test", CLEAN.tags, radii=(8, 9, 10))
    scenes = right = exact = 0
    for index in range(3500):
        drawn = example(sizes, 77, index)
        if drawn.truth["tag"] == SIGN:
            continue
        image = render(drawn.scene)
        scenes += 1
        right += judge(drawn.truth, detect(image)).correct
        exact += seen(image) == truth(drawn.scene)
    assert scenes > 3000
    assert right / scenes >= 0.99
    assert exact / scenes >= 0.99


def test_a_wrong_caption_is_judged_wrong():
    """Broad captions are partly wrong; on scenes without overlap the judge must notice."""
    liar = Distribution("liar", BROAD.tags, radii=(9,), wrong_caption=1.0)
    records = {
        m["prompt"]: m for tag in BROAD.tags for lead in LEAD_INS for m in every_caption(tag, lead)
    }
    judged = [
        judge(records[drawn.caption], detect(render(drawn.scene))).correct
        for drawn in (example(liar, 5, i) for i in range(400))
        if drawn.truth["tag"] != SIGN and drawn.caption != drawn.truth["prompt"]
    ]
    assert len(judged) > 250
    assert np.mean(judged) < 0.01


def test_a_malformed_object_scores_low():
    """A blob between a square and nothing: right colour, no shape."""
    image = np.full((64, 64, 3), 250, np.uint8)
    image[20:28, 20:50] = PALETTE["red"]
    image[20:44, 20:26] = PALETTE["red"]
    (detected,) = detect(image)
    assert detected.score < 0.9


def test_an_empty_image_a_dark_one_and_noise_hold_nothing_sure():
    assert detect(np.full((64, 64, 3), 250, np.uint8)) == []
    assert detect(np.zeros((64, 64, 3), np.uint8)) == []
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert all(d.score <= 0.9 for d in detect(noise))


def test_an_object_of_two_colours_is_not_one_object():
    image = render(Scene("white", (Thing("square", "red", 32, 32, 10),))).copy()
    half = image[:, 32:]
    half[(half[..., 0] > 200) & (half[..., 1] < 100)] = PALETTE["blue"]
    assert ("square", "red") not in [(d.label, d.color) for d in detect(image) if d.score > 0.9]


def test_the_evaluator_explains_itself_and_leaves_signs_unscored():
    drawn = example(CLEAN, 0, 1)
    evaluator = ShapesGenEval()
    image = render(Scene("white", (Thing("star", "red", 20, 20, 9),)))
    metadata = single_object("ring")
    wrong = Sample(image, metadata["prompt"], metadata)
    sign = Sample(render(drawn.scene), 'a sign "CAT"', {"tag": SIGN, "include": []})
    first, second = (s["shapes_geneval"] for s in evaluator.score([wrong, sign]))
    assert first.value == 0.0
    assert first.details["reasons"] == ["expected 1 ring, found 0"]
    assert first.details["detections"][0]["label"] == "star"
    assert second.value is None
    assert "no GenEval task" in second.unscored

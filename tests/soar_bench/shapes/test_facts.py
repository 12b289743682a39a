"""What scenes and captions say, against values worked out by hand."""

from __future__ import annotations

import pytest
import torch

from benchmarks.pretrain import facts
from evaluators.shapes.geometry import SHAPES
from soar_bench.shapes import captions
from soar_bench.shapes.captions import COLORS
from soar_bench.shapes.render import Scene, Sign, Thing

PER_SHAPE = 1 + len(COLORS) + 2


def told(of, shape):
    """number, colours, x, y of one shape: the values, None where unknown."""
    values, known = of
    start = SHAPES.index(shape) * PER_SHAPE
    part = slice(start, start + PER_SHAPE)
    pairs = zip(values[part].tolist(), known[part].tolist(), strict=True)
    one = [round(v, 4) if k else None for v, k in pairs]
    return one[0], one[1:-2], one[-2], one[-1]


def test_a_scene():
    scene = Scene(
        "white",
        things=(
            Thing("star", "red", 12, 52, 9),
            Thing("ring", "blue", 52, 12, 9),
            Thing("ring", "red", 52, 52, 9),
        ),
    )
    of = facts.of_scene(scene)
    red = [float(c == "red") for c in COLORS]
    half = [0.5 if c in ("red", "blue") else 0.0 for c in COLORS]
    assert told(of, "star") == (0.25, red, -1.0, 1.0)
    assert told(of, "ring") == (0.5, half, None, None)
    assert told(of, "cross") == (0.0, [None] * len(COLORS), None, None)


@pytest.mark.parametrize(
    ("relation", "star", "ring"),
    [
        ("left of", (-0.7, None), (0.7, None)),
        ("right of", (0.7, None), (-0.7, None)),
        ("above", (None, -0.7), (None, 0.7)),
        ("below", (None, 0.7), (None, -0.7)),
    ],
)
def test_a_caption_about_positions(relation, star, ring):
    of = facts.of_caption(captions.position("star", relation, "ring"))
    assert told(of, "star")[2:] == star
    assert told(of, "ring")[2:] == ring


def test_exchanged_colours_are_other_facts():
    one = facts.of_caption(captions.color_attr("star", "red", "ring", "blue"))
    other = facts.of_caption(captions.color_attr("star", "blue", "ring", "red"))
    assert told(one, "star")[1][COLORS.index("red")] == 1
    assert facts.loss(one[0][None], facts.stack([one])) == 0
    wrong = facts.loss(one[0][None], facts.stack([other]))
    # Four of the known values (six numbers and two shapes' colours) are off by one.
    assert wrong.item() == pytest.approx(4 / (len(SHAPES) + 2 * len(COLORS)))


def test_a_word_is_its_letters_in_their_places():
    shown = facts.of_scene(Scene("white", sign=Sign("TAP", 16)))
    stated = facts.of_caption(captions.sign("TAP"))
    other = facts.of_caption(captions.sign("PAT"))
    assert torch.equal(shown[0], stated[0])
    assert shown[0].sum() == 3
    assert not torch.equal(stated[0], other[0])

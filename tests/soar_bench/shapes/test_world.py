"""The embedded world: deterministic, true to its captions, honest about what is held out."""

from __future__ import annotations

import hashlib
import json
import random

import numpy as np
import pytest

from evaluators.geneval.rules import Detection, judge
from soar_bench.shapes import captions
from soar_bench.shapes.captions import LEAD_INS, SIGN, TASKS
from soar_bench.shapes.render import render
from soar_bench.shapes.world import BROAD, CLEAN, DISTRIBUTIONS, GRID, example


def perfect(scene):
    return [
        Detection(
            t.shape, 1.0, (t.x - t.radius, t.y - t.radius, t.x + t.radius, t.y + t.radius), t.color
        )
        for t in scene.things
    ]


@pytest.mark.parametrize(
    ("name", "digest"),
    [("shapes-broad", "ed63ad3622b52eaf"), ("shapes-clean", "9e1b51eedaa1d7b3")],
)
def test_the_world_is_the_same_everywhere(name, digest):
    """Pinned: another digest here means that trained weights and records no longer fit it."""
    content = hashlib.sha256()
    for index in range(200):
        drawn = example(DISTRIBUTIONS[name], 0, index)
        content.update(drawn.caption.encode())
        content.update(render(drawn.scene).tobytes())
    assert content.hexdigest()[:16] == digest


def test_an_example_depends_on_seed_and_number_alone():
    later = [example(BROAD, 1, i) for i in (7, 3)]
    assert later == [example(BROAD, 1, 7), example(BROAD, 1, 3)]
    assert example(BROAD, 1, 3) != example(BROAD, 2, 3)
    assert example(BROAD, 1, 3) != example(BROAD, 1, 4)


def test_clean_captions_are_true_and_clean_scenes_are_clean():
    for index in range(1500):
        drawn = example(CLEAN, 3, index)
        assert drawn.caption == drawn.truth["prompt"]
        things = drawn.scene.things
        if drawn.truth["tag"] == SIGN:
            assert drawn.scene.sign.word in drawn.caption
            continue
        assert judge(drawn.truth, perfect(drawn.scene)).correct
        assert len(things) == sum(c["count"] for c in drawn.truth["include"])
        assert all(t.x in GRID and t.y in GRID for t in things)
        for i, a in enumerate(things):
            assert all(max(abs(a.x - b.x), abs(a.y - b.y)) >= 24 for b in things[:i])


def test_broad_captions_are_partly_wrong_and_broad_scenes_overlap():
    drawn = [example(BROAD, 3, i) for i in range(3000)]
    wrong = np.mean([d.caption != d.truth["prompt"] for d in drawn])
    assert wrong == pytest.approx(0.10, abs=0.02)
    scenes = [d for d in drawn if d.truth["tag"] != SIGN]
    extra = np.mean(
        [len(d.scene.things) > sum(c["count"] for c in d.truth["include"]) for d in scenes]
    )
    assert 0.04 < extra < 0.10
    touching = [
        any(
            max(abs(a.x - b.x), abs(a.y - b.y)) < a.radius + b.radius
            for i, a in enumerate(d.scene.things)
            for b in d.scene.things[:i]
        )
        for d in scenes
    ]
    assert np.mean(touching) > 0.03


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_no_training_caption_names_a_held_out_combination(name):
    every = {
        m["prompt"]: m for tag in (*TASKS, SIGN) for lead in LEAD_INS
        for m in captions.every_caption(tag, lead)
    }  # fmt: skip
    for index in range(3000):
        assert not captions.is_held_out(every[example(DISTRIBUTIONS[name], 0, index).caption])


def test_training_names_none_of_the_held_out_combinations_listed_here():
    """By eye from captions.py, not by its own rule."""
    seen = " | ".join(
        example(d, 0, i).caption for d in DISTRIBUTIONS.values() for i in range(6000)
    )  # fmt: skip
    for shape, color in [
        ("circle", "blue"), ("square", "purple"), ("triangle", "black"), ("star", "red"),
        ("cross", "yellow"), ("ring", "green"),
    ]:  # fmt: skip
        assert f"{color} {shape}" not in seen
        assert f"{color} " in seen
    for a, b in [("circle", "star"), ("square", "cross"), ("triangle", "ring")]:
        assert f"a {a} and a {b}" not in seen
        assert f"a {b} and a {a}" not in seen
    for words in ("two stars", "three squares", "four triangles"):
        assert words not in seen
    assert "two squares" in seen
    for word in ("CAR", "CUP", "EAT", "HOT", "LOT", "NET", "PAN", "SET", "SUN", "TAX"):
        assert f'"{word}"' not in seen


def test_held_out_parts_are_what_they_say():
    by_tag = {tag: captions.every_caption(tag) for tag in (*TASKS, SIGN)}
    held = {tag: sum(map(captions.is_held_out, ms)) for tag, ms in by_tag.items()}
    assert {tag: len(ms) for tag, ms in by_tag.items()} == {
        "single_object": 6, "two_object": 30, "counting": 18, "colors": 36, "position": 120,
        "color_attr": 900, "sign": 38,
    }  # fmt: skip
    assert held["single_object"] == 0
    assert held["colors"] == 6
    assert held["counting"] == 3
    assert held["two_object"] == 6
    assert held["position"] == 24
    assert held["sign"] == 10
    # Saying the same with the objects exchanged is held out too.
    for metadata in by_tag["position"]:
        reference, subject = (c["class"] for c in metadata["include"])
        relation = metadata["include"][1]["position"][0]
        turned = captions.position(reference, captions.RELATIONS[relation], subject)
        assert captions.is_held_out(metadata) == captions.is_held_out(turned)
    for metadata in by_tag["color_attr"]:
        (a, ca), (b, cb) = ((c["class"], c["color"]) for c in metadata["include"])
        assert captions.is_held_out(metadata) == captions.is_held_out(
            captions.color_attr(b, cb, a, ca)
        )


def test_every_letter_of_a_held_out_word_is_trained_in_its_place():
    seen = [w for w in captions.WORDS if w not in captions.HELD_OUT_WORDS]
    for word in captions.HELD_OUT_WORDS:
        for place, letter in enumerate(word):
            assert any(w[place] == letter for w in seen), (word, place)


def test_captions_have_genevals_own_form():
    """Compared with lines of the official evaluation_metadata.jsonl, other nouns apart."""
    assert captions.single_object("star") == {
        "tag": "single_object", "include": [{"class": "star", "count": 1}],
        "prompt": "a photo of a star",
    }  # fmt: skip
    assert captions.counting("cross", 2) == {
        "tag": "counting", "include": [{"class": "cross", "count": 2}],
        "exclude": [{"class": "cross", "count": 3}], "prompt": "a photo of two crosses",
    }  # fmt: skip
    assert captions.colors("star", "blue") == {
        "tag": "colors", "include": [{"class": "star", "count": 1, "color": "blue"}],
        "prompt": "a photo of a blue star",
    }  # fmt: skip
    # {"tag": "position", "include": [{"class": "teddy bear", "count": 1}, {"class": "dog",
    #  "count": 1, "position": ["right of", 0]}], ...}
    assert captions.position("ring", "right of", "star") == {
        "tag": "position",
        "include": [
            {"class": "star", "count": 1},
            {"class": "ring", "count": 1, "position": ["right of", 0]},
        ],
        "prompt": "a photo of a ring right of a star",
    }
    json.dumps(captions.every_caption("color_attr"))


def test_altered_captions_are_false():
    rng = random.Random(0)
    for index in range(1500):
        drawn = example(CLEAN, 11, index)
        other = captions.altered(drawn.truth, rng)
        assert other["prompt"] != drawn.truth["prompt"]
        assert other["tag"] == drawn.truth["tag"]
        if other["tag"] != SIGN:
            assert not judge(other, perfect(drawn.scene)).correct, (drawn.truth, other)


def test_render_covers_in_order_and_cuts_at_the_border():
    from soar_bench.shapes.render import Scene, Thing

    both = (Thing("square", "red", 32, 32, 10), Thing("square", "blue", 36, 32, 10))
    image = render(Scene("white", both))
    assert image.shape == (64, 64, 3)
    assert image.dtype == np.uint8
    assert tuple(image[32, 36]) == (40, 90, 220)
    assert tuple(image[32, 24]) == (222, 45, 38)
    assert tuple(image[2, 2]) == (250, 250, 250)
    cut = render(Scene("white", (Thing("circle", "red", 2, 2, 9),)))
    assert tuple(cut[1, 1]) == (222, 45, 38)

"""Exact counts and partial credits, by hand."""

from __future__ import annotations

import pytest

from evaluators.geneval.credit import (
    examine,
    soft,
    soft_flow_grpo,
    strict,
    strict_flow_grpo,
)
from evaluators.geneval.rules import Detection, judge_kept, keep

DOG = {"class": "dog", "count": 1}
CAT = {"class": "cat", "count": 1}
RIGHT_OF_CAT = {"class": "dog", "count": 1, "position": ["right of", 0]}


def at(label, x, color=None):
    return Detection(label, 0.95, (x - 5.0, 45.0, x + 5.0, 55.0), color)


def dog(x=50, color=None):
    return at("dog", x, color)


def cat(x=50, color=None):
    return at("cat", x, color)


def record(*include, exclude=(), tag="two_object"):
    return {"tag": tag, "include": list(include), "exclude": list(exclude)}


def colored(count, color, label="dog"):
    return {"class": label, "count": count, "color": color}


THREE = record({"class": "dog", "count": 3}, exclude=[{"class": "dog", "count": 4}], tag="counting")
COLOR_ATTR = record(colored(1, "red"), colored(1, "blue", "cat"))
POSITION = record(CAT, RIGHT_OF_CAT)
COLOR_AND_POSITION = record(CAT, {**RIGHT_OF_CAT, "color": "red"})

# name, record, objects: official rule, strict, soft, the Flow-GRPO family's soft
TABLE = [
    ("one of one", record(DOG), [dog()], 1, 1, 1, 1),
    ("two of one", record(DOG), [dog(), dog()], 1, 0, 0, 0),
    ("four of one", record(DOG), [dog()] * 4, 1, 0, -2, -2),
    ("sixteen of one", record(DOG), [dog()] * 20, 1, 0, -14, -14),
    ("none of one", record(DOG), [cat()], 0, 0, 0, 0),
    ("nothing", record(DOG), [], 0, 0, 0, 0),
    ("both", record(DOG, CAT), [dog(), cat()], 1, 1, 1, 1),
    ("one of both", record(DOG, CAT), [dog()], 0, 0, 1 / 2, 1 / 2),
    ("three of three", THREE, [dog()] * 3, 1, 1, 1, 1),
    ("two of three", THREE, [dog()] * 2, 0, 0, 2 / 3, 2 / 3),
    ("four of three", THREE, [dog()] * 4, 0, 0, 2 / 3, 2 / 3),
    ("seven of three", THREE, [dog()] * 7, 0, 0, -1 / 3, -1 / 3),
    ("the colour", record(colored(1, "red")), [dog(color="red")], 1, 1, 1, 1),
    # Count 1, colour 0.
    ("another colour", record(colored(1, "red")), [dog(color="blue")], 0, 0, 1 / 2, 1 / 2),
    # The best is red: right. But there are two: count 0, and so colour 0.
    ("a second", record(colored(1, "red")), [dog(color="red")] * 2, 1, 0, 0, 0),
    # Count 1, colour 1 - 1/2.
    (
        "one of two red",
        record(colored(2, "red")),
        [dog(color="red"), dog(color="blue")],
        0,
        0,
        3 / 4,
        3 / 4,
    ),
    ("both colours", COLOR_ATTR, [dog(color="red"), cat(color="blue")], 1, 1, 1, 1),
    ("colours swapped", COLOR_ATTR, [dog(color="blue"), cat(color="red")], 0, 0, 1 / 2, 1 / 2),
    # Dog 1 and 1, cat 0 and 0.
    ("no cat", COLOR_ATTR, [dog(color="red")], 0, 0, 1 / 2, 1 / 2),
    ("in place", POSITION, [cat(20), dog(80)], 1, 1, 1, 1),
    # Cat 1, dog 1, place 0: 2/3. The family appends a 1: 3/4.
    ("out of place", POSITION, [cat(80), dog(20)], 0, 0, 2 / 3, 3 / 4),
    # Cat 0, dog 1, place 0: no target, and no 1 is appended.
    ("no target", POSITION, [dog(80)], 0, 0, 1 / 3, 1 / 3),
    # Cat 1, dog 0, place 0.
    ("no subject", POSITION, [cat(20)], 0, 0, 1 / 3, 1 / 3),
    # Two cats, 0: no exact target, while the official rule takes the best.
    ("two targets", POSITION, [cat(20), cat(30), dog(80)], 1, 0, 1 / 3, 1 / 3),
    ("two subjects", POSITION, [cat(20), dog(80), dog(90)], 1, 0, 1 / 3, 1 / 3),
    # Cat 1, dog 1, colour 1, place 0: 3/4; the family 4/5.
    (
        "right colour, out of place",
        COLOR_AND_POSITION,
        [cat(80), dog(20, "red")],
        0,
        0,
        3 / 4,
        4 / 5,
    ),
    # Cat 1, dog 1, colour 0, place 0; the family does not count a place it has not looked at.
    ("wrong colour, in place", COLOR_AND_POSITION, [cat(20), dog(80, "blue")], 0, 0, 1 / 2, 2 / 3),
    # Cat 1, dog 0, colour 0, place 0; the family has one 0 for both.
    ("colour and place of none", COLOR_AND_POSITION, [cat(20)], 0, 0, 1 / 4, 1 / 3),
]


@pytest.mark.parametrize(
    ("metadata", "found", "official", "exact", "partial", "family"),
    [row[1:] for row in TABLE],
    ids=[row[0] for row in TABLE],
)
def test_the_table(metadata, found, official, exact, partial, family):
    objects = keep(found, metadata["tag"])
    findings = examine(metadata, objects)
    assert judge_kept(metadata, objects).correct == bool(official)
    assert strict(metadata, objects, findings) == bool(exact)
    assert strict_flow_grpo(findings) == bool(exact)
    assert soft(findings) == pytest.approx(partial)
    assert soft_flow_grpo(findings) == pytest.approx(family)


def test_only_our_strict_looks_at_what_is_excluded_besides():
    metadata = record(DOG, exclude=[{"class": "cat", "count": 1}])
    objects = keep([dog(), cat()], "two_object")
    findings = examine(metadata, objects)
    assert not judge_kept(metadata, objects).correct
    assert not strict(metadata, objects, findings)
    assert strict_flow_grpo(findings)


def test_all_pairs_count_for_a_place():
    metadata = record(
        {"class": "cat", "count": 2}, {"class": "dog", "count": 2, "position": ["right of", 0]}
    )
    inside = keep([cat(10), cat(40), dog(70), dog(90)], "position")
    between = keep([cat(10), cat(80), dog(50), dog(99)], "position")
    assert [f.place for f in examine(metadata, inside)] == [None, "right"]
    assert [f.place for f in examine(metadata, between)] == [None, "wrong"]


def test_a_clause_that_failed_is_no_target():
    metadata = record(colored(1, "red", "cat"), RIGHT_OF_CAT)
    findings = examine(metadata, keep([cat(20, "blue"), dog(80)], "position"))
    assert [f.place for f in findings] == [None, "no target"]
    # Cat 1, colour 0, dog 1, place 0.
    assert soft(findings) == soft_flow_grpo(findings) == 1 / 2


def test_colours_are_asked_of_all_the_objects_if_their_number_is_right():
    asked = []

    def colors_of(objects, label):
        asked.append((len(objects), label))
        return ["red"] * len(objects)

    metadata = record(colored(2, "red"))
    examine(metadata, keep([dog(), dog()], "colors"), colors_of)
    examine(metadata, keep([dog(), dog(), dog()], "colors"), colors_of)
    examine(metadata, keep([dog()], "colors"), colors_of)
    assert asked == [(2, "dog")]

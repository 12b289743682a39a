"""GenEval's rules on hand-made detections: every clause and corner."""

from __future__ import annotations

import pytest

from evaluators.geneval.rules import Detection, judge, keep, relations


def box(cx, cy, w=10.0, h=10.0):
    return (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)


def dog(cx=50.0, cy=50.0, score=0.95, color=None, **size):
    return Detection("dog", score, box(cx, cy, **size), color)


def cat(cx=50.0, cy=50.0, score=0.95, color=None, **size):
    return Detection("cat", score, box(cx, cy, **size), color)


def record(tag, *include, exclude=()):
    return {"tag": tag, "include": list(include), "exclude": list(exclude)}


ONE_DOG = record("single_object", {"class": "dog", "count": 1})


def test_one_object():
    assert judge(ONE_DOG, [dog()]).correct
    assert judge(ONE_DOG, [dog(), dog(), cat()]).correct, "more than asked is not wrong here"
    verdict = judge(ONE_DOG, [cat()])
    assert not verdict.correct
    assert verdict.reasons == ("expected 1 dog, found 0",)
    assert not judge(ONE_DOG, []).correct


def test_the_threshold_is_exceeded_not_reached():
    assert not judge(ONE_DOG, [dog(score=0.3)]).correct
    assert judge(ONE_DOG, [dog(score=0.3001)]).correct


def test_counting_has_a_threshold_of_its_own():
    two = record("counting", {"class": "dog", "count": 2}, exclude=[{"class": "dog", "count": 3}])
    assert judge(two, [dog(10), dog(40)]).correct
    assert not judge(two, [dog(10), dog(40, score=0.9)]).correct
    assert judge(two, [dog(10), dog(40), dog(70, score=0.85)]).correct, (
        "a weak third does not count"
    )
    verdict = judge(two, [dog(10), dog(40), dog(70)])
    assert verdict.reasons == ("expected fewer than 3 dog, found 3",)


def test_at_most_sixteen_of_a_class_are_kept_best_first():
    many = [dog(score=0.31 + i / 100) for i in range(30)]
    kept = keep(many, "single_object")["dog"]
    assert len(kept) == 16
    assert kept[0].score == pytest.approx(0.6)
    assert kept[-1].score == pytest.approx(0.45)


def test_two_objects():
    both = record("two_object", {"class": "dog", "count": 1}, {"class": "cat", "count": 1})
    assert judge(both, [dog(), cat()]).correct
    assert judge(both, [dog()]).reasons == ("expected 1 cat, found 0",)
    assert len(judge(both, []).reasons) == 2


def test_colours_are_asked_of_the_best_boxes_only():
    red = record("colors", {"class": "dog", "count": 1, "color": "red"})
    assert judge(red, [dog(color="red")]).correct
    assert not judge(red, [dog(color="blue")]).correct
    # Two dogs: only the one with the higher score is looked at.
    assert judge(red, [dog(color="red", score=0.9), dog(color="blue", score=0.8)]).correct
    assert not judge(red, [dog(color="red", score=0.8), dog(color="blue", score=0.9)]).correct


def test_a_colour_needs_as_many_objects_as_are_asked_for():
    reds = record("colors", {"class": "dog", "count": 2, "color": "red"})
    assert judge(reds, [dog(color="red"), dog(color="red")]).correct
    assert not judge(reds, [dog(color="red"), dog(color="blue")]).correct


def test_a_classifier_is_asked_for_the_colours_of_the_best_boxes():
    asked = []

    def classifier(objects, label):
        asked.append(([o.score for o in objects], label))
        return ["red" for _ in objects]

    red = record("colors", {"class": "dog", "count": 1, "color": "red"})
    assert judge(red, [dog(score=0.8), dog(score=0.9)], classifier).correct
    assert asked == [([0.9], "dog")]


def test_colour_binding():
    bound = record(
        "color_attr",
        {"class": "dog", "count": 1, "color": "red"},
        {"class": "cat", "count": 1, "color": "blue"},
    )
    assert judge(bound, [dog(color="red"), cat(color="blue")]).correct
    assert len(judge(bound, [dog(color="blue"), cat(color="red")]).reasons) == 2


RIGHT_OF = record(
    "position",
    {"class": "cat", "count": 1},
    {"class": "dog", "count": 1, "position": ["right of", 0]},
)


def test_position():
    assert judge(RIGHT_OF, [cat(20), dog(80)]).correct
    assert judge(RIGHT_OF, [cat(80), dog(20)]).reasons == ("expected dog right of cat",)
    assert not judge(RIGHT_OF, [cat(50, 20), dog(50, 80)]).correct


def test_position_without_its_target_is_wrong():
    verdict = judge(RIGHT_OF, [dog(80)])
    assert verdict.reasons == ("expected 1 cat, found 0", "nothing for dog to be right of")


def test_position_must_hold_for_every_pair():
    two = record(
        "position",
        {"class": "cat", "count": 1},
        {"class": "dog", "count": 2, "position": ["right of", 0]},
    )
    assert judge(two, [cat(10), dog(50), dog(80)]).correct
    assert not judge(two, [cat(50), dog(20), dog(80)]).correct


def test_a_failed_colour_makes_a_clause_no_target():
    metadata = record(
        "position",
        {"class": "cat", "count": 1, "color": "red"},
        {"class": "dog", "count": 1, "position": ["right of", 0]},
    )
    verdict = judge(metadata, [cat(20, color="blue"), dog(80)])
    assert verdict.reasons[1] == "nothing for dog to be right of"


def test_the_offset_shrinks_but_its_norm_does_not():
    """dx = 6 and sizes 10 + 10: shrunk by 2 to 4; over the full norm 6 that is 2/3 > 1/2."""
    assert relations(dog(56), cat(50)) == {"right of"}
    # dx = 4 shrinks to 2: 2/4 is exactly one half, which is not more than one half.
    assert relations(dog(54), cat(50)) == set()
    assert relations(dog(54.1), cat(50)) == {"right of"}
    # dx = 2 shrinks to nothing.
    assert relations(dog(52), cat(50)) == set()
    assert relations(dog(), cat()) == set()


def test_a_diagonal_is_both_directions():
    assert relations(dog(80, 80), cat(20, 20)) == {"right of", "below"}
    assert relations(dog(20, 20), cat(80, 80)) == {"left of", "above"}
    # (60, 30): 28/67 of the norm is not more than one half.
    assert relations(dog(80, 50), cat(20, 20)) == {"right of"}


def test_sizes_shrink_each_axis_by_their_own_extent():
    """dx = 20, dy = 25, norm 32.0: dx shrinks by 2 to 18 (0.56), or by 11 to 9 (0.28) if wide."""
    assert relations(dog(80, 50), cat(60, 25)) == {"right of", "below"}
    assert relations(dog(80, 50, w=100), cat(60, 25)) == {"below"}

"""GenEval's rules on hand-made detections: every clause and corner."""

from __future__ import annotations

import numpy as np
import pytest

from evaluators.geneval.rules import (
    Detection,
    judge,
    judge_kept,
    keep,
    keep_as_official,
    relations,
)


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


def test_equal_scores_keep_their_order_or_as_the_official_script_has_it_reverse_it():
    """``argsort`` of (.5, .5, .7) is (0, 1, 2) where it is stable, and [::-1] turns it around."""
    same = [dog(10, score=0.5), dog(20, score=0.5), dog(30, score=0.7)]

    def centres(kept):
        return [(d.box[0] + d.box[2]) / 2 for d in kept["dog"]]

    assert centres(keep(same, "single_object")) == [30, 10, 20]
    assert centres(keep_as_official(same, "single_object")) == [30, 20, 10]


def test_a_tie_decides_which_object_is_asked_for_its_colour():
    red = record("colors", {"class": "dog", "count": 1, "color": "red"})
    tied = [dog(color="blue", score=0.5), dog(color="red", score=0.5)]
    assert not judge(red, tied).correct
    assert judge_kept(red, keep_as_official(tied, "colors")).correct


def test_the_official_script_compares_in_float32():
    """float32(0.3) is 0.3000000119...: more than 0.3, but not more than itself. Its neighbour is
    more; float32(0.9) is 0.8999999762.
    """
    limit, over = np.float32(0.3), np.nextafter(np.float32(0.3), np.float32(1))
    assert float(limit) > 0.3
    assert keep_as_official([dog(score=float(limit))], "colors") == {"dog": []}
    assert len(keep_as_official([dog(score=float(over))], "colors")["dog"]) == 1
    limit, over = np.float32(0.9), np.nextafter(np.float32(0.9), np.float32(1))
    assert keep_as_official([dog(score=float(limit))], "counting") == {"dog": []}
    assert len(keep_as_official([dog(score=float(over))], "counting")["dog"]) == 1


@pytest.mark.parametrize("tag", ["single_object", "two_object", "colors", "position", "color_attr"])
def test_only_counting_has_the_high_threshold(tag):
    for sift in (keep, keep_as_official):
        assert len(sift([dog(score=0.31)], tag)["dog"]) == 1
        assert sift([dog(score=0.31)], "counting") == {"dog": []}


def test_sixteen_are_kept_of_each_class_and_not_of_all():
    many = [dog(score=0.95) for _ in range(20)] + [cat(score=0.95) for _ in range(20)]
    for sift in (keep, keep_as_official):
        assert {label: len(found) for label, found in sift(many, "counting").items()} == {
            "dog": 16,
            "cat": 16,
        }


def test_an_excluded_class_may_have_fewer_than_its_count():
    no_two_cats = record(
        "single_object", {"class": "dog", "count": 1}, exclude=[{"class": "cat", "count": 2}]
    )
    assert judge(no_two_cats, [dog()]).correct
    assert judge(no_two_cats, [dog(), cat()]).correct, "fewer"
    assert not judge(no_two_cats, [dog(), cat(), cat()]).correct, "as many"
    assert not judge(no_two_cats, [dog(), cat(), cat(), cat()]).correct, "more"
    assert judge(no_two_cats, [dog(), cat(), cat(score=0.3)]).correct, "a weak one is none"


def test_a_record_without_exclude_excludes_nothing():
    metadata = {"tag": "single_object", "include": [{"class": "dog", "count": 1}]}
    assert judge(metadata, [dog(), dog(), cat()]).correct


def test_include_and_exclude_are_reported_together():
    both = record("counting", {"class": "dog", "count": 2}, exclude=[{"class": "cat", "count": 1}])
    assert judge(both, [dog(), cat(), cat()]).reasons == (
        "expected 2 dog, found 1",
        "expected fewer than 1 cat, found 2",
    )


@pytest.mark.parametrize(
    ("colors", "right"),
    [
        ("red", False),  # fewer than asked
        ("red red", True),
        ("red blue", False),
        ("red red blue", True),  # the third best is not looked at
        ("red blue red", False),  # the red third cannot stand in for the second
        ("blue red red", False),
        ("red red red", True),  # more than asked
    ],
)
def test_colours_of_the_two_best_of_several(colors, right):
    reds = record("colors", {"class": "dog", "count": 2, "color": "red"})
    dogs = [dog(color=c, score=0.9 - i / 10) for i, c in enumerate(colors.split())]
    assert judge(reds, dogs).correct is right


def test_no_colour_is_asked_when_there_are_too_few():
    def never(objects, label):
        raise AssertionError("asked")

    reds = record("colors", {"class": "dog", "count": 2, "color": "red"})
    assert judge(reds, [dog()], never).reasons == ("expected 2 dog, found 1",)


def test_an_object_without_a_colour_has_none_of_the_colours():
    red = record("colors", {"class": "dog", "count": 1, "color": "red"})
    assert judge(red, [dog(color=None)]).reasons == ("expected 1 red dog, found None",)


def test_position_looks_at_the_best_of_each_class_only():
    """The better cat is right of the dog; the other, left of it, is no target."""
    two_cats = [cat(80, score=0.9), cat(20, score=0.8), dog(50)]
    assert not judge(RIGHT_OF, two_cats).correct
    assert judge(RIGHT_OF, [cat(80, score=0.8), cat(20, score=0.9), dog(50)]).correct


def test_position_must_hold_for_every_one_of_several_targets():
    metadata = record(
        "position",
        {"class": "cat", "count": 2},
        {"class": "dog", "count": 1, "position": ["right of", 0]},
    )
    assert judge(metadata, [cat(10), cat(40), dog(80)]).correct
    assert judge(metadata, [cat(10), cat(90), dog(60)]).reasons == ("expected dog right of cat",)
    assert judge(metadata, [cat(10), dog(60)]).reasons == (
        "expected 2 cat, found 1",
        "nothing for dog to be right of",
    )


def test_a_clause_out_of_place_is_no_target_for_the_next():
    chain = record(
        "position",
        {"class": "cat", "count": 1},
        {"class": "dog", "count": 1, "position": ["right of", 0]},
        {"class": "cow", "count": 1, "position": ["right of", 1]},
    )
    cow = Detection("cow", 0.95, box(120, 50))
    assert judge(chain, [cat(20), dog(70), cow]).correct
    assert judge(chain, [cat(70), dog(20), cow]).reasons == (
        "expected dog right of cat",
        "nothing for cow to be right of",
    )


def test_a_wrong_colour_hides_a_wrong_place():
    metadata = record(
        "position",
        {"class": "cat", "count": 1},
        {"class": "dog", "count": 1, "color": "red", "position": ["right of", 0]},
    )
    assert judge(metadata, [cat(80), dog(20, color="blue")]).reasons == (
        "expected 1 red dog, found blue",
    )
    assert judge(metadata, [cat(80), dog(20, color="red")]).reasons == (
        "expected dog right of cat",
    )


@pytest.mark.parametrize(
    ("dx", "dy", "expected"),
    [
        # Sizes 10 + 10 shrink each component by 2; a direction needs more than half the norm.
        (4, 0, set()),  # 2/4
        (-4, 0, set()),
        (0, 4, set()),
        (0, -4, set()),
        (5, 0, {"right of"}),  # 3/5
        (-5, 0, {"left of"}),
        (0, 5, {"below"}),
        (0, -5, {"above"}),
        (3, 4, set()),  # 1/5 and 2/5
        (9, 12, {"below"}),  # 7/15 = 0.47 and 10/15
        (12, 9, {"right of"}),
        (6, 8, {"below"}),  # 4/10 and 6/10
        (12, 16, {"below"}),  # 10/20 is exactly one half and not more; 14/20
        (12.1, 16, {"right of", "below"}),  # 10.1/20.06 = 0.5035
        (2, 2, set()),  # both shrink to 0
        (2.0009, 0, set()),  # 0.0009 left: less than 0.001 in both components is no offset
        (2.0011, 0, set()),  # an offset, but 0.0011/2.0011 of the norm
    ],
)
def test_offsets_at_the_limits(dx, dy, expected):
    assert relations(dog(50 + dx, 50 + dy), cat(50, 50)) == expected


def test_overlapping_objects_have_no_relation():
    """Two large boxes, 15 apart: 0.1 (60 + 60) = 12 of it is taken, 3/15 is left."""
    assert relations(dog(65, 50, w=60, h=60), cat(50, 50, w=60, h=60)) == set()
    metadata = record(
        "position",
        {"class": "cat", "count": 1},
        {"class": "dog", "count": 1, "position": ["right of", 0]},
    )
    overlapping = [cat(50, 50, w=60, h=60), dog(65, 50, w=60, h=60)]
    assert judge(metadata, overlapping).reasons == ("expected dog right of cat",)


def test_relations_agree_with_the_published_formula_on_many_boxes():
    """The formula in float32 arrays, as the official script computes it."""
    random = np.random.default_rng(0)
    corners = random.integers(0, 64, (2, 4000, 2, 2)).astype(np.float32)
    corners = np.sort(corners, axis=2)
    corners[:, :, 1] += 1  # [subject or reference, pair, low or high, x or y]
    offset = corners[0].mean(1) - corners[1].mean(1)
    extent = (corners[:, :, 1] - corners[:, :, 0]).sum(0)
    left = np.clip(np.abs(offset) - np.float32(0.1) * extent, 0, None)
    norm = np.maximum(np.linalg.norm(offset, axis=1), 1e-6)
    share = np.sign(offset) * left / norm[:, None]
    share[(left < 1e-3).all(1)] = 0
    for k in range(corners.shape[1]):
        a, b = (Detection("dog", 0.9, tuple(map(float, c[k].ravel()))) for c in corners)
        x, y = share[k]
        names = {"left of": -x, "right of": x, "above": -y, "below": y}
        assert relations(a, b) == {name for name, part in names.items() if part > 0.5}

"""GenEval's evaluators over a detector that finds what the test painted."""

from __future__ import annotations

import json

import numpy as np
import pytest
from painted import LABELS, ONE_DOG, RIGHT_OF, Painted, picture, record, red, sample, thing, values

from evaluators.clip import tower
from evaluators.geneval.colors import ColorClassifier, Cutout
from evaluators.geneval.detectors.types import Instance
from evaluators.geneval.evaluator import FLOW_GRPO, OFFICIAL

TWO_DOGS = record("counting", {"class": "dog", "count": 2}, exclude=[{"class": "dog", "count": 3}])


def test_the_three_numbers_of_both_protocols(make):
    """Official rule, strict, soft; the protocols differ in soft after a wrong relation only."""
    samples = [
        sample(picture(thing("dog")), ONE_DOG),
        sample(picture(thing("dog"), thing("dog", 40)), ONE_DOG),
        sample(picture(thing("cat")), ONE_DOG),
        sample(picture(thing("dog"), thing("dog", 40)), TWO_DOGS),
        # Below counting's threshold, above the others'.
        sample(picture(thing("dog"), thing("dog", 40, score=0.8)), TWO_DOGS),
        sample(picture(*(thing("dog", x) for x in (5, 25, 45))), TWO_DOGS),
        sample(picture(thing("cat", 5), thing("dog", 60)), RIGHT_OF),
        sample(picture(thing("dog", 5), thing("cat", 60)), RIGHT_OF),
    ]
    expected = [
        (1, 1, 1),
        (1, 0, 0),
        (0, 0, 0),
        (1, 1, 1),
        (0, 0, 1 / 2),
        (0, 0, 1 / 2),
        (1, 1, 1),
        (0, 0, 2 / 3),
    ]
    assert values(make(), *samples) == [pytest.approx(e) for e in expected]
    family = [*expected[:-1], (0, 0, 3 / 4)]
    assert values(make(FLOW_GRPO), *samples) == [pytest.approx(e) for e in family]


def test_names_and_means_tell_the_protocols_apart(make):
    official, family = make(), make(FLOW_GRPO)
    assert [m.name for m in official.metrics] == ["geneval", "geneval_strict", "geneval_soft"]
    assert [m.name for m in family.metrics] == [
        "geneval_flow_grpo",
        "geneval_flow_grpo_strict",
        "geneval_flow_grpo_soft",
    ]
    assert (official.name, family.name) == ("geneval", "geneval-flow-grpo")
    assert {m.aggregate for m in official.metrics} == {"task_mean"}
    assert {m.aggregate for m in family.metrics} == {"mean"}
    assert all("Not comparable" in m.description for m in family.metrics)
    assert not any("omparable" in m.description for m in official.metrics)
    assert official.shares == "clip-vit-l-14"


def test_the_identity_tells_detectors_apart(make, clip):
    class Other(Painted):
        def identity(self):
            return {"painted": "2"}

    first, second = make().identity(), make(detector=Other()).identity()
    assert first != second
    assert first[clip.name] == clip.digest() == second[clip.name]


def test_anothers_detector_gives_its_name_to_the_metrics(make):
    mine = make(detector=Painted(name="My DETR-2", comparable=False))
    assert mine.name == "geneval-my-detr-2"
    assert [m.name for m in mine.metrics] == [
        "geneval_my_detr_2",
        "geneval_my_detr_2_strict",
        "geneval_my_detr_2_soft",
    ]
    for metric in mine.metrics:
        assert "not comparable with published" in metric.description
        assert "My DETR-2" in metric.version
        assert "Mask2Former" not in metric.version
    assert values(mine, sample(picture(thing("dog")), ONE_DOG)) == [(1, 1, 1)]


def colours_of(clip, image, objects):
    """The tiny CLIP's opinion of objects, one by one."""
    classifier = ColorClassifier(tower(clip, clip, "cpu", "float32", "a CLIP"))
    return [classifier.classify([Cutout(image, o.box, o.mask, o.label)])[0] for o in objects]


def test_colours_come_from_the_classifier(make, clip):
    image = picture(thing("dog", green=30), thing("cat", 50, green=200))
    dog, cat = (colours_of(clip, image, [o])[0] for o in Painted().detect([image])[0])
    right = record("color_attr", red(color=dog), red("cat", cat))
    another = next(c for c in ("red", "blue") if c != dog)
    wrong = record("color_attr", red(color=another), red("cat", cat))
    assert values(make(), sample(image, right), sample(image, wrong)) == [
        (1, 1, 1),
        (0, 0, pytest.approx(3 / 4)),
    ]


def test_only_objects_whose_colour_a_rule_asks_for_are_classified(make, monkeypatch):
    classified = []
    classify = ColorClassifier.classify

    def spy(self, cutouts):
        classified.append([c.name for c in cutouts])
        return classify(self, cutouts)

    monkeypatch.setattr(ColorClassifier, "classify", spy)
    crowd = picture(thing("dog"), thing("dog", 40, score=0.9), thing("cat", 70))
    evaluator = make()
    evaluator.score(
        [
            sample(crowd, record("colors", red())),  # the best dog only
            sample(crowd, record("colors", red(count=2))),  # both dogs
            sample(crowd, record("colors", red(count=3))),  # too few: none
            sample(crowd, record("color_attr", red(), red("cat", "blue"))),
            sample(crowd, ONE_DOG),
        ]
    )
    assert classified == [["dog", "dog", "dog", "dog", "cat"]], "one pass, for all images"
    evaluator.score([sample(crowd, ONE_DOG)])
    assert len(classified) == 1


def test_a_detector_that_knows_colours_is_believed(make):
    class Knows(Painted):
        def _objects(self, image):
            return [
                Instance(o.label, o.score, o.box, "pink", mask=None)
                for o in super()._objects(image)
            ]

    pink = record("colors", red(color="pink"))
    evaluator = make(detector=Knows(comparable=False))
    assert values(evaluator, sample(picture(thing("dog")), pink)) == [(1, 1, 1)]


def test_details_say_what_was_seen_and_what_is_wrong(make):
    image = picture(thing("cat", 60), thing("dog", 10, score=0.2), thing("dog", 30, score=0.5))
    scores = make().score([sample(image, record("colors", red(count=2)))])[0]
    details = json.loads(json.dumps(dict(scores["geneval"].details)))
    assert details["reasons"] == ["expected 2 dog, found 1"]
    assert details["detections"] == [
        {"label": "cat", "score": 0.9804, "box": [60.0, 10.0, 72.0, 22.0]},
        {"label": "dog", "score": 0.502, "box": [30.0, 10.0, 42.0, 22.0]},
    ]
    seen = make().score([sample(image, record("colors", red("cat")))])[0]["geneval"].details
    assert seen["detections"][0]["color"]
    assert "color" not in seen["detections"][1]
    assert "reasons" not in make().score([sample(image, ONE_DOG)])[0]["geneval"].details


def test_prompts_of_other_suites_are_unscored_and_not_looked_at(make):
    detector = Painted()
    evaluator = make(detector=detector)
    image = picture(thing("dog"))
    results = evaluator.score(
        [sample(image, {}), sample(image, ONE_DOG), sample(image, {"tag": "sign"})]
    )
    assert [r["geneval"].value for r in results] == [None, 1.0, None]
    for result in (results[0], results[2]):
        assert {s.unscored for s in result.values()} == {"the prompt has no GenEval task"}
    assert detector.asked == [1]
    assert evaluator.score([]) == []


def test_scores_depend_on_the_sample_alone(make):
    random = np.random.default_rng(3)
    records = [ONE_DOG, TWO_DOGS, RIGHT_OF, record("colors", red()), record("color_attr", red())]
    samples = []
    for seed in range(20):
        things = [
            thing(
                str(random.choice(list(LABELS))),
                int(random.integers(0, 80)),
                int(random.integers(0, 50)),
                int(random.integers(0, 255)),
                float(random.uniform(0.25, 1)),
            )
            for _ in range(4)
        ]
        size = (int(random.integers(62, 90)), int(random.integers(92, 120)))
        image = picture(*things, size=size, seed=seed)
        samples += [sample(image, r) for r in random.permutation(np.array(records, object))[:3]]
    for protocol in (OFFICIAL, FLOW_GRPO):
        together = make(protocol).score(samples)
        assert make(protocol).score(samples[::-1])[::-1] == together
        evaluator = make(protocol)
        assert [evaluator.score([s])[0] for s in samples] == together
    assert len({r["geneval_flow_grpo_soft"].value for r in together}) > 3


def test_flow_grpos_repeated_lines_are_each_scored(make):
    """Its file has each prompt four times, in any order, with ``prompt`` in the record."""
    image = picture(thing("dog"))
    line = json.loads(json.dumps(ONE_DOG))
    assert values(make(FLOW_GRPO), *[sample(image, line)] * 4) == [(1, 1, 1)] * 4

"""GenEval's evaluators over a detector that finds what the test painted, and a tiny CLIP."""

from __future__ import annotations

import json

import numpy as np
import pytest

from evaluators.catalogue import CLIP_VIT_L_14
from evaluators.clip import tower
from evaluators.geneval.colors import ColorClassifier, Cutout
from evaluators.geneval.detectors.types import Instance
from evaluators.geneval.evaluator import FLOW_GRPO, OFFICIAL, GenEval
from evaluators.golden.clip import EMBEDDING, write_clip
from evaluators.testing import check_evaluator
from evaluators.types import EvaluatorError, Sample

#: The painted value of a class's objects in the red channel: no two objects share one.
LABELS = {"dog": range(10, 30), "cat": range(30, 50), "cow": range(50, 70)}


class Painted:
    """Finds each value of the red channel as one object; its score is in the blue channel."""

    name = "painted"
    comparable = True
    weights = ()

    def __init__(self, **changes):
        self.asked = []
        for name, value in changes.items():
            setattr(self, name, value)

    def check(self):
        return

    def identity(self):
        return {"painted": "1"}

    def load(self, device, dtype):
        return

    def detect(self, images):
        self.asked.append(len(images))
        return [self._objects(image) for image in images]

    def _objects(self, image):
        found = []
        for label, values in LABELS.items():
            for value in values:
                mask = image[..., 0] == value
                if not mask.any():
                    continue
                rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
                box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
                score = float(np.float32(image[mask][0, 2]) / np.float32(255))
                found.append(Instance(label, score, tuple(map(float, box)), mask=mask))
        return sorted(found, key=lambda o: -o.score)


def picture(*things, size=(64, 96), seed=0):
    """``things`` are (label, x, y, green value, score): squares of 12 pixels on noise."""
    image = np.random.default_rng(seed).integers(100, 255, (*size, 3), dtype=np.uint8)
    left = {label: list(values) for label, values in LABELS.items()}
    for label, x, y, green, score in things:
        image[y : y + 12, x : x + 12] = (left[label].pop(0), green, round(score * 255))
    return image


def thing(label, x=10, y=10, green=120, score=0.98):
    return (label, x, y, green, score)


def record(tag, *include, **more):
    return {"tag": tag, "include": list(include), "prompt": "as its own", **more}


def sample(image, metadata):
    return Sample(image, "a photo of it", metadata)


ONE_DOG = record("single_object", {"class": "dog", "count": 1})
TWO_DOGS = record("counting", {"class": "dog", "count": 2}, exclude=[{"class": "dog", "count": 3}])
RIGHT_OF = record(
    "position",
    {"class": "cat", "count": 1},
    {"class": "dog", "count": 1, "position": ["right of", 0]},
)


def red(label="dog", color="red", count=1):
    return {"class": label, "count": count, "color": color}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    write_clip(folder)
    return CLIP_VIT_L_14.at(folder)


@pytest.fixture()
def make(clip):
    def make(protocol=OFFICIAL, detector=None, **more):
        found = GenEval(
            detector or Painted(), protocol=protocol, clip=clip, embedding=EMBEDDING, **more
        )
        found.check()
        found.load()
        return found

    return make


def values(evaluator, *samples):
    return [
        tuple(result[m.name].value for m in evaluator.metrics)
        for result in evaluator.score(samples)
    ]


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


BAD = [
    ({"tag": "colors"}, "it has no include clauses"),
    (record("colors"), "it has no include clauses"),
    ({"tag": "colors", "include": "dog"}, "it has no include clauses"),
    (record("colors", "dog"), "include clause 1 is 'dog'"),
    (record("colors", {"class": "dgo", "count": 1}), r"unknown class 'dgo' \(did you mean dog\?\)"),
    (record("colors", {"count": 1}), "unknown class None"),
    (record("colors", {"class": "dog"}), "the count None"),
    (record("colors", {"class": "dog", "count": 0}), "the count 0"),
    (record("colors", {"class": "dog", "count": True}), "the count True"),
    (record("colors", {"class": "dog", "count": 1.5}), r"the count 1\.5"),
    (record("colors", red(color="grey")), r"unknown colour 'grey' \(known: red, orange"),
    (record("colors", {"class": "dog", "count": 1, "colour": "red"}), "has 'colour'"),
    (record("position", *RIGHT_OF["include"][1:]), "clause index 0, which is no clause before"),
    (
        record("position", {"class": "cat", "count": 1}, red() | {"position": ["left of", 1]}),
        "include clause 2 is left of clause index 1",
    ),
    (
        record("position", {"class": "cat", "count": 1}, red() | {"position": ["left of", -1]}),
        "clause index -1",
    ),
    (
        record("position", {"class": "cat", "count": 1}, red() | {"position": ["beside", 0]}),
        "unknown relation 'beside'",
    ),
    (
        record("position", {"class": "cat", "count": 1}, red() | {"position": "left of"}),
        "position 'left of'",
    ),
    (ONE_DOG | {"exclude": {"class": "dog"}}, "exclude is no list"),
    (ONE_DOG | {"exclude": [{"class": "cta", "count": 1}]}, "exclude clause 1 .* 'cta'"),
    (ONE_DOG | {"exclude": [red()]}, "exclude clause 1 has 'color'"),
]


@pytest.mark.parametrize(("metadata", "message"), BAD)
def test_a_malformed_record_is_refused_by_name(make, metadata, message):
    with pytest.raises(EvaluatorError, match=f"'a photo of it' is malformed: .*{message}"):
        make().score([sample(picture(), metadata)])


def test_a_detector_may_know_other_classes(make):
    metadata = record("single_object", {"class": "star", "count": 1})
    evaluator = make(detector=Painted(comparable=False), classes=("star",))
    assert values(evaluator, sample(picture(), metadata)) == [(0, 0, 0)]
    with pytest.raises(EvaluatorError, match="unknown class 'dog'"):
        evaluator.score([sample(picture(), ONE_DOG)])


def test_a_detector_that_breaks_its_contract_is_named(make):
    class Few(Painted):
        def detect(self, images):
            return super().detect(images)[1:]

    class Small(Painted):
        def _objects(self, image):
            return [Instance("dog", 0.9, (0, 0, 4, 4), mask=np.ones((4, 4), bool))]

    image = sample(picture(thing("dog")), ONE_DOG)
    with pytest.raises(EvaluatorError, match="painted returned objects of 1 images for 2"):
        make(detector=Few()).score([image, image])
    with pytest.raises(EvaluatorError, match=r"painted gave a mask of \[4, 4\].*\[64, 96\]"):
        make(detector=Small()).score([image])


def test_a_detector_that_cannot_run_is_found_before_any_work(clip):
    class Absent(Painted):
        def check(self):
            raise EvaluatorError("install it")

    with pytest.raises(EvaluatorError, match="install it"):
        GenEval(Absent(), clip=clip).check()
    with pytest.raises(EvaluatorError, match="lacks config"):
        GenEval(Painted(), clip=CLIP_VIT_L_14.at(clip.folder / "nowhere")).check()


@pytest.mark.parametrize(("protocol", "channels"), [(OFFICIAL, "rgb"), (FLOW_GRPO, "bgr")])
def test_the_protocols_do_not_take_each_others_channels(clip, protocol, channels):
    with pytest.raises(
        EvaluatorError, match=f"{protocol.name} hands its detector .*not {channels.upper()}"
    ):
        GenEval(Painted(channels=channels), protocol=protocol, clip=clip)


def test_the_contract_of_an_evaluator_is_kept(clip):
    image = picture(thing("dog"), thing("cat", 50))
    small = picture(thing("cat", 3, 3), thing("dog", 22, 3), size=(24, 40))
    samples = [
        sample(image, ONE_DOG),
        sample(image, record("color_attr", red(), red("cat", "blue"))),
        sample(small, RIGHT_OF),
        sample(small, {}),
    ]
    for protocol in (OFFICIAL, FLOW_GRPO):
        check_evaluator(
            lambda p=protocol: GenEval(Painted(), protocol=p, clip=clip, embedding=EMBEDDING),
            samples,
            processes=False,
        )


def test_a_clip_of_another_kind_is_refused(clip):
    with pytest.raises(EvaluatorError, match="GenEval's colour classifier CLIP ViT-L/14"):
        GenEval(Painted(), clip=clip).load()


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

"""GenEval's records, detectors and classifiers that are refused."""

from __future__ import annotations

import numpy as np
import pytest
from painted import ONE_DOG, RIGHT_OF, Painted, picture, record, red, sample, thing, values

from evaluators.catalogue import CLIP_VIT_L_14
from evaluators.geneval.detectors.types import Instance
from evaluators.geneval.evaluator import FLOW_GRPO, OFFICIAL, GenEval
from evaluators.golden.clip import EMBEDDING
from evaluators.testing import check_evaluator
from evaluators.types import EvaluatorError

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

"""Built-in evaluators keep the contract that plug-ins are held to."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from evaluators import registry
from evaluators.testing import check_evaluator, sample_images
from evaluators.types import Sample
from soar_bench.shapes.render import Scene, Sign, Thing, render

RECORD = {"tag": "single_object", "include": [{"class": "star", "count": 1}]}


def scenes():
    """A right image, a wrong one, other sizes, and one without a task."""
    star = render(Scene("white", (Thing("star", "red", 20, 28, 9),)))
    images = [star, *sample_images().values()]
    judged = [Sample(image, "a photo of a star", RECORD) for image in images]
    return [*judged, Sample(star, "a photo of a star", {"tag": "sign", "include": []})]


def signs():
    """Few, because engines are slow: misread, blank, wide, and no text wanted."""
    cat = render(Scene("mist", sign=Sign("CAT", 16)))
    blank = np.full((64, 64, 3), 250, np.uint8)
    wide = np.concatenate([blank, cat], axis=1)
    return [
        Sample(cat, 'a sign saying "CAR"'),
        Sample(blank, 'a sign saying "CAT"'),
        Sample(wide, 'a sign saying "CAT"'),
        Sample(cat, "a sign"),
    ]


@pytest.mark.parametrize(
    ("name", "samples"),
    [("shapes-geneval", scenes), ("shapes-clipscore", scenes), ("ocr", signs)],
)
def test_a_built_in_evaluator_keeps_the_contract(name, samples):
    factory = partial(registry.create, name)
    assert factory().name == name
    check_evaluator(factory, samples())

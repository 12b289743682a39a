"""The transformers detector against what mmdet itself returned; see data/README.md."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluators.catalogue import MASK2FORMER
from evaluators.geneval.detectors.architecture import Architecture
from evaluators.geneval.detectors.keys import mmdet2_key
from evaluators.geneval.detectors.mask2former import Mask2FormerSwinS
from evaluators.geneval.detectors.names import OBJECT_NAMES
from evaluators.geneval.detectors.postprocessing import instances, mask_box
from evaluators.geneval.detectors.preprocessing import prepare
from evaluators.golden.geneval import TINY, official_state
from evaluators.types import EvaluatorError

DATA = Path(__file__).parent / "data"
FILE = MASK2FORMER.files[0].path
TOLERANCE = 2e-3


def _module(file):
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


formulas = _module(DATA / "formulas.py")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Files in mmdet 2's layout, by size."""

    def make(architecture, fill):
        folder = tmp_path_factory.mktemp("mask2former")
        torch.save({"state_dict": official_state(architecture, fill, mmdet2_key)}, folder / FILE)
        return MASK2FORMER.at(folder)

    return make


@pytest.fixture(scope="module")
def tiny_weights(weights):
    return weights(TINY, formulas.lively_fill)


@pytest.fixture(scope="module")
def tiny(tiny_weights):
    detectors = {}
    for preprocessing in ("mmdet3", "mmdet2"):
        detectors[preprocessing] = detector = Mask2FormerSwinS(
            preprocessing=preprocessing, weights=tiny_weights, architecture=TINY
        )
        detector.load()
    return detectors


@pytest.fixture(scope="module")
def full(weights):
    detector = Mask2FormerSwinS(weights=weights(Architecture(), formulas.fill))
    detector.load()
    return detector


def reference(preprocessing, size, picture):
    with np.load(DATA / f"{preprocessing}.npz") as figures:
        prefix = f"{size}/{picture}/"
        return {k.removeprefix(prefix): figures[k] for k in figures if k.startswith(prefix)}


def assert_as_mmdet(detector, picture, expected):
    """Class and mask logits, and the objects made of them, in one pass."""
    image = formulas.picture(picture)
    prepared = prepare(image, "bgr", detector.preprocessing)
    classes, masks = detector.logits(prepared)
    for objects, expected_array in (
        (classes[::2].numpy(), expected["class_logits"]),
        (masks[::10, 3::8, 3::8].numpy(), expected["mask_logits"]),
    ):
        assert objects.shape == expected_array.shape
        assert (np.abs(objects - expected_array) <= TOLERANCE).mean() >= 0.99
    padded = prepared.pixels.shape[1:]
    objects = instances(classes, masks, padded, prepared.size, image.shape[:2])
    assert_same_objects(objects, expected)


def assert_same_objects(objects, expected):
    """At least 95 of 100: same label, box within 2 pixels, score within 1e-3, area within 0.5%."""
    boxes = np.array([instance.box for instance in objects])
    scores = np.array([instance.score for instance in objects])
    labels = np.array([OBJECT_NAMES.index(instance.label) for instance in objects])
    areas = np.array([instance.mask.sum() for instance in objects])
    assert len(objects) == len(expected["boxes"]) == 100
    free = np.ones(100, dtype=bool)
    for box, score, label, area in zip(
        *(expected[key] for key in ("boxes", "scores", "labels", "areas")), strict=True
    ):
        fits = free & (labels == label) & (np.abs(scores - score) < 1e-3)
        fits &= (np.abs(boxes - box) <= 2).all(axis=1)
        fits &= np.abs(areas - area) <= 0.005 * area + 4
        if fits.any():
            free[np.flatnonzero(fits)[0]] = False
    assert (~free).sum() >= 95


@pytest.mark.parametrize("preprocessing", ["mmdet3", "mmdet2"])
@pytest.mark.parametrize("picture", formulas.PICTURES)
def test_a_small_model_finds_what_mmdet_finds(tiny, preprocessing, picture):
    """mmdet 3.3.0 and mmdet 2.27.0, on a square and on pictures padded on either side."""
    expected = reference(preprocessing, "tiny", picture)
    assert len(set(expected["labels"])) > 5
    assert len(np.unique(expected["boxes"], axis=0)) > 5
    assert_as_mmdet(tiny[preprocessing], picture, expected)
    (objects,) = tiny[preprocessing].detect([formulas.picture(picture)])
    assert_same_objects(objects, expected)


@pytest.mark.slow
def test_the_full_model_finds_what_mmdet_finds_on_a_padded_picture(full):
    assert_as_mmdet(full, "wide", reference("mmdet3", "full", "wide"))


@pytest.mark.slow
@pytest.mark.parametrize("picture", ["square", "tall"])
def test_the_full_model_finds_what_mmdet_finds_on_other_pictures(full, picture):
    assert_as_mmdet(full, picture, reference("mmdet3", "full", picture))


@pytest.mark.slow
def test_the_full_model_finds_what_mmdet_2_finds_on_a_padded_picture(full, monkeypatch):
    monkeypatch.setattr(full, "preprocessing", "mmdet2")
    assert_as_mmdet(full, "wide", reference("mmdet2", "full", "wide"))


def plain(objects):
    return [(i.label, round(i.score, 6), i.box, i.mask.sum()) for i in objects]


def test_what_is_found_depends_on_the_image_alone(tiny):
    detector = tiny["mmdet3"]
    images = [formulas.picture(name)[::2, ::2] for name in ("wide", "tall")]
    together = [plain(objects) for objects in detector.detect(images)]
    backwards = [plain(objects) for objects in detector.detect(images[::-1])][::-1]
    alone = [plain(detector.detect([image])[0]) for image in images]
    assert together == backwards == alone


def test_masks_have_the_images_own_size_and_fit_their_boxes(tiny):
    image = formulas.picture("tall")
    (objects,) = tiny["mmdet3"].detect([image])
    assert [i.score for i in objects] == sorted((i.score for i in objects), reverse=True)
    for instance in objects:
        assert instance.mask.shape == image.shape[:2]
        assert instance.mask.dtype == bool
        assert instance.box == mask_box(instance.mask)
        assert 0 <= instance.score <= 1


def test_handing_rgb_over_is_handing_a_swapped_image_over(tiny, tiny_weights):
    image = formulas.picture("wide")
    swapped = Mask2FormerSwinS(channels="rgb", weights=tiny_weights, architecture=TINY)
    swapped.load()
    (objects,) = swapped.detect([image])
    (expected,) = tiny["mmdet3"].detect([image[..., ::-1]])
    (straight,) = tiny["mmdet3"].detect([image])
    assert plain(objects) == plain(expected)
    assert plain(objects) != plain(straight)


def test_an_image_of_any_size_is_taken(tiny):
    images = [np.zeros((1, 1, 3), np.uint8), formulas.picture("tall")[:33, :190]]
    for image, objects in zip(images, tiny["mmdet3"].detect(images), strict=True):
        assert len(objects) == 100
        assert objects[0].mask.shape == image.shape[:2]
    assert tiny["mmdet3"].detect([]) == []


def test_identity_tells_settings_apart_and_weights_by_digest(tiny):
    new, old = tiny["mmdet3"].identity(), tiny["mmdet2"].identity()
    assert new != old
    assert new[MASK2FORMER.name] == old[MASK2FORMER.name]
    assert len(new[MASK2FORMER.name]) == 64


def test_misuse_is_said_in_one_sentence(tiny_weights):
    with pytest.raises(EvaluatorError, match="bgr or rgb"):
        Mask2FormerSwinS(channels="BGR")
    with pytest.raises(EvaluatorError, match="mmdet3 or mmdet2"):
        Mask2FormerSwinS(preprocessing="mmdet")
    detector = Mask2FormerSwinS(weights=tiny_weights, architecture=TINY)
    with pytest.raises(EvaluatorError, match="must be loaded"):
        detector.detect([formulas.picture("wide")])
    with pytest.raises(EvaluatorError, match="float32"):
        detector.load(dtype="bfloat16")
    other = Mask2FormerSwinS(weights=tiny_weights, architecture=replace(TINY, queries=21))
    with pytest.raises(EvaluatorError, match="another shape"):
        other.load()


def test_scores_boxes_and_masks_follow_from_the_logits_by_hand():
    """Two queries, two classes; no resize, so that every number can be worked out."""
    classes = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 3.0]])
    masks = torch.full((2, 4, 4), -5.0)
    masks[0, 1:3, 0:2] = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    objects = instances(classes, masks, (4, 4), (4, 4), (4, 4))

    def probability(row, column):
        powers = np.exp(classes[row].numpy())
        return powers[column] / powers.sum()

    inside = np.mean([1 / (1 + np.exp(-value)) for value in (1.0, 2.0, 3.0)])
    assert [i.label for i in objects[:2]] == ["person", "bicycle"]
    assert objects[0].score == pytest.approx(probability(0, 0) * inside, rel=1e-5)
    assert objects[1].score == pytest.approx(probability(0, 1) * inside, rel=1e-5)
    assert objects[0].box == (0, 1, 2, 3)
    assert np.argwhere(objects[0].mask).tolist() == [[1, 0], [1, 1], [2, 0]]
    # the second query's mask is empty: it is kept, with score 0 and an empty box
    assert [i.score for i in objects[2:]] == [0.0, 0.0]
    assert objects[2].box == (0, 0, 0, 0)


def test_padding_is_cut_away_before_masks_get_the_images_size():
    """A mask over the left half of a picture that fills three quarters of its padded input."""
    classes = torch.tensor([[9.0, 0.0]])
    masks = torch.full((1, 8, 8), -4.0)
    masks[:, :, :3] = 4.0
    (instance,) = instances(classes, masks, (32, 32), (32, 24), (64, 48))
    assert instance.box == (0, 0, 24, 64)


def test_many_objects_are_cut_at_100():
    generator = torch.Generator().manual_seed(0)
    classes = torch.randn(30, 81, generator=generator)
    masks = torch.randn(30, 8, 8, generator=generator)
    objects = instances(classes, masks, (32, 32), (32, 32), (20, 20))
    assert len(objects) == 100
    probabilities = classes.softmax(-1)[:, :-1].flatten().sort(descending=True).values[:100]
    assert max(i.score for i in objects) <= float(probabilities[0])

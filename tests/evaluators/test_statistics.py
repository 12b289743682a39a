"""Picture statistics against values worked out by hand and against SciPy's and Pillow's own."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy import ndimage

from evaluators import statistics
from evaluators.statistics import PictureStatistics
from evaluators.testing import check_evaluator, sample_images
from evaluators.types import Sample

NOISE = np.random.default_rng(1).integers(0, 256, (23, 31, 3), dtype=np.uint8)


def scores(image):
    (of_sample,) = PictureStatistics().score([Sample(image, "a photo")])
    return {name: score.value for name, score in of_sample.items()}


def test_a_flat_picture_is_blank_and_has_no_edges():
    grey = np.full((8, 8, 3), (128, 0, 0), np.uint8)
    expected = {"sharpness": 0, "edge_density": 0, "contrast": 0, "saturation": 1, "blank": 1}
    assert scores(grey) == pytest.approx(expected | {"brightness": 0.299 * 128 / 255}, abs=1e-12)
    assert scores(np.zeros((8, 8, 3), np.uint8))["saturation"] == 0


def test_half_black_half_white_by_hand():
    """The step is one pixel wide: Laplacian 1 and -1 beside it, Sobel 4 on both sides."""
    image = np.zeros((6, 8, 3), np.uint8)
    image[:, 4:] = 255
    values = scores(image)
    assert values["sharpness"] == pytest.approx(2 / 6)
    assert values["edge_density"] == pytest.approx(2 / 6)
    assert values["contrast"] == pytest.approx(0.5) and values["brightness"] == pytest.approx(0.5)
    assert values["blank"] == 0


def test_filters_are_scipys():
    y = statistics.luma(NOISE)
    inner = (slice(1, -1), slice(1, -1))
    assert statistics.sharpness(NOISE) == pytest.approx(ndimage.laplace(y)[inner].var())
    gradient = np.hypot(ndimage.sobel(y, 0), ndimage.sobel(y, 1))[inner]
    assert statistics.edge_density(NOISE) == (gradient > statistics.EDGE).mean()


def test_saturation_is_hsvs_and_luma_is_pillows():
    hsv = [colorsys.rgb_to_hsv(*pixel)[1] for pixel in (NOISE.reshape(-1, 3) / 255).tolist()]
    assert statistics.saturation(NOISE) == pytest.approx(np.mean(hsv))
    grey = np.asarray(Image.fromarray(NOISE).convert("L")) / 255
    assert np.abs(statistics.luma(NOISE) - grey).max() < 1 / 255


@pytest.mark.parametrize(
    ("change", "metric"),
    [
        (lambda im: im.filter(ImageFilter.GaussianBlur(2)), "sharpness"),
        (lambda im: im.filter(ImageFilter.GaussianBlur(2)), "edge_density"),
        (lambda im: Image.blend(im, Image.new("RGB", im.size, "grey"), 0.5), "contrast"),
        (lambda im: Image.blend(im, Image.new("RGB", im.size, "white"), 0.3), "brightness"),
        (lambda im: Image.merge("RGB", [im.getchannel("R"), *[im.getchannel("G")] * 2]).point(
            [*range(256), *[0] * 512]), "saturation"),
        (lambda im: Image.new("RGB", im.size), "blank"),
    ],
)  # fmt: skip
def test_each_reported_fault_reads_as_worse(change, metric):
    declared = {m.name: m.higher_is_better for m in PictureStatistics.metrics}
    picture = Image.fromarray(NOISE)
    before, after = (scores(np.asarray(im))[metric] for im in (picture, change(picture)))
    assert (after < before) == declared[metric] and after != before


def test_it_keeps_the_contract():
    samples = [Sample(image, "a photo") for image in sample_images().values()]
    thin = Sample(np.zeros((2, 40, 3), np.uint8), "a line")
    check_evaluator("picture-statistics", [*samples, thin])

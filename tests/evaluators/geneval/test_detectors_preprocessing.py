"""mmdet's preprocessing in numpy, against OpenCV and hand-made values."""

from __future__ import annotations

import numpy as np
import pytest

from evaluators.geneval.detectors.preprocessing import (
    new_size,
    prepare,
    resize_float,
    resize_uint8,
)
from evaluators.types import EvaluatorError

#: height and width before and after: up and down, odd, one direction each, exactly half, one pixel
SIZES = [
    ((512, 512), (800, 800)),
    ((333, 500), (800, 1201)),
    ((97, 131), (222, 300)),
    ((131, 97), (57, 41)),
    ((301, 203), (299, 411)),
    ((200, 300), (100, 150)),
    ((201, 301), (100, 150)),
    ((3, 90), (4, 120)),
    ((1, 1), (7, 5)),
    ((64, 48), (64, 48)),
]


def noise(height, width):
    return np.random.default_rng([height, width]).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_uint8_pictures_are_resized_as_by_opencv_to_the_bit(old, new):
    cv2 = pytest.importorskip("cv2")
    image = noise(*old)
    expected = cv2.resize(image, new[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(resize_uint8(image, *new), expected)


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_float_pictures_are_resized_as_by_opencv_to_float32_rounding(old, new):
    cv2 = pytest.importorskip("cv2")
    image = noise(*old)
    expected = cv2.resize(image.astype(np.float32), new[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(resize_float(image, *new), expected, atol=1e-4, rtol=0)


def test_extreme_values_are_kept():
    """Fixed point must neither overflow nor fall short of full white."""
    for value in (0, 255):
        flat = np.full((37, 53, 3), value, np.uint8)
        assert (resize_uint8(flat, 80, 31) == value).all()
        assert (resize_float(flat, 80, 31) == value).all()


def test_a_picture_is_made_to_fit_1333_by_800_either_way_round():
    assert new_size(512, 512) == (800, 800)
    assert new_size(1024, 1024) == (800, 800)
    assert new_size(333, 500) == (800, 1201)  # 500 x 800/333 = 1201.2
    assert new_size(640, 300) == (1333, 625)  # 300 x 1333/640 = 624.8
    assert new_size(1080, 1920) == (750, 1333)  # 1080 x 1333/1920 = 749.8


def colours(red, green, blue, size=(2, 4)):
    return np.full((*size, 3), (red, green, blue), np.uint8)


def test_the_network_sees_rgb_when_mmdet_is_handed_bgr_and_else_not():
    """One colour through mean and standard deviation by hand."""
    image = colours(200, 100, 50, (8, 8))
    by_channel = prepare(image, "bgr").pixels[:, 0, 0]
    expected = [(200 - 123.675) / 58.395, (100 - 116.28) / 57.12, (50 - 103.53) / 57.375]
    np.testing.assert_allclose(by_channel, expected, rtol=1e-5)
    by_channel = prepare(image, "rgb").pixels[:, 0, 0]
    expected = [(50 - 123.675) / 58.395, (100 - 116.28) / 57.12, (200 - 103.53) / 57.375]
    np.testing.assert_allclose(by_channel, expected, rtol=1e-5)


def test_padding_lies_right_and_below_up_to_a_multiple_of_32():
    prepared = prepare(colours(255, 255, 255, (333, 500)))
    assert prepared.size == (800, 1201)
    assert prepared.pixels.shape == (3, 800, 1216)
    assert prepared.pixels.dtype == np.float32
    assert (prepared.pixels[:, :, :1201] > 2).all()
    assert (prepared.pixels[:, :, 1201:] == 0).all()


def test_mmdet_2_pads_with_grey_before_it_normalises():
    pixels = prepare(colours(255, 255, 255, (333, 500)), preprocessing="mmdet2").pixels
    expected = [(128 - 123.675) / 58.395, (128 - 116.28) / 57.12, (128 - 103.53) / 57.375]
    np.testing.assert_allclose(pixels[:, 0, 1201], expected, rtol=1e-5)
    np.testing.assert_allclose(pixels[:, -1, -1], expected, rtol=1e-5)


def test_the_two_preprocessings_differ_on_a_square_by_rounding_alone():
    image = noise(64, 64)
    new, old = (prepare(image, preprocessing=p).pixels for p in ("mmdet3", "mmdet2"))
    assert 0 < np.abs(new - old).max() <= 1 / 57


def test_a_hair_of_an_image_is_refused():
    with pytest.raises(EvaluatorError, match="too narrow"):
        prepare(np.zeros((1, 4000, 3), np.uint8))

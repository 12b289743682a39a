"""What a vision tower sees equals what the official transforms give."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil

from evaluators.images import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    dinov2_view,
    padded_view,
    pillow_view,
    square_view,
    tensor_view,
)

#: Where the recorded values stand: channel, row, column.
PLACES = ((0, 3, 5), (1, 16, 16), (2, 30, 8), (0, 31, 31), (1, 10, 20))


def picture(height: int, width: int) -> np.ndarray:
    y, x, channel = np.mgrid[0:height, 0:width, 0:3]
    return ((x * 7 + y * 13 + channel * 50) % 256).astype(np.uint8)


@pytest.mark.parametrize(
    ("view", "size", "values", "mean"),
    [
        # torchvision 0.28: CenterCrop(32)(Resize(32)(tensor)), normalised
        (
            tensor_view(True),
            (50, 81),
            (1.61379, 0.61296, 0.60988, -0.83916, -0.54013),
            0.18177,
        ),
        (
            tensor_view(True),
            (91, 60),
            (-0.48384, -0.36196, 0.31647, -0.39945, 0.38661),
            0.184678,
        ),
        # the same with antialias=False
        (
            tensor_view(False),
            (50, 81),
            (1.61526, 0.61574, 0.61308, -0.81087, -0.54593),
            0.181713,
        ),
        (
            tensor_view(False),
            (91, 60),
            (-0.48403, -0.3656, 0.31758, -0.37697, -0.01855),
            0.185203,
        ),
        # hpsv2x 1.2.0 on torchvision 0.28: image_transform(32, False, resize_longest_max=True)
        (
            padded_view(True),
            (50, 81),
            (-1.79226, 0.67232, -1.48022, -1.79226, -1.34176),
            -0.50978,
        ),
        (
            padded_view(True),
            (91, 60),
            (0.10297, -0.07205, -0.43718, -1.79226, 1.66575),
            -0.447692,
        ),
        # open_clip 3.3: image_transform(32, is_train=False)
        (
            pillow_view("round"),
            (50, 81),
            (1.79895, 0.61913, 0.61013, -0.81417, -0.53647),
            0.181936,
        ),
        (
            pillow_view("round"),
            (91, 60),
            (-0.4784, -0.37138, 0.31151, -0.37622, 0.48406),
            0.184682,
        ),
    ],
)
def test_a_view_gives_the_official_transforms_values(view, size, values, mean):
    pixels = view(picture(*size), 32)
    assert pixels.shape == (3, 32, 32)
    assert pixels.dtype == torch.float32
    assert [pixels[place].item() for place in PLACES] == pytest.approx(values, abs=2e-5)
    assert pixels.mean().item() == pytest.approx(mean, abs=2e-6)


@pytest.mark.parametrize("size", [(50, 81), (91, 60), (64, 64), (225, 224), (20, 17)])
def test_the_processor_view_equals_transformers_pillow_processor(size):
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    image = picture(*size)
    official = processor(images=[image], return_tensors="pt").pixel_values[0]
    assert torch.equal(pillow_view("floor")(image, 32), official)


@pytest.mark.parametrize("view", [pillow_view("floor"), tensor_view(True), padded_view(True)])
def test_a_picture_of_the_right_size_is_only_normalised(view):
    image = picture(32, 32)
    red = image[:, :, 0] / 255
    expected = torch.from_numpy((red - 0.48145466) / 0.26862954).float()
    assert torch.allclose(view(image, 32)[0], expected, atol=1e-6)


def test_hps_pads_with_black_before_it_normalises():
    pixels = padded_view(True)(np.full((16, 32, 3), 255, np.uint8), 32)
    black = -0.48145466 / 0.26862954
    assert pixels[0, :8].unique().tolist() == pytest.approx([black], abs=1e-6)
    assert pixels[0, 24:].unique().tolist() == pytest.approx([black], abs=1e-6)
    assert pixels[0, 8:24].min() > 1.9


@pytest.mark.parametrize("size", [(50, 81), (91, 60), (301, 467), (64, 64), (256, 256)])
def test_dinov2s_view_is_its_processors(size):
    """The hub's preprocessor_config.json of facebook/dinov2-base, in transformers' class."""
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 256}, crop_size=224, image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD
    )
    expected = processor(picture(*size), return_tensors="np")["pixel_values"][0]
    assert dinov2_view()(picture(*size), 224).numpy() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("size", [(50, 81), (91, 60), (64, 64)])
def test_cmmd_sees_the_centre_square(size):
    """google-research/cmmd's reader: crop by Pillow's box, then Pillow's bicubic of the square."""
    image = picture(*size)
    height, width = size
    side = min(size)
    left, top = (width - side) // 2, (height - side) // 2
    square = Image.fromarray(image).crop((left, top, left + side, top + side))
    pixels = np.asarray(square.resize((32, 32), Image.Resampling.BICUBIC), np.float32) / 255
    expected = (pixels - CLIP_MEAN) / CLIP_STD
    assert square_view()(image, 32).numpy() == pytest.approx(expected.transpose(2, 0, 1), abs=1e-5)

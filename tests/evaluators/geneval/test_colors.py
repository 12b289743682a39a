"""The colour classifier against the official steps, written out with Pillow and CLIPModel."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from evaluators.catalogue import CLIP_VIT_L_14
from evaluators.clip import Tower, at_once, tower
from evaluators.geneval.colors import COLORS, ColorClassifier, Cutout
from evaluators.golden.clip import write_clip

MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
STD = np.array([0.26862954, 0.26130258, 0.27577711])
SIDE = 32  # of what the tiny tower sees


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    write_clip(folder)
    return folder


@pytest.fixture()
def tiny(folder):
    return tower(CLIP_VIT_L_14.at(folder), CLIP_VIT_L_14.at(folder), "cpu", "float32", "a CLIP")


def things(count, seed=0):
    """Objects on noise of many sizes, with boxes between pixels and masks of any form."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        height, width = random.integers(40, 90, 2)
        image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        tint = random.integers(0, 256, 3, dtype=np.uint8)
        image = (image // 4 + tint // 4 * 3).astype(np.uint8)
        left, top = random.uniform(0, width / 2), random.uniform(0, height / 2)
        box = (left, top, random.uniform(left + 2, width), random.uniform(top + 2, height))
        mask = random.random((height, width)) < 0.7
        name = str(random.choice(["dog", "wine glass", "orange"]))
        made.append(Cutout(image, box, mask, name))
    return made


def official_picture(cutout):
    """Composite, crop, resize, crop, normalise: as the official script with open_clip."""
    image = Image.fromarray(cutout.image)
    blank = Image.new("RGB", image.size, color="#999")
    if cutout.mask is not None:
        image = Image.composite(image, blank, Image.fromarray(cutout.mask))
    image = image.crop(cutout.box)
    width, height = image.size
    if width <= height:
        size = (SIDE, int(SIDE * height / width))
    else:
        size = (int(SIDE * width / height), SIDE)
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = round((size[0] - SIDE) / 2.0), round((size[1] - SIDE) / 2.0)
    image = image.crop((left, top, left + SIDE, top + SIDE))
    return (np.asarray(image).astype(np.float64) / 255 - MEAN) / STD


def official_texts(folder, name):
    """[10, D]: three sentences a colour, normalised, averaged, normalised."""
    from transformers import CLIPModel, CLIPTokenizer

    model = CLIPModel.from_pretrained(folder).eval()
    merges = (folder / "merges.txt").read_text().splitlines()[1:]
    words = CLIPTokenizer(
        vocab=json.loads((folder / "vocab.json").read_text()),
        merges=[tuple(m.split()) for m in merges],
    )
    rows = []
    for color in COLORS:
        sentences = [
            f"a photo of a {color} {name}",
            f"a photo of a {color}-colored {name}",
            f"a photo of a {color} object",
        ]
        ids = words(sentences, padding="max_length", max_length=77, return_tensors="pt")
        with torch.no_grad():
            features = model.get_text_features(input_ids=ids.input_ids).pooler_output
        mean = (features / features.norm(dim=1, keepdim=True)).mean(0)
        rows.append(mean / mean.norm())
    return torch.stack(rows)


def official_color(folder, cutout):
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(folder).eval()
    pixels = torch.from_numpy(official_picture(cutout)).permute(2, 0, 1).float()
    with torch.no_grad():
        features = model.get_image_features(pixel_values=pixels[None]).pooler_output[0]
    return COLORS[int((official_texts(folder, cutout.name) @ features).argmax())]


def test_the_texts_of_the_colours_are_the_official_mean(folder, tiny):
    for name in ("dog", "wine glass"):
        torch.testing.assert_close(
            ColorClassifier(tiny).texts(name), official_texts(folder, name), atol=1e-6, rtol=0
        )


def test_colours_are_those_of_the_official_steps(folder, tiny):
    cutouts = things(12)
    classified = ColorClassifier(tiny).classify(cutouts)
    assert classified == [official_color(folder, cutout) for cutout in cutouts]
    assert len(set(classified)) > 2, "a test where all are alike tells nothing"


@pytest.mark.parametrize("masked", [True, False])
def test_cutouts_are_cut_as_pillow_cuts_them(masked):
    random = np.random.default_rng(1)
    image = random.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    mask = random.random((20, 30)) < 0.5 if masked else None
    boxes = [
        (2.5, 3.5, 10.5, 11.5),  # halves go to the even neighbour: 2, 4, 10, 12
        (2.4, 3.6, 10.49, 11.51),
        (0, 0, 30, 20),
        (-3, -2, 12, 9),  # outside is black
        (20, 10, 36, 25),
    ]
    for box in boxes:
        picture = Image.fromarray(image)
        if mask is not None:
            blank = Image.new("RGB", (30, 20), "#999999")
            picture = Image.composite(picture, blank, Image.fromarray(mask))
        expected = np.asarray(picture.crop(box))
        np.testing.assert_array_equal(Cutout(image, box, mask, "dog").pixels(), expected)
    assert Cutout(image, boxes[0], mask, "dog").whole_box == (2, 4, 10, 12)


def test_what_is_not_the_object_does_not_count(tiny):
    cutout = things(1)[0]
    other = np.where(cutout.mask[..., None], cutout.image, 255 - cutout.image)
    np.testing.assert_array_equal(
        cutout.pixels(), Cutout(other, cutout.box, cutout.mask, cutout.name).pixels()
    )


@pytest.mark.parametrize(
    "box", [(5, 5, 5, 9), (5, 5, 9, 5), (5.6, 5, 6.4, 9), (0, 0, 0, 0), (9, 5, 4, 8)]
)
def test_an_object_without_a_pixel_has_no_colour(tiny, box):
    cutouts = things(2)
    degenerate = Cutout(cutouts[0].image, box, cutouts[0].mask, "dog")
    alone = ColorClassifier(tiny).classify(cutouts)
    together = ColorClassifier(tiny).classify([cutouts[0], degenerate, cutouts[1]])
    assert together == [alone[0], None, alone[1]]


def test_one_pixel_is_enough(tiny):
    image = np.zeros((8, 8, 3), np.uint8)
    assert ColorClassifier(tiny).classify([Cutout(image, (3, 3, 4, 4), None, "dog")])[0] in COLORS


def test_all_objects_go_through_the_tower_together_and_names_are_embedded_once(tiny):
    images, texts = [], []

    class Counting(Tower):
        def embed_pixels(self, pixels):
            images.append(len(pixels))
            return super().embed_pixels(pixels)

        def embed_texts(self, sentences):
            texts.append(len(sentences))
            return super().embed_texts(sentences)

    classifier = ColorClassifier(Counting(tiny.model, tiny.tokenizer, "cpu"))
    cutouts = things(at_once("cpu") + 5)
    classifier.classify(cutouts)
    assert images == [at_once("cpu"), 5]
    assert texts == [30] * len({cutout.name for cutout in cutouts})
    classifier.classify(cutouts)
    assert len(texts) == len({cutout.name for cutout in cutouts})


def test_colours_do_not_depend_on_the_batch_or_its_order(tiny):
    cutouts = things(at_once("cpu") + 3, seed=2)
    together = ColorClassifier(tiny).classify(cutouts)
    assert ColorClassifier(tiny).classify(cutouts[::-1]) == together[::-1]
    assert [ColorClassifier(tiny).classify([cutout])[0] for cutout in cutouts] == together
    assert ColorClassifier(tiny).classify([]) == []

"""A tiny ImageReward in the published files' layout."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

from evaluators import catalogue
from evaluators.imagereward.evaluator import ImageReward
from evaluators.imagereward.layout import Architecture
from evaluators.imagereward.model import state_dict
from evaluators.types import Sample

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [
    "a",
    "the",
    "red",
    "cat",
    "dog",
    "on",
    "mat",
    "two",
    "play",
    "##ing",
    "##s",
    "##ed",
    ",",
    "!",
]
VOCABULARY = [*SPECIAL, *WORDS]

TINY = Architecture(
    image_size=32,
    patch_size=8,
    vision_width=48,
    vision_layers=3,
    vision_heads=4,
    text_width=32,
    text_layers=2,
    text_heads=2,
    text_positions=40,
    vocabulary=len(VOCABULARY) + 2,
    head=(24, 12, 8, 4, 1),
    projection=5,
)


def random_values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Seeded by the name; large enough that attention, norms and order matter to the score."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.normal(size=shape)
    if len(shape) == 1:
        return (1 + 0.3 * values) if "norm" in name.lower() and "weight" in name else 0.2 * values
    return values * (1.5 / np.sqrt(shape[-1] if len(shape) < 4 else np.prod(shape[1:])))


def write(folder: Path, state) -> ImageReward:
    """An evaluator over files in the published layout, not loaded."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "ImageReward.pt")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", "utf-8")
    return ImageReward(catalogue.IMAGE_REWARD.at(folder), catalogue.BERT_TOKENIZER.at(folder), TINY)


@pytest.fixture(scope="session")
def tiny_architecture() -> Architecture:
    return TINY


@pytest.fixture()
def tiny_state():
    return state_dict(TINY, random_values)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("imagereward")
    write(folder, state_dict(TINY, random_values))
    return folder


@pytest.fixture(scope="session")
def make():
    """An evaluator over a folder of files; with a state, the files are written first."""

    def build(folder: Path, state=None) -> ImageReward:
        if state is not None:
            return write(folder, state)
        return ImageReward(
            catalogue.IMAGE_REWARD.at(folder), catalogue.BERT_TOKENIZER.at(folder), TINY
        )

    return build


@pytest.fixture(scope="session")
def scorer(tiny_folder, make) -> ImageReward:
    evaluator = make(tiny_folder)
    evaluator.load()
    return evaluator


@pytest.fixture(scope="session")
def samples() -> list[Sample]:
    """Pictures of several shapes; short, long, empty, unknown and special prompts."""
    rng = np.random.default_rng(7)
    sizes = [(32, 32), (40, 64), (96, 33), (32, 32), (57, 32), (64, 64)]
    prompts = [
        "a red cat on the mat",
        "two dogs playing, the cat on a mat!",
        "",
        "A Zebra plays",
        "the cat " * 40,
        "red [DEC] dog [SEP] mat",
    ]
    return [
        Sample(rng.integers(0, 256, (*size, 3), dtype=np.uint8), prompt)
        for size, prompt in zip(sizes, prompts, strict=True)
    ]

"""A tiny ImageReward in its authors' layout."""

from __future__ import annotations

from pathlib import Path

from evaluators.golden.fill import fill
from evaluators.imagereward.layout import Architecture
from evaluators.imagereward.model import state_dict

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WORDS = ("a", "the", "on", "at", "in", "photo", "of", "red", "blue", "bird", "ball", "##s", ",")
_WORDS_OF_SAMPLES = ("mat", "night", "circle", "square", "and", "sign", "that", "says", '"')
VOCABULARY = (*_SPECIAL, *_WORDS, *_WORDS_OF_SAMPLES)
#: BLIP adds two tokens of its own.
VOCABULARY_SIZE = len(VOCABULARY) + 2

_VISION = {"image_size": 32, "patch_size": 8, "vision_width": 48, "vision_layers": 2}
_TEXT = {"text_width": 32, "text_layers": 2, "text_heads": 2, "text_positions": 40}
ARCHITECTURE = Architecture(
    **_VISION,
    vision_heads=4,
    **_TEXT,
    vocabulary=VOCABULARY_SIZE,
    head=(24, 12, 8, 4, 1),
    projection=8,
)


def write_image_reward(folder: Path, architecture: Architecture = ARCHITECTURE) -> None:
    """Write ``ImageReward.pt`` and ``vocab.txt``."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state_dict(architecture, fill), folder / "ImageReward.pt")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", "utf-8")

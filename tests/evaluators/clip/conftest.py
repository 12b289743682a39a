"""Fixtures: tiny weights of CLIP's family."""

from __future__ import annotations

import numpy as np
import pytest
from clip_family import PROMPTS, SIZES

from evaluators.golden import clip as tiny
from evaluators.types import Sample


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Tiny weights; nothing writes there."""
    folder = tmp_path_factory.mktemp("weights")
    tiny.write_clip(folder / "clip")
    tiny.write_clip(folder / "pickscore", activation="gelu")
    tiny.write_hps(folder / "hps")
    tiny.write_aesthetic_head(folder / "aesthetic")
    return folder


@pytest.fixture(scope="session")
def samples():
    """An image of noise of each size, each with a prompt."""
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
    return [Sample(image, prompt) for image, prompt in zip(pictures, PROMPTS, strict=True)]

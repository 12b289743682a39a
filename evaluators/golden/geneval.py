"""A tiny Mask2Former in mmdet's checkpoint layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evaluators.catalogue import MASK2FORMER
from evaluators.geneval.detectors.architecture import (
    Architecture,
    is_computed,
    official_shapes,
    position_index,
)
from evaluators.geneval.detectors.keys import mmdet2_key
from evaluators.golden.fill import fill

if TYPE_CHECKING:
    import torch

#: A model of a few hundred kilobytes.
_DECODERS = {"pixel_layers": 2, "pixel_width": 64, "layers": 4, "width": 64, "queries": 20}
TINY = Architecture(16, (1, 2, 2, 1), (1, 2, 4, 8), channels=32, decoder_heads=4, **_DECODERS)
#: Logits so far apart that some objects exceed GenEval's thresholds.
_CONFIDENCE = 12.0

#: Function that returns the values of a tensor from its mmdet 3 key and its shape.
Filler = Callable[[str, tuple[int, ...]], np.ndarray]


def write_mask2former(folder: Path) -> None:
    """Write the detector's file with mmdet 2's keys, like the official one."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    state = official_state(TINY, _fill, mmdet2_key)
    torch.save({"meta": {"epoch": 50}, "state_dict": state}, folder / MASK2FORMER.files[0].path)


def official_state(
    architecture: Architecture, fill: Filler, key_of: Callable[[str], str] = str
) -> dict[str, torch.Tensor]:
    """Return a checkpoint's weights with values from ``fill``, by mmdet 3's keys.

    ``key_of`` gives them other names; ``fill`` gets mmdet 3's, so that the model is the same.
    """
    import torch

    state = {}
    for key, shape in official_shapes(architecture).items():
        values = position_index(architecture.window) if is_computed(key) else fill(key, shape)
        if values.shape != shape:
            raise ValueError(f"{key} is of shape {shape}, not {values.shape}")
        state[key_of(key)] = torch.from_numpy(np.ascontiguousarray(values))
    return state


def _fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
    sharper = name in ("panoptic_head.cls_embed.weight", "panoptic_head.mask_embed.4.weight")
    return fill(name, shape) * np.float32(_CONFIDENCE if sharper else 1)

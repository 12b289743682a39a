"""A tiny Mask2Former in mmdet's checkpoint layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evaluators.catalogue import MASK2FORMER
from evaluators.geneval.detectors.architecture import TINY, official_state
from evaluators.golden.fill import fill

#: Logits so far apart that some objects exceed GenEval's thresholds.
_CONFIDENCE = 12.0


def write_mask2former(folder: Path) -> None:
    """Write the detector's file with mmdet 2's keys, like the official one."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    state = official_state(TINY, _fill, "mmdet2")
    torch.save({"meta": {"epoch": 50}, "state_dict": state}, folder / MASK2FORMER.files[0].path)


def _fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
    sharper = name in ("panoptic_head.cls_embed.weight", "panoptic_head.mask_embed.4.weight")
    return fill(name, shape) * np.float32(_CONFIDENCE if sharper else 1)

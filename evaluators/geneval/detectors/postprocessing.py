"""Turn Mask2Former's logits into objects, as mmdet does for instances.

Source: open-mmlab/mmdetection 3.3, ``MaskFormerFusionHead.instance_postprocess`` and
``Mask2FormerHead.predict``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from evaluators.geneval.detectors.names import OBJECT_NAMES
from evaluators.geneval.detectors.types import Instance

if TYPE_CHECKING:
    import torch

#: Height and width.
Size = tuple[int, ...]
#: Pairs of query and class that become objects.
MAX_OBJECTS = 100
#: Masks that are enlarged at once, which bounds memory.
_CHUNK = 10


def instances(
    class_logits: torch.Tensor,
    mask_logits: torch.Tensor,
    padded: Size,
    size: Size,
    original: Size,
) -> list[Instance]:
    """Return the 100 likeliest objects of one image, best first.

    ``class_logits`` [Q, classes + 1] (the last is "no object") and ``mask_logits`` [Q, h, w] are
    float32. Masks are enlarged to the ``padded`` input, cut to the ``size`` without padding, and
    brought to the ``original`` size. A score is the class's probability times the mean probability
    inside the mask; one query can be several objects, of different classes.
    """
    classes = class_logits.shape[1] - 1
    probabilities = class_logits.softmax(dim=-1)[:, :-1].flatten()
    scores, places = probabilities.topk(min(MAX_OBJECTS, probabilities.numel()))
    queries, labels = (places // classes).tolist(), (places % classes).tolist()

    distinct = sorted(set(queries))
    rows = _masks(mask_logits, distinct, padded, size, original)
    masks = {query: (mask, sureness, mask_box(mask)) for query, mask, sureness in rows}
    objects = []
    for score, query, label in zip(scores.tolist(), queries, labels, strict=True):
        mask, sureness, box = masks[query]
        product = float(np.float32(score) * np.float32(sureness))  # in float32, as mmdet has it
        objects.append(Instance(OBJECT_NAMES[label], product, box, mask=mask))
    return sorted(objects, key=lambda instance: -instance.score)


def _masks(
    logits: torch.Tensor, queries: list[int], padded: Size, size: Size, original: Size
) -> Iterator[tuple[int, np.ndarray, float]]:
    """Yield each query's mask, bool [H, W] at the original size, and mean probability inside."""
    from torch.nn.functional import interpolate

    for start in range(0, len(queries), _CHUNK):
        chunk = queries[start : start + _CHUNK]
        large = interpolate(logits[chunk][None], size=padded, mode="bilinear", align_corners=False)
        cut = large[..., : size[0], : size[1]]
        own = interpolate(cut, size=original, mode="bilinear", align_corners=False)[0]
        inside = own > 0  # [chunk, H, W]
        area = inside.flatten(1).sum(1)
        sureness = (own.sigmoid() * inside).flatten(1).sum(1) / (area + 1e-6)
        yield from zip(chunk, inside.cpu().numpy(), sureness.tolist(), strict=True)


def mask_box(mask: np.ndarray) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of a bool mask [H, W]; all 0 if it is empty.

    Right and bottom lie just outside it.
    """
    columns, rows = (np.flatnonzero(mask.any(axis=axis)) for axis in (0, 1))
    if not columns.size:
        return (0.0, 0.0, 0.0, 0.0)
    return (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))

"""The colour of a detected object, by zero-shot classification with CLIP ViT-L/14.

Source: djghosh13/geneval ``evaluation/evaluate_images.py`` with LAION's clip_benchmark. The
official script runs CLIP under float16 autocast, one object at a time; here it runs in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from evaluators.clip import Tower
from evaluators.images import pillow_view, stack

if TYPE_CHECKING:
    import torch

COLORS = tuple("red orange yellow green blue purple pink brown black white".split())

#: Texts with the object's ``{color}`` and ``{name}``; the last has the colour only.
TEMPLATES: tuple[str, ...] = (
    "a photo of a {color} {name}",
    "a photo of a {color}-colored {name}",
    "a photo of a {color} object",
)

#: Grey level in place of everything that is not the object: #999999.
BACKGROUND = 0x99

_VIEW = pillow_view("round")


@dataclass(frozen=True, eq=False)
class Cutout:
    """An object to classify."""

    #: uint8 RGB [H, W, 3]
    image: np.ndarray
    #: left, top, right, bottom in pixels
    box: tuple[float, float, float, float]
    #: bool [H, W]; None where only the box is known, all of which is then classified
    mask: np.ndarray | None
    #: the object's class
    name: str

    @property
    def whole_box(self) -> tuple[int, int, int, int]:
        """Box in whole pixels, by Pillow's rounding (halves to the even neighbour)."""
        left, top, right, bottom = (round(float(edge)) for edge in self.box)
        return left, top, right, bottom

    @property
    def empty(self) -> bool:
        """Whether the rounded box holds no pixel."""
        left, top, right, bottom = self.whole_box
        return right <= left or bottom <= top

    def pixels(self) -> np.ndarray:
        """Return the object on grey, cut to its box: uint8 RGB [h, w, 3].

        Outside the image a box is black, as in Pillow.
        """
        image = self.image
        if self.mask is not None:
            image = np.where(self.mask[..., None], image, np.uint8(BACKGROUND))
        return np.asarray(Image.fromarray(image).crop(self.whole_box))


class ColorClassifier:
    """Classifier of the colours of objects."""

    def __init__(self, tower: Tower) -> None:
        self._tower = tower
        self._embedded: dict[str, torch.Tensor] = {}

    def classify(self, cutouts: Sequence[Cutout]) -> list[str | None]:
        """Return the colour of each object: the one whose texts are nearest to its picture.

        None for an object without a pixel, where the official script would stop with an error.
        """
        colors: list[str | None] = [None] * len(cutouts)
        seen = [i for i, cutout in enumerate(cutouts) if not cutout.empty]
        for start in range(0, len(seen), self._tower.batch):
            chunk = seen[start : start + self._tower.batch]
            pictures = [cutouts[i].pixels() for i in chunk]
            rows = self._tower.embed_pixels(stack(pictures, _VIEW, self._tower.image_size))
            for i, row in zip(chunk, rows, strict=True):
                cosines = (self.texts(cutouts[i].name) @ row).numpy()
                colors[i] = COLORS[int(cosines.argmax())]
        return colors

    def texts(self, name: str) -> torch.Tensor:
        """Return CLIP's embedding of each colour of such an object: [10, D], of length 1.

        The texts of one name are embedded by themselves, once, so that they depend on no others.
        """
        if name not in self._embedded:
            import torch

            texts = [t.format(color=c, name=name) for c in COLORS for t in TEMPLATES]
            rows = self._tower.embed_texts(texts).view(len(COLORS), len(TEMPLATES), -1)
            self._embedded[name] = torch.nn.functional.normalize(rows.mean(1), dim=-1)
        return self._embedded[name]

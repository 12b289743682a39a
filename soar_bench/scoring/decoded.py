"""Images of samples, decoded once for all evaluators."""

from __future__ import annotations

import time
import typing
from collections.abc import Sequence

import numpy as np

from soar_bench.core.threads import in_threads
from soar_bench.suites.types import PlannedSample

_DECODERS = 8


class ImageSource(typing.Protocol):
    """Source of the samples' images. Both methods raise ImageGone where an image is not there."""

    @property
    def name(self) -> str:
        """Name of the images' journals in the cache."""

    def digest(self, sample: PlannedSample) -> str:
        """Digest of its pixels (:func:`soar_bench.core.images.digest_image`)."""

    def pixels(self, sample: PlannedSample) -> np.ndarray:
        """uint8 RGB [H, W, 3], of exactly that digest."""


class Decoded:
    """Images decoded once for all evaluators, as far as they fit into ``budget`` bytes."""

    def __init__(self, source: ImageSource, budget: int) -> None:
        self._source, self._left = source, budget
        self._kept: dict[tuple[str, int], np.ndarray] = {}
        self.seconds = 0.0

    def batch(self, samples: Sequence[PlannedSample]) -> list[np.ndarray]:
        """Return uint8 RGB [H, W, 3] of each sample."""
        clock = time.monotonic()
        images = list(in_threads(self._decode, samples, _DECODERS))
        for image in images:
            image.setflags(write=False)  # all evaluators see the same array
        self.seconds += time.monotonic() - clock
        return images

    def _decode(self, sample: PlannedSample) -> np.ndarray:
        key = (sample.prompt.id, sample.index)
        image = self._kept.get(key)
        if image is None:
            image = self._source.pixels(sample)
            if image.nbytes <= self._left:
                self._left -= image.nbytes
                self._kept[key] = image
        return image

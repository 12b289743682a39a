"""From what a user types after ``--data`` to captioned images."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from soar_bench.shapes.render import render
from soar_bench.shapes.world import DISTRIBUTIONS, Distribution, example
from soar_bench.types import SoarBenchError
from training.data import ImageFolder, Source

#: Examples where no number is given: ``shapes-clean`` is ``shapes-clean:2000``.
DEFAULT_COUNT = 2_000
#: Seed of the embedded world's training data.
SEED = 0


class ShapesSource:
    """Examples 0 to ``count`` of one of the embedded world's distributions, rendered on demand."""

    def __init__(self, distribution: Distribution, count: int, seed: int = SEED) -> None:
        self.distribution, self.count, self.seed = distribution, count, seed
        # The renderer is deterministic, so a few rendered examples stand for all of them.
        digest = hashlib.sha256(f"{distribution!r} {seed} {count}".encode())
        for index in range(min(count, 16)):
            image, caption = self[index]
            digest.update(image.tobytes() + caption.encode())
        self.digest = digest.hexdigest()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, str]:
        drawn = example(self.distribution, self.seed, index)
        return render(drawn.scene), drawn.caption


def open_data(name: str) -> Source:
    """A folder of captioned images, or ``shapes-clean[:COUNT]``, ``shapes-broad[:COUNT]``."""
    kind, colon, number = name.partition(":")
    if kind in DISTRIBUTIONS:
        if colon and not (number.isdecimal() and int(number) > 0):
            raise SoarBenchError(f"{name!r} needs a positive number after the colon")
        return ShapesSource(DISTRIBUTIONS[kind], int(number) if colon else DEFAULT_COUNT)
    folder = Path(name)
    if not folder.is_dir():
        raise SoarBenchError(
            f"there is no training data {name!r}: give a folder or one of "
            f"{', '.join(DISTRIBUTIONS)}"
        )
    return ImageFolder(folder)

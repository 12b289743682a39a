"""Generated images on disk: every sample a lossless PNG that says what it is.

The folder's name is a digest of everything that decides the images (weights, settings, seed), a
file's name one of everything that decides the sample (prompt, index). Inside the file stand that
name and the digest of its pixels, so that a file which was cut off, changed, swapped or copied from
another place is seen, and made again. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from soar_bench.core.digests import digest_of
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.files import locked, replace_atomically
from soar_bench.core.images import digest_image, open_image
from soar_bench.suites.types import PlannedSample

#: Raised when generation would make other images from the same inputs.
VERSION = 1
_SAMPLE, _PIXELS = "soar-bench sample", "soar-bench pixels"
#: The last bytes of every whole PNG.
_END = b"\0\0\0\0IEND\xaeB`\x82"
#: What Pillow raises for a file that is not a whole PNG of an image's size.
_BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


class ImageGone(SoarBenchError):
    """An image that was there has been deleted or damaged since."""


def store_name(checkpoint: str, settings: Mapping[str, Any], seed: int) -> str:
    """The folder's name for a checkpoint's digest, a protocol's settings and a suite's seed."""
    kind = {"generator": VERSION, "checkpoint": checkpoint, "protocol": settings, "seed": seed}
    return digest_of(kind)[:32]


@dataclass(frozen=True)
class ImageStore:
    """The images of one checkpoint under one protocol and seed."""

    folder: Path

    @classmethod
    def of(cls, cache: Path, checkpoint: str, settings: Mapping[str, Any], seed: int) -> ImageStore:
        """The store in a cache; it need not exist yet. See :func:`store_name` for the arguments."""
        return cls(cache / "images" / store_name(checkpoint, settings, seed))

    def file(self, sample: PlannedSample) -> Path:
        return self.folder / f"{_key(sample)}.png"

    def digest(self, sample: PlannedSample) -> str | None:
        """The digest of the sample's pixels as its file states it, without decoding; None if there
        is no whole file of that sample. SoarBenchError if it may not be read.
        """
        file = self.file(sample)
        with _readable(file):
            try:
                with file.open("rb") as stream:
                    stream.seek(-len(_END), 2)
                    if stream.read() != _END:
                        return None
                    stream.seek(0)
                    with open_image(stream, ("PNG",)) as image:
                        return _stated(image, sample)
            except PermissionError:
                raise
            except _BROKEN:
                return None

    def read(self, sample: PlannedSample) -> np.ndarray | None:
        """The sample's image, uint8 RGB [H, W, 3]; None unless it is whole and the one that was
        saved. SoarBenchError if it may not be read.
        """
        file = self.file(sample)
        with _readable(file):
            try:
                with open_image(file, ("PNG",)) as opened:
                    stated = _stated(opened, sample)
                    image = np.asarray(opened.convert("RGB"))
            except PermissionError:
                raise
            except _BROKEN:
                return None
        return image if stated is not None and digest_image(image) == stated else None

    def add(self, sample: PlannedSample, image: np.ndarray) -> None:
        """Saves an image, uint8 RGB [H, W, 3]; the file appears whole or not at all."""
        words = PngImagePlugin.PngInfo()
        words.add_text(_SAMPLE, _key(sample))
        words.add_text(_PIXELS, digest_image(image))
        with replace_atomically(self.file(sample)) as aside:
            Image.fromarray(image).save(aside, format="PNG", pnginfo=words)

    def missing(self, samples: Iterable[PlannedSample]) -> list[PlannedSample]:
        """Samples without a whole image."""
        return [sample for sample in samples if self.digest(sample) is None]

    def remove(self, samples: Sequence[PlannedSample]) -> None:
        for sample in samples:
            self.file(sample).unlink(missing_ok=True)

    @property
    def lock_file(self) -> Path:
        return self.folder.with_suffix(".lock")

    @contextmanager
    def lock(self, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Held while images are made, so that a second process waits for them rather than making
        them too. ``waiting`` is called once if another holds it. A killed process lets it go.
        """
        with locked(self.lock_file, waiting):
            yield


def _key(sample: PlannedSample) -> str:
    # A digest rather than the id: ids come from files and could hold anything.
    return digest_of([sample.prompt.id, sample.prompt.text, sample.index])[:32]


def _stated(image: Image.Image, sample: PlannedSample) -> str | None:
    """The pixels' digest that the file names, if it is the sample's."""
    words = image.info
    return words.get(_PIXELS) if words.get(_SAMPLE) == _key(sample) else None


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError:
        raise SoarBenchError(f"{file} may not be read: change its permissions") from None

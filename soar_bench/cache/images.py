"""Generated images on disk: every sample a lossless PNG that names itself.

The folder's name is a digest of weights, settings and seed, a file's name one of prompt and index.
Inside the file stand that name and the digest of its pixels, so that a file which was cut off,
changed, swapped or copied from another place is seen, and made again. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
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
#: Images written at once: a file waits for the disk longer than it computes.
_WRITERS = 4
#: The last bytes of every whole PNG.
_END = b"\0\0\0\0IEND\xaeB`\x82"


class ImageGone(SoarBenchError):
    """An image that was there has been deleted or damaged since."""


@dataclass(frozen=True)
class ImageStore:
    """The images of one checkpoint under one protocol and seed."""

    folder: Path

    @classmethod
    def of(cls, cache: Path, checkpoint: str, settings: Mapping[str, Any], seed: int) -> ImageStore:
        """Return the store in a cache, existing or not, of a checkpoint's digest, a protocol's
        settings and a suite's seed.
        """
        kind = {"generator": VERSION, "checkpoint": checkpoint, "protocol": settings, "seed": seed}
        return cls(cache / "images" / digest_of(kind)[:32])

    def file(self, sample: PlannedSample) -> Path:
        return self.folder / f"{_key(sample)}.png"

    def digest(self, sample: PlannedSample) -> str | None:
        """Return the digest of pixels that the sample's file states; None without a whole file.

        SoarBenchError if the file may not be read.
        """
        file, stated = self.file(sample), None
        with _whole(file), file.open("rb") as stream:
            stream.seek(-len(_END), 2)
            if stream.read() == _END:
                stream.seek(0)
                with open_image(stream, ("PNG",)) as image:
                    stated = _stated(image, sample)
        return stated

    def read(self, sample: PlannedSample) -> np.ndarray | None:
        """Return uint8 RGB [H, W, 3]; None unless the file is whole and holds what was saved.

        SoarBenchError if the file may not be read.
        """
        file = self.file(sample)
        image: np.ndarray | None = None
        with _whole(file), open_image(file, ("PNG",)) as opened:
            pixels = np.asarray(opened.convert("RGB"))
            if digest_image(pixels) == _stated(opened, sample):
                image = pixels
        return image

    def add(self, sample: PlannedSample, image: np.ndarray) -> None:
        """Save an image, uint8 RGB [H, W, 3]; the file appears whole or not at all."""
        words = PngImagePlugin.PngInfo()
        words.add_text(_SAMPLE, _key(sample))
        words.add_text(_PIXELS, digest_image(image))
        with replace_atomically(self.file(sample)) as aside:
            Image.fromarray(image).save(aside, format="PNG", pnginfo=words)

    def missing(self, samples: Iterable[PlannedSample]) -> list[PlannedSample]:
        """Return the samples without a whole image."""
        return [sample for sample in samples if self.digest(sample) is None]

    def remove(self, samples: Sequence[PlannedSample]) -> None:
        for sample in samples:
            self.file(sample).unlink(missing_ok=True)

    @property
    def lock_file(self) -> Path:
        return self.folder.with_suffix(".lock")

    def lock(self, waiting: Callable[[], None] = lambda: None) -> AbstractContextManager[bool]:
        """Hold a lock while images are made: see :func:`soar_bench.core.files.locked`."""
        return locked(self.lock_file, waiting)


class Writer:
    """Saves images on threads while the next are made; each file appears whole or not at all."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(_WRITERS, thread_name_prefix="png")
        self._pending: list[Future[None]] = []

    def begin(self, images: Sequence[tuple[PlannedSample, np.ndarray]]) -> None:
        """Begin to save these images."""
        self._pending += [self._pool.submit(self._store.add, *image) for image in images]

    def wait(self) -> int:
        """Wait until all that was begun is saved; return how many images were not known to be.

        Raises what saving one raised, such as OSError on a full disk.
        """
        pending, self._pending = self._pending, []
        for future in pending:
            future.result()
        return len(pending)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_error: object) -> None:
        """End when everything that was begun is saved or has failed."""
        self._pool.shutdown()


def _key(sample: PlannedSample) -> str:
    # A digest rather than the id: ids come from files and could hold anything.
    return digest_of([sample.prompt.id, sample.prompt.text, sample.index])[:32]


def _stated(image: Image.Image, sample: PlannedSample) -> str | None:
    """Return the digest of pixels that the file states, if it is the sample's."""
    words = image.info
    return words.get(_PIXELS) if words.get(_SAMPLE) == _key(sample) else None


@contextmanager
def _whole(file: Path) -> Iterator[None]:
    """End the block early where the file is absent or no whole PNG."""
    try:
        yield
    except PermissionError:
        raise SoarBenchError(f"{file} may not be read: change its permissions") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        pass

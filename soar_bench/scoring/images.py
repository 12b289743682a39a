"""Images from elsewhere, read through before they are scored. Imports no torch."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from soar_bench.core.digests import digest_of
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.files import replace_atomically
from soar_bench.core.images import digest_image, read_pixels
from soar_bench.scoring.folders import FolderImages
from soar_bench.suites.types import PlannedSample

#: Beside the record: which file each sample was.
FILES_FILE = "files.csv"
_READERS = 8
_SHOWN = 5


@dataclass(frozen=True)
class Content:
    """What a file holds, read through."""

    #: of its pixels
    digest: str
    format: str
    #: ``WIDTHxHEIGHT``
    size: str


@dataclass(frozen=True)
class ImageSet:
    """Images of a folder, all read and checked, under the names that a record gives them."""

    images: FolderImages
    contents: tuple[Content, ...]
    label: str
    suite: str

    @classmethod
    def read(
        cls,
        images: FolderImages,
        label: str | None = None,
        suite: str | None = None,
        observe: Callable[[int, int], None] = lambda done, total: None,
    ) -> ImageSet:
        """Read every image; by default the label is the folder's name and the suite is named after
        its prompts' digest. SoarBenchError names images that cannot be scored.
        """
        files = [images.folder / file for file in images.files]
        return cls(
            images,
            _read_all(files, observe),
            label or images.folder.resolve().name or "images",
            suite or f"prompts-{images.digest()[:8]}",
        )

    @property
    def samples(self) -> tuple[PlannedSample, ...]:
        return self.images.samples

    @property
    def folder(self) -> Path:
        """Folder of the images."""
        return self.images.folder

    @property
    def name(self) -> str:
        """Name of the images' journals in the cache."""
        return f"images-{digest_of(str(self.folder.resolve()))[:16]}"

    def digest_all(self) -> str:
        """Identifies the images and their order."""
        return digest_of([content.digest for content in self.contents])

    def digest(self, sample: PlannedSample) -> str:
        """Digest of the sample's pixels as they were read."""
        return self._places[sample.prompt.id, sample.index][1].digest

    def pixels(self, sample: PlannedSample) -> np.ndarray:
        """uint8 RGB [H, W, 3]. SoarBenchError if the file has changed since it was read."""
        file, content = self._places[sample.prompt.id, sample.index]
        image, _ = read_pixels(file)
        if digest_image(image) != content.digest:
            raise SoarBenchError(
                f"{file} was changed while the images were scored: run the same command again"
            )
        return image

    def noise(self, sample: PlannedSample) -> str:
        """Empty: it is not known."""
        return ""

    @property
    def images_per_prompt(self) -> float:
        """A whole number, or the mean where prompts have different numbers of images."""
        samples, prompts = len(self.samples), len(self.images.prompts)
        return round(samples / prompts, 4) if samples % prompts else samples // prompts

    def describe(self) -> Iterator[str]:
        """The images in sentences, for a person."""
        samples = self.samples
        kinds = sorted({content.format for content in self.contents})
        sizes = sorted({content.size for content in self.contents})
        size = sizes[0] if len(sizes) == 1 else f"{len(sizes)} sizes"
        yield (
            f"{self.label} on {self.suite}: {len(samples)} images ({', '.join(kinds)}, {size}) of "
            f"{len(self.images.prompts)} prompts ({self.images.layout})"
        )
        counts = Counter(sample.prompt.id for sample in samples).values()
        if min(counts) != max(counts):
            yield (
                f"note: prompts have {min(counts)} to {max(counts)} images, so they do not count "
                "equally in a mean over images"
            )
        repeated = len(self.contents) - len({content.digest for content in self.contents})
        if repeated:
            yield f"note: {repeated} images have the same pixels as another"

    def write_files(self, folder: Path) -> None:
        """Write which file each sample was."""
        with (
            replace_atomically(folder / FILES_FILE) as aside,
            aside.open("w", encoding="utf-8", newline="") as stream,
        ):
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(("prompt_id", "index", "file", "image"))
            writer.writerows(
                (sample.prompt.id, sample.index, file, content.digest)
                for sample, file, content in self._rows()
            )

    def _rows(self) -> Iterator[tuple[PlannedSample, str, Content]]:
        return zip(self.samples, self.images.files, self.contents, strict=True)

    @cached_property
    def _places(self) -> dict[tuple[str, int], tuple[Path, Content]]:
        return {
            (sample.prompt.id, sample.index): (self.folder / file, content)
            for sample, file, content in self._rows()
        }


def _read_all(files: Sequence[Path], observe: Callable[[int, int], None]) -> tuple[Content, ...]:
    contents: list[Content] = []
    wrong: list[str] = []
    with ThreadPoolExecutor(min(_READERS, os.cpu_count() or 1)) as pool:
        try:
            for done, content in enumerate(pool.map(_read, files), start=1):
                if isinstance(content, Content):
                    contents.append(content)
                else:
                    wrong.append(content)
                observe(done, len(files))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if len(wrong) == 1:
        raise SoarBenchError(wrong[0])
    if wrong:
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise SoarBenchError(
            f"{len(wrong)} images cannot be scored: {'; '.join(wrong[:_SHOWN])}{more}"
        )
    return tuple(contents)


def _read(file: Path) -> Content | str:
    """What a file holds, or what is wrong with it."""
    try:
        image, kind = read_pixels(file)
    except SoarBenchError as error:
        return str(error)
    return Content(digest_image(image), kind, f"{image.shape[1]}x{image.shape[0]}")

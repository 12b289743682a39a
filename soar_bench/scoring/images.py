"""Images from elsewhere, read through before they are scored."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from evaluators.scorer import for_each, to_samples
from soar_bench.checkpoints.types import IN_MEMORY
from soar_bench.core.digests import digest_of
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.files import write_text
from soar_bench.core.images import digest_image, read_pixels
from soar_bench.core.text import csv_text
from soar_bench.core.threads import in_threads
from soar_bench.scoring.folders import FolderImages, listed_images, open_folder
from soar_bench.suites.types import PlannedSample

#: Beside the record: which file each sample was.
FILES_FILE = "files.csv"
_READERS = 8
_SHOWN = 5


@dataclass(frozen=True)
class Content:
    """Facts of an image that was read."""

    #: of its pixels
    digest: str
    format: str
    #: ``WIDTHxHEIGHT``
    size: str


@dataclass(frozen=True)
class ImageSet:
    """Images from elsewhere, all read and checked, under the names that a record gives them."""

    images: FolderImages
    contents: tuple[Content, ...]
    label: str
    suite: str
    #: uint8 RGB [H, W, 3] of images that are in memory, where ``images.files`` are positions
    arrays: tuple[np.ndarray, ...] = ()

    @classmethod
    def read(
        cls,
        images: Any,
        prompts: Any = None,
        metadata: Any = None,
        label: str | None = None,
        suite: str | None = None,
        observe: Callable[[int, int], None] = lambda done, total: None,
    ) -> ImageSet:
        """Read every image; the arguments are those of :func:`soar_bench.evaluation.score`.

        ``observe`` is called with images read, and images in all. SoarBenchError names images that
        cannot be scored, or have no prompt.
        """
        read, arrays = _opened(images, prompts, metadata)
        if arrays:
            contents = tuple(_content(arrays[int(file)], "array") for file in read.files)
        else:
            contents = _read_all([read.folder / file for file in read.files], observe)
        name = "images" if arrays else read.folder.resolve().name or "images"
        return cls(read, contents, label or name, suite or f"prompts-{read.digest()[:8]}", arrays)

    @property
    def samples(self) -> tuple[PlannedSample, ...]:
        return self.images.samples

    @property
    def folder(self) -> Path:
        return self.images.folder

    @property
    def name(self) -> str:
        """Name of the images' journals in the cache."""
        place = self.digest_all() if self.arrays else str(self.folder.resolve())
        return f"images-{digest_of(place)[:16]}"

    def digest_all(self) -> str:
        """Return a digest of the images and their order."""
        return digest_of([content.digest for content in self.contents])

    def digest(self, sample: PlannedSample) -> str:
        """Digest of the sample's pixels as they were read."""
        return self._places[sample.prompt.id, sample.index][1].digest

    def pixels(self, sample: PlannedSample) -> np.ndarray:
        """uint8 RGB [H, W, 3]. SoarBenchError if the file has changed since it was read."""
        file, content = self._places[sample.prompt.id, sample.index]
        image = self.arrays[int(file.name)] if self.arrays else read_pixels(file)[0]
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
        kinds = ", ".join(sorted({content.format for content in self.contents}))
        sizes = {content.size for content in self.contents}
        size = sizes.pop() if len(sizes) == 1 else f"{len(sizes)} sizes"
        yield (
            f"{self.label} on {self.suite}: {len(self.samples)} images ({kinds}, {size}) of "
            f"{len(self.images.prompts)} prompts ({self.images.layout})"
        )
        counts = Counter(sample.prompt.id for sample in self.samples).values()
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
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("prompt_id", "index", "file", "image"))
        writer.writerows(
            (csv_text(s.prompt.id), s.index, csv_text(file), c.digest)
            for s, file, c in self._rows()
        )
        write_text(folder / FILES_FILE, text.getvalue())

    def _rows(self) -> Iterator[tuple[PlannedSample, str, Content]]:
        return zip(self.samples, self.images.files, self.contents, strict=True)

    @cached_property
    def _places(self) -> dict[tuple[str, int], tuple[Path, Content]]:
        return {
            (sample.prompt.id, sample.index): (self.folder / file, content)
            for sample, file, content in self._rows()
        }


def _opened(
    images: Any, prompts: Any, metadata: Any
) -> tuple[FolderImages, tuple[np.ndarray, ...]]:
    """The images with their prompts, and the pixels of those in memory, by position."""
    if isinstance(images, str | Path):
        if metadata is not None:
            raise SoarBenchError("metadata of images in a folder stand in its list of prompts")
        return open_folder(Path(images), None if prompts is None else Path(prompts)), ()
    if prompts is None:
        raise SoarBenchError("images that are not in a folder need prompts: give one for each")
    arrays: tuple[np.ndarray, ...] = ()
    if isinstance(images, Sequence) and all(isinstance(i, str | Path) for i in images):
        files = [Path.cwd() / file for file in images]
        folder = Path(os.path.commonpath([file.parent for file in files])) if files else Path()
        layout, names = "a list of files", [f.relative_to(folder).as_posix() for f in files]
        texts, records = for_each(prompts, metadata, len(files))
    else:
        samples = to_samples(images, prompts, metadata)
        arrays = tuple(sample.image for sample in samples)
        folder, layout, names = Path(IN_MEMORY), "in memory", list(map(str, range(len(samples))))
        texts, records = [s.prompt for s in samples], [s.metadata for s in samples]
    if not names:
        raise SoarBenchError("there are no images to score")
    return listed_images(folder, layout, names, texts, records), arrays


def _read_all(files: Sequence[Path], observe: Callable[[int, int], None]) -> tuple[Content, ...]:
    contents: list[Content] = []
    faults: list[str] = []
    for done, content in enumerate(in_threads(_read, files, _READERS), start=1):
        if isinstance(content, Content):
            contents.append(content)
        else:
            faults.append(content)
        observe(done, len(files))
    if len(faults) == 1:
        raise SoarBenchError(faults[0])
    if faults:
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise SoarBenchError(
            f"{len(faults)} images cannot be scored: {'; '.join(faults[:_SHOWN])}{more}"
        )
    return tuple(contents)


def _read(file: Path) -> Content | str:
    """Return the facts of an image, or why it cannot be scored."""
    try:
        return _content(*read_pixels(file))
    except SoarBenchError as error:
        return str(error)


def _content(image: np.ndarray, kind: str) -> Content:
    return Content(digest_image(image), kind, f"{image.shape[1]}x{image.shape[0]}")

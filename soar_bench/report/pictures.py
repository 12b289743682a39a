"""The gallery's images: read, checked against the record, and written beside the page.

An image is shown only if its pixels have the digest that the record names. One that is not there,
is damaged or is another image is missing, with the reason.
"""

from __future__ import annotations

import csv
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from soar_bench.core.errors import SoarBenchError
from soar_bench.core.images import digest_image, read_pixels
from soar_bench.core.text import from_csv
from soar_bench.core.threads import in_threads
from soar_bench.records import Run
from soar_bench.records.delete import store_of
from soar_bench.scoring.images import FILES_FILE
from soar_bench.suites.types import PlannedSample

#: Images up to this side are their own thumbnails, in pixels.
THUMBNAIL = 256
#: Of WebP, from 0 to 100, for thumbnails and for images at full size.
_THUMBNAIL_QUALITY, _FULL_QUALITY = 80, 92
FOLDER = "images"
_READERS = 8

#: Why an image is not shown.
LEFT_OUT = "left out: the report was made with fewer images (--max-images)"
_OTHER = "what is there is damaged or another image than the one that was scored"


class Picture(NamedTuple):
    """An image beside the page, by its names inside :data:`FOLDER`."""

    thumbnail: str
    full: str
    width: int
    height: int


@dataclass(frozen=True)
class Wanted:
    """An image that the gallery asks for."""

    #: number of the run and of the sample in its board
    run: int
    sample: int
    #: the digest of its pixels, as the record has it
    digest: str
    #: reads it; None if it is damaged, SoarBenchError that says why if it is not there
    read: Callable[[], np.ndarray | None]


@dataclass
class Shelf:
    """Writes images into a report's folder, each once."""

    folder: Path
    #: full-size images as PNG rather than WebP where they have no thumbnail's size
    lossless: bool = False
    #: where the images of each digest are, or why they are missing
    placed: dict[str, Picture | str] = field(default_factory=dict)

    def place(
        self, images: Sequence[Wanted], observe: Callable[[int, int], None]
    ) -> list[Picture | str]:
        """Return where each image is, or why it is missing."""
        by_digest: dict[str, list[Wanted]] = {}
        for image in images:
            if image.digest not in self.placed:
                by_digest.setdefault(image.digest, []).append(image)
        (self.folder / FOLDER).mkdir(exist_ok=True)
        pictures = in_threads(self._place, list(by_digest.values()), _READERS)
        for done, (digest, picture) in enumerate(zip(by_digest, pictures, strict=True), start=1):
            self.placed[digest] = picture
            observe(done, len(by_digest))
        return [self.placed[image.digest] for image in images]

    def _place(self, same: Sequence[Wanted]) -> Picture | str:
        """Write the first of images with one digest that is there; or return why none is."""
        reasons = []
        for image in same:
            try:
                pixels = image.read()
            except SoarBenchError as reason:
                reasons.append(str(reason))
                continue
            if pixels is not None and digest_image(pixels) == image.digest:
                return self._write(pixels, image.digest)
            reasons.append(_OTHER)
        return reasons[0]

    def _write(self, image: np.ndarray, digest: str) -> Picture:
        height, width = image.shape[:2]
        name = digest[:24]
        picture = Image.fromarray(image)
        if max(width, height) <= THUMBNAIL:
            file = self._save(picture, f"{name}.png")
            return Picture(file, file, width, height)
        if self.lossless:
            full = self._save(picture, f"{name}.png")
        else:
            full = self._save(picture, f"{name}.webp", quality=_FULL_QUALITY)
        picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
        small = self._save(picture, f"{name}-small.webp", quality=_THUMBNAIL_QUALITY)
        return Picture(small, full, width, height)

    def _save(self, image: Image.Image, name: str, quality: int | None = None) -> str:
        options = {} if quality is None else {"quality": quality}
        image.save(self.folder / FOLDER / name, None, **options)
        return name


def reader_of(run: Run, cache: Path) -> Callable[[PlannedSample], Callable[[], np.ndarray | None]]:
    """Return how each sample of a run is read: from the cache, or where its images were scored."""
    store = store_of(run, cache)
    tool, place = run.record.checkpoint.tool, Path(run.record.checkpoint.name)
    files = {} if store is not None else dict(_files(run))

    def read(sample: PlannedSample) -> np.ndarray | None:
        if store is not None:
            if not store.file(sample).exists():
                raise SoarBenchError(f"not in {cache}")
            return store.read(sample)
        if tool:
            raise SoarBenchError(f"{tool} gave its scores without images")
        name = files.get((sample.prompt.id, sample.index))
        if name is None:
            raise SoarBenchError(f"{run.folder / FILES_FILE} does not say which file it is")
        return read_pixels(place / name)[0]

    return lambda sample: partial(read, sample)


def _files(run: Run) -> Iterator[tuple[tuple[str, int], str]]:
    """Yield each sample with its file, by files.csv; nothing where there is none."""
    file = run.folder / FILES_FILE
    if not file.is_file():
        return
    with file.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            try:
                prompt, file_name = from_csv(str(row["prompt_id"])), from_csv(str(row["file"]))
                yield (prompt, int(row["index"])), file_name
            except (KeyError, TypeError, ValueError):
                raise SoarBenchError(f"{file} is damaged: score that folder again") from None


def command(run: Run, cache: Path) -> str:
    """Return the command that makes a run's images again; empty where none were ever here."""
    checkpoint, suite = run.record.checkpoint, run.record.suite
    evaluators = run.record.evaluators.values()
    names = ",".join(evaluator.given for evaluator in evaluators)
    if run.imported and checkpoint.tool:
        return ""
    if run.imported:
        words = ["soar-bench", "score", checkpoint.name, "--evaluators", names]
        return shlex.join([*words, "--label", run.label, "--suite", suite.name])
    name = checkpoint.name
    if checkpoint.revision:
        name = f"{name.partition('@')[0]}@{checkpoint.revision}"
    words = ["soar-bench", "eval", name]
    if checkpoint.base:
        words += ["--base", checkpoint.base.name]
    words += ["--suite", suite.source or suite.name, "--protocol", run.record.protocol.name]
    words += ["--images", str(suite.images_per_prompt), "--seed", str(suite.seed)]
    words += ["--evaluators", names, "--cache", str(cache)]
    precisions = [dtype for e in evaluators if (dtype := e.identity.get("dtype"))]
    return shlex.join(words + (["--evaluator-dtype", precisions[0]] if precisions else []))

"""``soar-bench score``: images from anywhere, scored into the record that ``eval`` writes.

How the images were made is not known here, so their runs stand on boards of their own.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from evaluators import registry
from soar_bench.core.devices import choose
from soar_bench.core.digests import digest_of
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.files import replace_atomically
from soar_bench.core.images import READING, digest_image, read_pixels
from soar_bench.evaluate import distinct, make_folders
from soar_bench.records import IMAGES, IMPORTED, Run, folder_of, write_run
from soar_bench.records.provenance import made_by
from soar_bench.scoring import Judge, sample_key
from soar_bench.scoring.folders import Images, open_folder
from soar_bench.scoring.judging import Observer, judge, summary, table
from soar_bench.suites.types import PlannedSample

#: In the place of the settings of generation, so that a comparison with generated runs is refused.
PROTOCOL: dict[str, Any] = {
    "name": "images",
    "settings": {"images": "scored, not made here", "reading": READING},
}
#: Beside the record: which file each sample was.
FILES_FILE = "files.csv"
_READERS = 8
_SHOWN = 5


@dataclass(frozen=True)
class Options:
    """What to score and how; batch size and device change no number beyond rounding, and
    the evaluators' precision is recorded.
    """

    evaluators: tuple[str, ...]
    results: Path
    #: where scores are kept between runs
    cache: Path
    #: a list of files and prompts, where the folder does not hold one
    prompts: Path | None = None
    #: what tables call the images; by default the folder's name
    label: str | None = None
    #: what the prompts are called; by default after their digest
    suite: str | None = None
    batch_size: int = 32
    device: str = "cpu"
    #: precision of the evaluators that have a choice; None is their own, float32
    evaluator_dtype: str | None = None


@dataclass(frozen=True)
class _Found:
    """What reading a file through found."""

    digest: str
    format: str
    #: ``WIDTHxHEIGHT``
    size: str


@dataclass(frozen=True)
class Work:
    """Images, all of them read and checked, ready to score."""

    label: str
    suite: str
    images: Images
    evaluators: tuple[str, ...]
    found: tuple[_Found, ...]
    #: names the images' journals in the cache
    journal: str
    #: by evaluator: how many samples have no score yet
    missing: dict[str, int] = field(default_factory=dict)

    def describe(self) -> list[str]:
        """The plan in sentences, for a person."""
        images = self.images
        kinds = sorted({one.format for one in self.found})
        sizes = sorted({one.size for one in self.found})
        size = sizes[0] if len(sizes) == 1 else f"{len(sizes)} sizes"
        lines = [
            f"{self.label} on {self.suite}: {len(images.samples)} images ({', '.join(kinds)}, "
            f"{size}) of {len(images.prompts)} prompts ({images.layout})"
        ]
        counts = Counter(sample.prompt.id for sample in images.samples).values()
        if min(counts) != max(counts):
            lines.append(
                f"note: prompts have {min(counts)} to {max(counts)} images, so they do not count "
                "equally in a mean over images"
            )
        repeated = len(self.found) - len({one.digest for one in self.found})
        if repeated:
            lines.append(f"note: {repeated} images have the same pixels as another")
        for name, count in self.missing.items():
            lines.append(f"{name}: {count} of {len(images.samples)} images to score")
        return lines


def prepare(
    folder: Path, options: Options, observe: Observer = lambda stage, done, total: None
) -> Work:
    """Checks everything that can be checked before scoring, and reads every image through."""
    if not options.evaluators:
        raise SoarBenchError(
            f"name what is to judge with --evaluators (known: {', '.join(registry.names())})"
        )
    evaluators = distinct(options.evaluators)
    for name in evaluators:
        registry.create(name).check()
    choose(options.device)
    images = open_folder(folder, options.prompts)
    make_folders(options.results, options.cache)
    found = _read_all(
        [folder / file for file in images.files], lambda done, all: observe("read", done, all)
    )
    place = folder.resolve()
    work = Work(
        label=options.label or place.name or "images",
        suite=options.suite or f"prompts-{images.digest()[:8]}",
        images=images,
        evaluators=evaluators,
        found=found,
        journal=f"images-{digest_of(str(place))[:16]}",
    )
    for given in evaluators:
        evaluator = registry.create(given)
        seat = Judge.of(evaluator, options.evaluator_dtype, options.cache, work.journal)
        work.missing[evaluator.name] = sum(
            seat.journal.get(sample_key(sample, one.digest)) is None
            for sample, one in zip(images.samples, found, strict=True)
        )
    return work


def _read_all(files: Sequence[Path], observe: Callable[[int, int], None]) -> tuple[_Found, ...]:
    """Reads every file; SoarBenchError names those that cannot be scored."""
    found: list[_Found] = []
    wrong: list[str] = []
    with ThreadPoolExecutor(min(_READERS, os.cpu_count() or 1)) as pool:
        try:
            for done, one in enumerate(pool.map(_read, files), start=1):
                if isinstance(one, _Found):
                    found.append(one)
                else:
                    wrong.append(one)
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
    return tuple(found)


def _read(file: Path) -> _Found | str:
    """What a file holds, or what is wrong with it."""
    try:
        image, kind = read_pixels(file)
    except SoarBenchError as error:
        return str(error)
    return _Found(digest_image(image), kind, f"{image.shape[1]}x{image.shape[0]}")


def run(work: Work, options: Options, observe: Observer = lambda stage, done, total: None) -> Run:
    """Scores what is missing, and writes the record."""
    started = datetime.now(UTC)
    judged = judge(
        work.evaluators,
        work.images.samples,
        _Checked(work),
        options.cache,
        work.journal,
        batch_size=options.batch_size,
        device=choose(options.device),
        dtype=options.evaluator_dtype,
        observe=observe,
    )
    scores = table(work.images.samples, judged, lambda sample: "")
    record = {
        "checkpoint": {
            "label": work.label,
            "name": str(work.images.folder),
            "form": IMAGES,
            "base": None,
            "revision": "",
            "digest": digest_of([one.digest for one in work.found]),
            "story": {
                IMPORTED: {
                    "layout": work.images.layout,
                    "formats": dict(Counter(one.format for one in work.found)),
                    "sizes": dict(Counter(one.size for one in work.found)),
                }
            },
        },
        "suite": {
            "name": work.suite,
            "digest": work.images.digest(),
            "seed": None,
            "prompts": len(work.images.prompts),
            "images_per_prompt": _images_per_prompt(work.images),
            "source": "",
        },
        "protocol": PROTOCOL,
        "evaluators": judged.declared,
        "metrics": summary(judged, scores),
        "made": {
            **made_by(started, judged.seconds, choose(options.device)),
            "generated": 0,
            "scored": judged.scored,
            "failed": judged.failed,
            "processes": 1,
            "batch_size": options.batch_size,
        },
    }
    _write_files(folder_of(options.results, record) / FILES_FILE, work)
    return write_run(options.results, record, scores)


def reasons(run: Run) -> list[str]:
    """Why samples are unscored, in sentences, the most frequent reasons first."""
    lines = []
    for metric, scores in run.scores().groupby("metric", sort=False):
        counts = Counter(reason for reason in scores["unscored"] if reason)
        for reason, count in counts.most_common(_SHOWN):
            lines.append(f"{metric}: {count} unscored: {reason}")
    return lines


class _Checked:
    """The images as they were when they were checked."""

    def __init__(self, work: Work) -> None:
        self._files = {
            (sample.prompt.id, sample.index): (work.images.folder / file, one.digest)
            for sample, file, one in zip(
                work.images.samples, work.images.files, work.found, strict=True
            )
        }

    def digest(self, sample: PlannedSample) -> str:
        return self._files[sample.prompt.id, sample.index][1]

    def pixels(self, sample: PlannedSample) -> np.ndarray:
        file, digest = self._files[sample.prompt.id, sample.index]
        image, _ = read_pixels(file)
        if digest_image(image) != digest:
            raise SoarBenchError(
                f"{file} was changed while the images were scored: run the same command again"
            )
        return image


def _images_per_prompt(images: Images) -> float:
    """A whole number, or the mean where prompts have different numbers of images."""
    count, rest = divmod(len(images.samples), len(images.prompts))
    return round(len(images.samples) / len(images.prompts), 4) if rest else count


def _write_files(target: Path, work: Work) -> None:
    with replace_atomically(target) as aside, aside.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(("prompt_id", "index", "file", "image"))
        for sample, file, one in zip(
            work.images.samples, work.images.files, work.found, strict=True
        ):
            writer.writerow((sample.prompt.id, sample.index, file, one.digest))

"""Read every record before the first step, so that a broken one is not met on the way.

The findings are kept beside the encodings, in one file per some thousand records that is named by
their content: a data set is decoded once, by all processes together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from soar_bench.core.text import parse_json
from soar_bench.core.threads import in_threads
from training.cache import ALONE, Cache, Processes, write_json
from training.data.records import Fault, Listing, Source, refuse, size_of
from training.types import Images

#: Records per file of findings.
PART = 2048
#: Raised when other images are broken.
_READING = 2

Progress = Callable[[int, int], None]


@dataclass
class Findings:
    """Findings of reading every record of a listing."""

    #: width and height of each image, int [N, 2]; 0 where it is broken
    sizes: np.ndarray
    #: by the record's number
    faults: dict[int, Fault] = field(default_factory=dict)


def inspect(
    listing: Listing,
    cache: Cache | None = None,
    processes: Processes = ALONE,
    progress: Progress | None = None,
) -> Findings:
    """Decode every image in threads.

    With a cache each content is decoded only once, and the processes share the work. Without one
    each process reads everything.
    """
    count = len(listing)
    parts = [range(start, min(start + PART, count)) for start in range(0, count, PART)]

    def look(part: range) -> list[list[int] | str]:
        results = list(in_threads(lambda index: _look(listing, index), part))
        if progress is not None:
            progress(part.stop, count)
        return results

    if cache is None:
        return _gather(listing, parts, [look(part) for part in parts])
    files = [cache.file("checked", [_READING, *map(listing.key, part)], "json") for part in parts]
    for number in processes.share(len(parts)):
        if _read(files[number], parts[number]) is None:
            write_json(files[number], look(parts[number]))
    processes.wait()
    # A part is absent if the processes do not share the disk: then it is read here as well.
    results = [_read(file, part) or look(part) for file, part in zip(files, parts, strict=True)]
    return _gather(listing, parts, results)


def _look(listing: Listing, index: int) -> list[int] | str:
    """Return width and height of the image, or why it is broken."""
    image = listing.decode(index)
    return image if isinstance(image, str) else [image.shape[1], image.shape[0]]


def _read(file: Path, part: range) -> list[list[int] | str] | None:
    try:
        content = parse_json(file.read_text("utf-8"))
    except (FileNotFoundError, ValueError):  # not made yet, or damaged and made again
        return None
    return content if isinstance(content, list) and len(content) == len(part) else None


def _gather(listing: Listing, parts: list[range], results: list[list[list[int] | str]]) -> Findings:
    findings = Findings(np.zeros((len(listing), 2), np.int64))
    for part, part_results in zip(parts, results, strict=True):
        for index, result in zip(part, part_results, strict=True):
            if isinstance(result, str):
                findings.faults[index] = listing.broken(index, result)
            else:
                findings.sizes[index] = result
    return findings


@dataclass(frozen=True)
class Checked:
    """A source without broken records."""

    source: Source
    #: width and height of each image, int [N, 2]; None if no record was read
    sizes: np.ndarray | None = None
    #: records left out because they are broken
    dropped: int = 0


def check(
    source: Source,
    images: Images,
    cache: Cache | None = None,
    processes: Processes = ALONE,
    progress: Progress | None = None,
) -> Checked:
    """Read every record. TrainingError if one is broken, unless broken ones are dropped."""
    if not isinstance(source, Listing):
        if not images.buckets:
            return Checked(source)
        return Checked(source, np.array([size_of(source, i) for i in range(len(source))]))
    findings = inspect(source, cache, processes, progress)
    faults = list(findings.faults.values())
    refuse(faults, source.name, images.on_broken)
    sizes = findings.sizes
    if faults:
        source = source.without(findings.faults, faults)
        sizes = np.delete(sizes, list(findings.faults), axis=0)
    return Checked(source, sizes, len(source.faults))

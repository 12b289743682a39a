"""Webdataset tars: the image and the caption of a sample are members of one name.

Only images, ``.txt`` and ``.json`` members are read; nothing is unpacked to disk, and no other
member is opened, a pickle least of all. Tars are indexed once, so that samples have numbers and can
be read in any order.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from soar_bench.core.text import is_unicode
from training.data.records import Fault, FileSlice, Record
from training.types import Images, TrainingError

ENDINGS = ("jpg", "jpeg", "png", "webp")
#: Keys of a ``.json`` member that may hold the caption; the first with a text counts.
CAPTION_KEYS = ("caption", "text", "caption_en", "prompt")
_RANGE = re.compile(r"\{([0-9]{1,9})\.\.([0-9]{1,9})\}")
#: A range of more files is a mistake.
_MAX_FILES = 1_000_000


def expand(name: str) -> list[Path]:
    """Return the files of a range: ten of ``a-{000..009}.tar``. TrainingError if one is missing."""
    names = [name]
    while match := _RANGE.search(names[0]):
        first, last = match.groups()
        if int(last) < int(first):
            raise TrainingError(f"{name!r} counts from {first} down to {last}")
        if (int(last) - int(first) + 1) * len(names) > _MAX_FILES:
            raise TrainingError(f"{name!r} names more than {_MAX_FILES:,} files")
        span = [str(n).zfill(len(first)) for n in range(int(first), int(last) + 1)]
        names = [n[: match.start()] + s + n[match.end() :] for n in names for s in span]
    files = [Path(n) for n in names]
    if missing := [str(f) for f in files if not f.is_file()]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise TrainingError(f"there is no training data {missing[0]!r}{more}")
    return files


def read_tars(files: Sequence[Path], images: Images) -> Iterator[Record | Fault]:
    """Yield records in the order of files and of the images in them."""
    for file in files:
        yield from _read(file, images)


def _read(file: Path, images: Images) -> Iterator[Record | Fault]:
    samples: dict[str, dict[str, tarfile.TarInfo]] = {}
    faults: list[Fault] = []
    try:
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                stem, ending = _split(member.name)
                if not ending or member.isdir():
                    continue
                where = f"{file}, member {member.name}"
                if not member.isreg() or member.issparse():
                    words = "is a link, a device or sparse, not a plain file: pack it as one"
                    faults.append(Fault(where, words))
                elif ending in samples.setdefault(stem, {}):
                    faults.append(Fault(where, "is there twice"))
                else:
                    samples[stem][ending] = member
            yield from faults
            for stem, members in samples.items():
                yield from _sample(tar, file, stem, members, images)
    except (tarfile.TarError, EOFError, ValueError, OverflowError, OSError, MemoryError) as error:
        raise TrainingError(
            f"{file} is not a whole, uncompressed tar file ({error}): fetch it again or unpack it"
        ) from None


def _split(name: str) -> tuple[str, str]:
    """Split at the file's first dot: ``dir/a.b.jpg`` is (``dir/a``, ``b.jpg``)."""
    path = PurePosixPath(name)
    stem, _, ending = path.name.partition(".")
    return (str(path.parent / stem), ending.lower()) if stem else (name, "")


def _sample(
    tar: tarfile.TarFile, file: Path, stem: str, members: dict[str, tarfile.TarInfo], images: Images
) -> Iterator[Record | Fault]:
    where = f"{file}, sample {stem}"
    endings = (images.image,) if images.image else ENDINGS
    image = next((members[e] for e in endings if e in members), None)
    if image is None:
        dotted = next((e for e in members if e.rpartition(".")[2] in endings), None)
        more = f": a name ends at its first dot, so {dotted!r} is an ending; rename it"
        yield Fault(where, f"has no image ({', '.join(endings)}){more if dotted else ''}")
        return
    caption = _caption(tar, where, members, images)
    if isinstance(caption, Fault):
        yield caption
    else:
        yield Record(where, image.name, FileSlice(file, image.offset_data, image.size), caption)


def _caption(
    tar: tarfile.TarFile, where: str, members: dict[str, tarfile.TarInfo], images: Images
) -> str | Fault:
    if "txt" in members and images.caption in ("", "txt"):
        text = _text(tar, where, members["txt"])
        if text or images.caption or "json" not in members:
            return text
    if "json" not in members:
        return Fault(where, "has no caption (.txt or .json)")
    text = _text(tar, where, members["json"])
    if isinstance(text, Fault):
        return text
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Fault(where, f"has a .json that is not JSON: {error}")
    keys = (images.caption,) if images.caption else CAPTION_KEYS
    texts = [content[k] for k in keys if k in content] if isinstance(content, dict) else []
    caption = next(filter(None, texts), "" if "" in texts else None)
    if not is_unicode(caption):
        return Fault(where, f"has a .json without a text under {' or '.join(keys)}")
    return str(caption)


def _text(tar: tarfile.TarFile, where: str, member: tarfile.TarInfo) -> str | Fault:
    stream = tar.extractfile(member)
    assert stream is not None  # it is a regular file
    try:
        return stream.read().decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        return Fault(where, f"has a {member.name} that is not UTF-8 text: {error}")
